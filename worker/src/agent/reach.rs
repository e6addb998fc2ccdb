//! Why a coordinator cannot be reached, for people.
//!
//! What fails in TLS arrives deep inside other errors, as `UnknownIssuer` or
//! the number of an alert. Here it becomes a sentence that says what to do.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why a connection or a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// For people.
    pub(super) why: String,
    /// Somebody has to change a file or an option: another try ends the same way.
    pub(super) lasting: bool,
}

/// Explains an error by its causes.
pub(super) fn trouble(error: &(dyn Error + 'static)) -> Trouble {
    let mut at = error;
    loop {
        if let Some(tls) = tls_error(at) {
            return explain(tls);
        }
        match at.source() {
            Some(source) => at = source,
            None => {
                return Trouble {
                    why: at.to_string(),
                    lasting: false,
                };
            }
        }
    }
}

/// An error of TLS that travels inside another one.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(error);
    }
    let io = match error.downcast_ref::<io::Error>() {
        Some(io) => io,
        None => error.downcast_ref::<h2::Error>()?.get_io()?,
    };
    tls_error(io.get_ref()?)
}

fn explain(error: &rustls::Error) -> Trouble {
    let lasting = |why: &str| Trouble {
        why: why.to_owned(),
        lasting: true,
    };
    match error {
        rustls::Error::InvalidCertificate(error) => certificate(error),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => lasting(
                "the coordinator wants to see a certificate of this worker: give `cert_file` and \
                 `key_file`",
            ),
            AlertDescription::UnknownCA | AlertDescription::DecryptError => lasting(
                "the coordinator does not know the authority of this worker's certificate \
                 (`cert_file`)",
            ),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown => {
                lasting("the coordinator does not accept this worker's certificate (`cert_file`)")
            }
            AlertDescription::CertificateExpired => {
                lasting("this worker's certificate (`cert_file`) has expired")
            }
            other => Trouble {
                why: format!("the coordinator ended the TLS handshake: {other:?}"),
                lasting: false,
            },
        },
        rustls::Error::InvalidMessage(_) => lasting(
            "what answers there does not speak TLS: connect with http://, or is it another port?",
        ),
        other => Trouble {
            why: format!("TLS: {other}"),
            lasting: false,
        },
    }
}

fn certificate(error: &CertificateError) -> Trouble {
    let why = match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the coordinator's certificate is not from the authority in `ca_file`".to_owned()
        }
        CertificateError::NotValidForName => {
            "the coordinator's certificate is for another name; `server_name` says which one to \
             expect"
                .to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => format!(
            "the coordinator's certificate is not for {}, but for {}; connect to one of these, or \
             say with `server_name` which one to expect",
            expected.to_str(),
            presented.join(", "),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the coordinator's certificate has expired (or this machine's clock is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the coordinator's certificate is not valid yet (or this machine's clock is wrong)"
                .to_owned()
        }
        other => format!("the coordinator's certificate cannot be trusted: {other}"),
    };
    // A certificate is replaced, a clock is set: these go by while we wait.
    let passing = matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    );
    Trouble {
        why,
        lasting: !passing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_tls_is_found_inside_others() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let nested = io::Error::other(io::Error::other(tls));
        let found = trouble(&nested);
        assert!(found.lasting && found.why.contains("`cert_file`"), "{found:?}");
        let plain = trouble(&io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(!plain.lasting, "{plain:?}");
    }

    #[test]
    fn a_certificate_that_is_replaced_by_and_by_is_waited_for() {
        let found = certificate(&CertificateError::Expired);
        assert!(!found.lasting && found.why.contains("expired"), "{found:?}");
        assert!(certificate(&CertificateError::UnknownIssuer).lasting);
    }
}
