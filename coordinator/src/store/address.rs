//! Where a store is: a directory, or a PostgreSQL database.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// Where a store is, as `--store` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A directory with a SQLite file.
    Directory(PathBuf),
    /// A PostgreSQL database.
    Postgres(PostgresUrl),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            text.parse().map(Self::Postgres)
        } else if let Some((scheme, _)) = text.split_once("://") {
            // What comes before may be anything, a password too.
            let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            let shown = if scheme.chars().all(plain) {
                format!("{}://", scheme.chars().take(20).collect::<String>())
            } else {
                "://".to_owned()
            };
            Err(AddressError::Scheme(shown))
        } else {
            Ok(Self::Directory(PathBuf::from(text)))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// Why a text is no address of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A URL of something else.
    #[error(
        "`{0}` begins no address of a store; give a folder, or postgres://USER@HOST/NAME for a \
         database"
    )]
    Scheme(String),
    /// The address cannot be read.
    #[error("no address of a PostgreSQL database: {0}")]
    Unreadable(String),
    /// A mode that is not offered.
    #[error(
        "sslmode={0} is not offered: `require` encrypts and checks the server's certificate, \
         `disable` does neither"
    )]
    SslMode(String),
}

/// A PostgreSQL database and how to reach it. Never shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

/// How a connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// Not at all: the server is on this machine, or the address says so.
    Off,
    /// The server's certificate must descend from one of a file, or from one that the system
    /// trusts.
    Roots(Option<PathBuf>),
}

impl PostgresUrl {
    /// Whether the address contains a password.
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }
}

impl FromStr for PostgresUrl {
    type Err = AddressError;

    /// Reads a URL as libpq does. `sslmode` and `sslrootcert` are ours: a server on another
    /// machine is spoken to through TLS unless the address says `sslmode=disable`, and its
    /// certificate is always checked.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(unescape(value))),
                _ => rest.push(pair),
            }
        }
        let plain = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        let mut config: Config = plain
            .parse()
            .map_err(|error| AddressError::Unreadable(causes(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path("/var/run/postgresql");
        }
        let tls = match mode {
            Some("disable") => Tls::Off,
            Some("require" | "verify-full") => Tls::Roots(roots),
            Some(other) => return Err(AddressError::SslMode(other.to_owned())),
            None if config.get_hosts().iter().all(is_local) && roots.is_none() => Tls::Off,
            None => Tls::Roots(roots),
        };
        config.ssl_mode(match tls {
            Tls::Off => SslMode::Disable,
            Tls::Roots(_) => SslMode::Require,
        });
        Ok(Self { config, tls })
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        for (i, host) in self.config.get_hosts().iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            match host {
                Host::Tcp(name) => f.write_str(name)?,
                Host::Unix(path) => f.write_str(&path.to_string_lossy().replace('/', "%2F"))?,
            }
            if let Some(port) = ports.get(i).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

/// Resolves `%2F` and its like; what is no such escape stands for itself.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                plain.push(byte);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// An error with what lies behind it.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PostgresUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_directory_is_everything_that_is_no_url() {
        let address: Address = "./sweeps".parse().unwrap();
        assert_eq!(address, Address::Directory("./sweeps".into()));
        let address: Address = "postgresql://db.example/sweeps".parse().unwrap();
        assert!(matches!(address, Address::Postgres(_)));
    }

    #[test]
    fn a_url_of_something_else_is_no_directory() {
        let wrong = |text: &str| text.parse::<Address>().unwrap_err().to_string();
        for (text, scheme) in [
            ("mysql://me:hunter22@localhost/x", "`mysql://`"),
            ("postgress://me:hunter22@localhost/x", "`postgress://`"),
            ("me:hunter22@x://y", "`://`"),
        ] {
            let error = wrong(text);
            assert!(error.contains(scheme), "{error}");
            assert!(error.contains("postgres://"), "{error}");
            assert!(!error.contains("hunter22"), "{error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = url("postgres://me:hunter22@db.example:5433/sweeps?connect_timeout=3");
        assert!(url.has_password());
        assert_eq!(url.to_string(), "postgres://me@db.example:5433/sweeps");
        let address = Address::Postgres(url);
        assert!(!format!("{address:?} {address}").contains("hunter22"));
    }

    #[test]
    fn another_machine_is_spoken_to_through_tls_unless_the_address_says_otherwise() {
        for text in [
            "postgres:///sweeps",
            "postgres://%2Frun%2Fpg/x",
            "postgres://localhost/x",
            "postgres://127.0.0.1/x",
            "postgres://db.example/x?sslmode=disable",
        ] {
            assert_eq!(url(text).tls, Tls::Off, "{text}");
        }
        for text in [
            "postgres://db.example/x",
            "postgres://10.0.0.1/x",
            "postgres://localhost,db.example/x",
            "postgres://localhost/x?sslmode=require",
            "postgres://db.example/x?sslmode=verify-full",
        ] {
            assert_eq!(url(text).tls, Tls::Roots(None), "{text}");
        }
        let with_roots = url("postgres://h/x?sslmode=require&sslrootcert=%2Fetc%2Fca.pem");
        assert_eq!(with_roots.tls, Tls::Roots(Some("/etc/ca.pem".into())));
        assert_eq!(with_roots.config.get_ssl_mode(), SslMode::Require);
    }

    #[test]
    fn a_wrong_address_says_what_is_wrong() {
        let wrong = |text: &str| text.parse::<Address>().unwrap_err().to_string();
        assert!(wrong("postgres://h/x?sslmode=prefer").contains("sslmode=prefer"));
        assert!(wrong("postgres://h/x?colour=red").contains("colour"));
        assert!(wrong("postgres://h:port/x").contains("port"));
    }
}
