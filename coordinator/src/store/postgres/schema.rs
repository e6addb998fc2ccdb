//! The schema, the lock and the epoch: who may write, and into what.

use std::path::PathBuf;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::super::address::PostgresUrl;
use super::super::error::{Owner, StoreError};
use super::super::{Chain, Identity};
use super::session::{Session, database};
use super::{text, unix_millis};

/// Migration `n` brings schema `n` to `n + 1`. Never changed once released.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

/// The advisory lock that the leader's session holds: "swp1", and the lock's number.
const LOCK: (i32, i32) = (0x7377_7031, 1);

/// What the database says before anything is claimed.
///
/// # Errors
/// [`StoreError::NewerSchema`], [`StoreError::Foreign`].
pub(super) async fn check(client: &Client, url: &PostgresUrl) -> Result<u32, StoreError> {
    let failed = |error| database("read the schema", &error);
    let row = client
        .query_one(
            "SELECT to_regnamespace('sweeps') IS NOT NULL, \
             to_regclass('sweeps.schema_version') IS NOT NULL",
            &[],
        )
        .await
        .map_err(failed)?;
    let path = || PathBuf::from(url.to_string());
    let found = match (row.get(0), row.get(1)) {
        (_, true) => {
            let row = client
                .query_opt("SELECT version FROM sweeps.schema_version", &[])
                .await
                .map_err(failed)?;
            row.map_or(0, |row| row.get::<_, i64>(0))
        }
        // A schema of our name that we did not make.
        (true, false) => return Err(StoreError::Foreign { path: path() }),
        (false, _) => 0,
    };
    let known = MIGRATIONS.len() as u32;
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if found > known {
        let path = path();
        return Err(StoreError::NewerSchema { path, found, known });
    }
    Ok(found)
}

/// Takes the leader's lock if it is free. It lasts as long as the session.
pub(super) async fn try_lock(client: &Client) -> Result<bool, StoreError> {
    let locked = client
        .query_typed(
            "SELECT pg_try_advisory_lock($1, $2)",
            &[(&LOCK.0, Type::INT4), (&LOCK.1, Type::INT4)],
        )
        .await
        .map_err(|error| database("lock the store", &error))?;
    Ok(locked.first().is_some_and(|row| row.get(0)))
}

/// Gives the lock back while the session goes on; an error means that the session has ended, and
/// the lock with it.
pub(super) async fn unlock(client: &Client) {
    let values = [(&LOCK.0 as _, Type::INT4), (&LOCK.1 as _, Type::INT4)];
    let _ = client
        .query_typed("SELECT pg_advisory_unlock($1, $2)", &values)
        .await;
}

/// Whoever claimed the last epoch.
pub(super) async fn last_owner(client: &Client) -> Result<Owner, StoreError> {
    let failed = |error| database("read who leads", &error);
    let there = client
        .query_one("SELECT to_regclass('sweeps.epochs') IS NOT NULL", &[])
        .await
        .map_err(failed)?;
    if !there.get::<_, bool>(0) {
        // The leader has the lock and is still making the tables.
        return Ok(Owner::default());
    }
    let row = client
        .query_opt(
            "SELECT pid, host, listen, started_at FROM sweeps.epochs ORDER BY epoch DESC LIMIT 1",
            &[],
        )
        .await
        .map_err(failed)?;
    Ok(row.map_or_else(Owner::default, |row| Owner {
        pid: u32::try_from(row.get::<_, i64>(0)).unwrap_or(0),
        host: row.get(1),
        listen: row.get::<_, Option<String>>(2).filter(|a| !a.is_empty()),
        since: row.get::<_, i64>(3) as u64,
    }))
}

/// Brings the schema up to date; only for whoever holds the lock.
pub(super) async fn migrate(client: &mut Client, found: u32) -> Result<(), StoreError> {
    migrate_by(client, found, MIGRATIONS).await
}

async fn migrate_by(client: &mut Client, found: u32, steps: &[&str]) -> Result<(), StoreError> {
    for (number, step) in steps.iter().enumerate().skip(found as usize) {
        let migrate = async {
            let transaction = client.transaction().await?;
            transaction
                .batch_execute("CREATE SCHEMA IF NOT EXISTS sweeps; SET LOCAL search_path = sweeps")
                .await?;
            transaction.batch_execute(step).await?;
            let version = number as i64 + 1;
            transaction
                .batch_execute(&format!(
                    "DELETE FROM schema_version; INSERT INTO schema_version VALUES ({version})"
                ))
                .await?;
            transaction.commit().await
        };
        migrate
            .await
            .map_err(|error| database("migrate the database", &error))?;
    }
    Ok(())
}

