//! The schema: numbered migrations, and how a connection is set up.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::super::error::StoreError;
use super::database;

/// Marks a SQLite file as one of ours (`PRAGMA application_id`): "swp1".
const APPLICATION: i32 = 0x7377_7031;

/// Migration `n` brings schema `n` to `n + 1`. Never changed once released.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

/// Bytes of a page. Identities are uniform, so a commit of n results touches
/// about n pages of the index: smaller pages write less. Below this the
/// gain is small and long rows suffer.
const PAGE: u32 = 2048;

/// Pages of log before they are moved into the database: 64 MiB, so that a
/// page of the index is moved once for many commits.
const CHECKPOINT: u32 = 32_768;

/// Opens the database for writing, creates or migrates it.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let mut connection =
        Connection::open(path).map_err(|error| database("open the database", &error))?;
    let (application, found) = identity(&connection, path)?;
    if found == 0 && application == 0 && is_empty(&connection)? {
        connection
            .pragma_update(None, "page_size", PAGE)
            .map_err(|error| database("set up the database", &error))?;
    } else if application != APPLICATION {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
        });
    }
    let known = MIGRATIONS.len() as u32;
    if found > known {
        return Err(StoreError::NewerSchema {
            path: path.to_owned(),
            found,
            known,
        });
    }
    set_up(&connection)?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let migrate = |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(migration)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", number as u32 + 1)?;
            transaction.commit()
        };
        migrate(&mut connection).map_err(|error| database("migrate the database", &error))?;
    }
    Ok(connection)
}

/// Opens the database for reading beside a writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| database("open the database for reading", &error))?;
    let prepare = || {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "cache_size", -8192)
    };
    prepare().map_err(|error| database("set up a reader", &error))?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<(), StoreError> {
    let apply = || {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        // A commit returns when it is on the disk.
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT)?;
        // Kibibytes. The system has the rest of the file in memory.
        connection.pragma_update(None, "cache_size", -16_384)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(())
    };
    apply().map_err(|error: rusqlite::Error| database("set up the database", &error))
}

fn identity(connection: &Connection, path: &Path) -> Result<(i32, u32), StoreError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || Ok((number("application_id")?, number("user_version")?));
    match read() {
        Ok((application, version)) => Ok((application as i32, version as u32)),
        Err(rusqlite::Error::SqliteFailure(error, _))
            if error.code == rusqlite::ErrorCode::NotADatabase =>
        {
            Err(StoreError::Foreign {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(database("read the schema", &error)),
    }
}

fn is_empty(connection: &Connection) -> Result<bool, StoreError> {
    connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
            row.get(0)
        })
        .map_err(|error| database("read the schema", &error))
}
