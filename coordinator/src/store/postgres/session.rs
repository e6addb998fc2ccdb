//! A connection to the database: made, set up, noticed when it ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::address::{PostgresUrl, Tls, causes};
use super::super::error::StoreError;

/// Time to make a connection to one address.
const CONNECT: Duration = Duration::from_secs(5);
/// Time that something sent may stay unconfirmed by the other machine.
const UNCONFIRMED: Duration = Duration::from_secs(6);
/// Files with the certificates that a system trusts: Debian, Fedora, Alpine, SUSE.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// What every session sets. The server notices within 5 s (2 s of silence, three unanswered
/// questions) that this machine is gone, and gives its lock to a standby; a commit returns when
/// it is on the disk, whatever the server's own setting. A setting that the server does not know
/// is passed over.
const SET_UP: &str = "SELECT set_config(name, value, false) FROM (VALUES \
    ('search_path', 'sweeps'), \
    ('tcp_keepalives_idle', '2'), ('tcp_keepalives_interval', '1'), \
    ('tcp_keepalives_count', '3'), ('tcp_user_timeout', '5000'), \
    ('client_connection_check_interval', '1s'), ('statement_timeout', '0'), \
    ('bytea_output', 'hex'), ('client_min_messages', 'warning'), \
    ('idle_in_transaction_session_timeout', '120s')) AS wanted (name, value) \
    WHERE name IN (SELECT name FROM pg_catalog.pg_settings) OR name = 'search_path'; \
    SELECT set_config('synchronous_commit', 'on', false) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

/// A session of the database. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    carrier: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the socket whatever state it is in; the server ends the session.
        self.carrier.abort();
    }
}

impl Session {
    /// Connects and sets the session up. The role says in the server's lists what it is for.
    pub(super) async fn open(url: &PostgresUrl, role: &str) -> Result<Self, StoreError> {
        let mut config = url.config.clone();
        config
            .application_name(format!("sweep {role}"))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(2))
            .keepalives_interval(Duration::from_secs(1))
            .keepalives_retries(3)
            .tcp_user_timeout(UNCONFIRMED);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_password().is_none()
            && let Some(password) = password(&config)
        {
            config.password(password);
        }
        let session = match &url.tls {
            Tls::Off => {
                let (client, connection) =
                    config.connect(NoTls).await.map_err(|e| failed(url, &e))?;
                Self::new(client, connection)
            }
            Tls::Roots(file) => {
                let tls = tls(file.as_deref())?;
                let (client, connection) =
                    config.connect(tls).await.map_err(|e| failed(url, &e))?;
                Self::new(client, connection)
            }
        };
        let set_up = session.client.batch_execute(SET_UP).await;
        set_up.map_err(|error| database("set up a session of the database", &error))?;
        Ok(session)
    }

    fn new(
        client: Client,
        connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    ) -> Self {
        let carrier = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(error = causes(&error), "a connection to the database broke");
            }
        });
        Self { client, carrier }
    }

    /// Comes when the session has ended.
    pub(super) async fn ended(&mut self) {
        // Polled again after its end only if whoever asks does not heed the answer.
        if !self.carrier.is_finished() {
            let _ = (&mut self.carrier).await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.carrier.is_finished()
    }
}

fn failed(url: &PostgresUrl, error: &tokio_postgres::Error) -> StoreError {
    StoreError::Database {
        action: "connect to the database",
        message: format!("{url}: {}", said(error)),
    }
}

/// What the server or the network said, with the server's code.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = format!("{} ({})", db.message(), db.code().code());
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                text.push_str(&format!("; {more}"));
            }
            text
        }
        None => causes(error),
    }
}

pub(super) fn database(action: &'static str, error: &tokio_postgres::Error) -> StoreError {
    StoreError::Database {
        action,
        message: said(error),
    }
}

fn tls(file: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let system = || {
        SYSTEM_ROOTS
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
    };
    let path = file.or_else(system).ok_or_else(|| StoreError::Database {
        action: "find the certificates that this system trusts",
        message: "name a file with `sslrootcert=FILE` in the address of the store".to_owned(),
    })?;
    let io = |source: std::io::Error| StoreError::Io {
        action: "read certificates from",
        path: path.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_file_iter(path)
        .map_err(|e| io(std::io::Error::other(e)))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| io(std::io::Error::other(e)))?;
    let (usable, _) = roots.add_parsable_certificates(found);
    if usable == 0 {
        return Err(io(std::io::Error::other("it holds no certificate")));
    }
    // Named, so that a second provider in the program could not make this a panic.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| io(std::io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A password from where libpq looks for one: `PGPASSWORD`, then the file `PGPASSFILE` or
/// `~/.pgpass`.
fn password(config: &Config) -> Option<String> {
    if let Ok(password) = std::env::var("PGPASSWORD") {
        return Some(password);
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    let file = std::env::var_os("PGPASSFILE")
        .map(PathBuf::from)
        .or_else(home)?;
    let text = std::fs::read_to_string(file).ok()?;
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        _ => "localhost".to_owned(),
    };
    let port = config
        .get_ports()
        .first()
        .copied()
        .unwrap_or(5432)
        .to_string();
    let user = config.get_user().unwrap_or_default();
    let name = config.get_dbname().unwrap_or(user);
    password_of(&text, [&host, &port, name, user])
}

/// The first line of a password file that fits host, port, database and user.
fn password_of(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(fields)
        .find(|fields| {
            let fits = |(field, wanted): (&String, &&str)| field == "*" || field == wanted;
            fields.len() == 5 && fields.iter().zip(&wanted).all(fits)
        })
        .and_then(|mut fields| fields.pop())
}

/// Five fields with colons between them; a backslash takes what follows as it is.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() - 1;
        match character {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields[last].extend(characters.next()),
            other => fields[last].push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_read_as_libpq_reads_it() {
        let text = "# mine\nother:5432:*:me:wrong\n*:5433:sweeps:me:a\\:b:c\n*:*:*:*:last\n";
        let find = |host, port| password_of(text, [host, port, "sweeps", "me"]);
        assert_eq!(find("db", "5433").as_deref(), Some("a:b:c"));
        assert_eq!(find("db", "5432").as_deref(), Some("last"));
        assert_eq!(find("other", "5432").as_deref(), Some("wrong"));
        assert_eq!(password_of("a:1:b:c:d\n", ["x", "1", "b", "c"]), None);
    }
}