/// Claims the next epoch and tells whether the last coordinator before was reachable from elsewhere.
///
/// Waits for a transaction of the epoch before that is on its way; the next one finds itself
/// deposed.
pub(super) async fn claim_epoch(
    client: &mut Client,
    identity: &Identity,
) -> Result<(u32, bool), StoreError> {
    let claim = async {
        let transaction = client.transaction().await?;
        let row = transaction
            .query_one("UPDATE leader SET epoch = epoch + 1 RETURNING epoch", &[])
            .await?;
        let epoch: i64 = row.get(0);
        let before = transaction
            .query_opt(
                "SELECT listen IS NOT NULL FROM epochs WHERE listen IS DISTINCT FROM '' \
                 ORDER BY epoch DESC LIMIT 1",
                &[],
            )
            .await?;
        transaction
            .execute(
                "INSERT INTO epochs (epoch, host, pid, program_version, listen, started_at) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
                &[
                    &epoch,
                    &text(&identity.host),
                    &i64::from(std::process::id()),
                    &text(&identity.program_version),
                    &identity.listens().map(text),
                    &(unix_millis() as i64),
                ],
            )
            .await?;
        transaction.commit().await?;
        Ok((epoch as u32, before.is_some_and(|row| row.get(0))))
    };
    claim
        .await
        .map_err(|error| database("claim an epoch", &error))
}

/// The epoch that may write.
pub(super) async fn current_epoch(client: &Client) -> Result<u32, StoreError> {
    let row = client
        .query_one("SELECT epoch FROM sweeps.leader", &[])
        .await
        .map_err(|error| database("read who leads", &error))?;
    Ok(row.get::<_, i64>(0) as u32)
}

/// The last link of the chain over the results.
pub(super) async fn chain(client: &Client) -> Result<Chain, StoreError> {
    let row = client
        .query_opt(
            "SELECT last_result, link FROM links ORDER BY last_result DESC LIMIT 1",
            &[],
        )
        .await
        .map_err(|error| database("read the chain of results", &error))?;
    row.as_ref().map_or(Ok(Chain::default()), link)
}

/// The chain as it was after each commit.
pub(super) async fn links(client: &Client) -> Result<Vec<Chain>, StoreError> {
    let sql = "SELECT last_result, link FROM links ORDER BY last_result";
    let rows = client
        .query_typed(sql, &[])
        .await
        .map_err(|error| database("read the chain of results", &error))?;
    rows.iter().map(link).collect()
}

/// A row of `links`.
fn link(row: &Row) -> Result<Chain, StoreError> {
    let head: &[u8] = row.get(1);
    let head = head.try_into().map_err(|_| StoreError::Damaged {
        what: format!("a link of {} bytes in the chain of results", head.len()),
    })?;
    Ok(Chain {
        results: row.get::<_, i64>(0) as u64,
        head,
    })
}

/// Says in the log what the server's settings cost.
pub(super) async fn warn_of_settings(session: &Session) {
    let asked = session.client.query_one("SHOW fsync", &[]).await;
    if asked.is_ok_and(|row| row.get::<_, &str>(0) == "off") {
        tracing::warn!("the database runs with fsync=off: a power cut can lose what was recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::PostgresServer;

    const NEXT: &str = "ALTER TABLE workers ADD COLUMN colour text NOT NULL DEFAULT 'grey'";

    #[test]
    fn an_older_schema_is_migrated_step_by_step_and_a_step_that_fails_leaves_it_as_it_was() {
        let Some(server) = PostgresServer::shared() else {
            return;
        };
        let address = server.database();
        let url: PostgresUrl = address.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut session = Session::open(&url, "test").await.unwrap();
            assert_eq!(check(&session.client, &url).await.unwrap(), 0);
            migrate_by(&mut session.client, 0, MIGRATIONS)
                .await
                .unwrap();
            assert_eq!(check(&session.client, &url).await.unwrap(), 1);
            let steps = [MIGRATIONS[0], NEXT];
            let failing = [MIGRATIONS[0], NEXT, "ALTER TABLE chimneys ADD COLUMN x int"];
            let error = migrate_by(&mut session.client, 1, &failing)
                .await
                .unwrap_err();
            assert!(error.to_string().contains("chimneys"), "{error}");
            // The first of the two steps is done, and is not done again.
            let error = check(&session.client, &url).await.unwrap_err();
            assert!(matches!(
                error,
                StoreError::NewerSchema {
                    found: 2,
                    known: 1,
                    ..
                }
            ));
            migrate_by(&mut session.client, 2, &steps).await.unwrap();
            let row = session
                .client
                .query_one("SELECT count(colour) FROM workers", &[])
                .await;
            assert_eq!(row.unwrap().get::<_, i64>(0), 0);
        });
    }
}
