//! Certificates and keys from PEM files, and what can be wrong with them.
//!
//! Both programs check their files with this module before anything is
//! started, so that a wrong path is not found out by a failed handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

/// Why a file or a pair of files is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It has no such part.
    #[error("{} holds no {wanted} in PEM form (a part that begins with -----BEGIN …-----)", .path.display())]
    Nothing {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
    /// A part is damaged.
    #[error("{} is damaged: {detail}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        detail: String,
    },
    /// A key belongs to another certificate.
    #[error("the key {} does not belong to the certificate {}", .key.display(), .certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// The bytes of a PEM file.
#[derive(Clone)]
pub struct Pem {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may hold a key.
        write!(f, "Pem({}, …)", self.path.display())
    }
}

/// The only provider of cryptography here.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// Makes it the provider of the process. To be called before anything else: a
/// second provider in one program would be a panic at the first handshake.
pub fn install_provider() {
    // An error says that one is installed already; there is only this one.
    let _ = default_provider().install_default();
}

impl Pem {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PemError::Read`].
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let path = path.to_owned();
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self { path, bytes }),
            Err(source) => Err(PemError::Read { path, source }),
        }
    }

    /// As it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All certificates, in the order of the file; at least one.
    ///
    /// # Errors
    /// [`PemError::Nothing`] and [`PemError::Damaged`].
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let all = all.map_err(|error| self.damaged(&error))?;
        if all.is_empty() {
            return Err(self.nothing("certificate"));
        }
        Ok(all)
    }

    /// The certificates as those of authorities that are trusted.
    ///
    /// # Errors
    /// Those of [`Pem::certificates`].
    pub fn authorities(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(|e| self.damaged(&e))?;
        }
        Ok(roots)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        use rustls::pki_types::pem::Error;
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            Error::NoItemsFound => self.nothing("private key"),
            error => self.damaged(&error),
        })
    }

    fn nothing(&self, wanted: &'static str) -> PemError {
        let path = self.path.clone();
        PemError::Nothing { path, wanted }
    }

    fn damaged(&self, error: &dyn std::fmt::Display) -> PemError {
        PemError::Damaged {
            path: self.path.clone(),
            detail: error.to_string(),
        }
    }
}

/// A certificate chain and its key, which belong together.
///
/// # Errors
/// [`PemError`], with [`PemError::Mismatch`] if they do not.
pub fn identity(certificate: &Pem, key: &Pem) -> Result<CertifiedKey, PemError> {
    let chain = certificate.certificates()?;
    CertifiedKey::from_der(chain, key.key()?, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => PemError::Mismatch {
            certificate: certificate.path.clone(),
            key: key.path.clone(),
        },
        // Only the key is decoded there, but for the certificate's own key.
        rustls::Error::InvalidCertificate(_) => certificate.damaged(&error),
        error => key.damaged(&error),
    })
}
