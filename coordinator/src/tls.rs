//! Certificates of the listening coordinator: checked at the start, read again
//! when their files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::pem::{self, Pem, PemError, provider};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SingleCertAndKey;

/// Least time between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// Where the certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The coordinator's certificate, then those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities whose certificates workers must show; no certificate is
    /// asked for if `None`.
    pub client_ca: Option<PathBuf>,
}

/// What is wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// With one of them, or two together.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// With what they say.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// TLS as it is offered at the moment.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    offered: Offered,
    /// How the files looked when they were last read.
    seen: Vec<Stamp>,
    looked: Instant,
}

/// The same certificate for two kinds of callers.
#[derive(Clone, Debug)]
struct Offered {
    /// Workers and administrators: gRPC.
    calls: Arc<ServerConfig>,
    /// Browsers, probes and scrapers. They show no certificate: a token is
    /// what opens the dashboard.
    web: Arc<ServerConfig>,
}

/// What changes when a file is replaced or written.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Tls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`TlsError`], in words for whoever named the files.
    pub fn load(files: Files) -> Result<Self, TlsError> {
        let seen = files.stamps();
        let offered = files.read()?;
        Ok(Self {
            files,
            state: Mutex::new(State {
                offered,
                seen,
                looked: Instant::now(),
            }),
        })
    }

    /// Whether workers must show a certificate.
    pub fn is_mutual(&self) -> bool {
        self.files.client_ca.is_some()
    }

    /// The configuration for a new connection of `listen`.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.offered().calls
    }

    /// The configuration for a new connection of `http`.
    pub fn web_config(&self) -> Arc<ServerConfig> {
        self.offered().web
    }

    /// If the files have changed they are read again; files that are of no use
    /// (half of them written, say) leave what was there.
    fn offered(&self) -> Offered {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK {
            state.looked = Instant::now();
            let stamps = self.files.stamps();
            if stamps != state.seen {
                state.seen = stamps;
                match self.files.read() {
                    Ok(offered) => {
                        state.offered = offered;
                        tracing::info!("the certificates were read again");
                    }
                    Err(error) => {
                        tracing::error!(%error, "new certificates are of no use, the old ones stay");
                    }
                }
            }
        }
        state.offered.clone()
    }
}

impl Files {
    /// A key that others can read.
    pub fn warning(&self) -> Option<String> {
        common::secret::exposed(&self.key, rustix::process::geteuid().as_raw())
    }

    fn read(&self) -> Result<Offered, TlsError> {
        let identity = pem::identity(&Pem::read(&self.certificate)?, &Pem::read(&self.key)?)?;
        let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
        let resolver = Arc::new(SingleCertAndKey::from(identity));
        let builder = || {
            ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()
                .map_err(|e| unusable(&e))
        };
        let mut web = (builder()?.with_no_client_auth()).with_cert_resolver(resolver.clone());
        web.alpn_protocols = vec![b"http/1.1".to_vec()];
        let builder = builder()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let authorities = Arc::new(Pem::read(file)?.authorities()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider())
                    .build()
                    .map_err(|e| unusable(&e))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut calls = builder.with_cert_resolver(resolver);
        calls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Offered {
            calls: Arc::new(calls),
            web: Arc::new(web),
        })
    }

    fn stamps(&self) -> Vec<Stamp> {
        let files = [
            Some(&self.certificate),
            Some(&self.key),
            self.client_ca.as_ref(),
        ];
        files
            .into_iter()
            .flatten()
            .map(|file| stamp(file))
            .collect()
    }
}

/// `None` when the file is not there at the moment.
fn stamp(file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let found: io::Result<std::fs::Metadata> = std::fs::metadata(file);
    let found = found.ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}
