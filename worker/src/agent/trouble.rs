//! Why a coordinator cannot be reached, for people.
//!
//! What fails in TLS has names like `UnknownIssuer` or `CertificateRequired`;
//! here it becomes a sentence that says what to do.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// For people.
    pub(super) why: String,
    /// Somebody has to change a file or an option: another try ends the same way.
    pub(super) lasting: bool,
}

impl Trouble {
    /// Another try may help.
    pub(super) fn passing(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            lasting: false,
        }
    }

    fn lasting(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            lasting: true,
        }
    }

    /// The coordinator says that it takes no plain text.
    pub(super) fn tls_wanted() -> Self {
        Self::lasting("the coordinator speaks TLS there: connect with https:// and `ca_file`")
    }
}

/// What an error of a connection means.
pub(super) fn of_io(error: &io::Error) -> Trouble {
    match tls_error(error) {
        Some(tls) => explain(tls),
        None => Trouble::passing(&error.to_string()),
    }
}

/// An error of TLS that travels inside another one.
fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    let inner: &(dyn Error + 'static) = error.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(tls) => Some(tls),
        None => tls_error(inner.downcast_ref::<io::Error>()?),
    }
}

fn explain(error: &rustls::Error) -> Trouble {
    let lasting = Trouble::lasting;
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
            other => Trouble::passing(&format!(
                "the coordinator ended the TLS handshake: {other:?}"
            )),
        },
        rustls::Error::InvalidMessage(_) => lasting(
            "what answers there does not speak TLS: connect with http://, or is it another port?",
        ),
        other => Trouble::passing(&format!("TLS: {other}")),
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
            presented
                .iter()
                .map(|p| bare(p))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the coordinator's certificate has expired (or this machine's clock is wrong)"
                .to_owned()
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

/// `DnsName("a.example")` and `IpAddress(10.0.0.1)` without the wrapping.
fn bare(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_tls_is_found_inside_others() {
        let tls = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let nested = io::Error::other(io::Error::other(tls));
        let found = of_io(&nested);
        assert!(
            found.lasting && found.why.contains("`cert_file`"),
            "{found:?}"
        );
        let plain = of_io(&io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(!plain.lasting, "{plain:?}");
    }

    #[test]
    fn names_of_a_certificate_are_shown_as_they_are_typed() {
        let names = [r#"DnsName("a.example")"#, "IpAddress(0::1)", "other"];
        assert_eq!(names.map(bare), ["a.example", "0::1", "other"]);
    }

    #[test]
    fn a_certificate_that_is_replaced_by_and_by_is_waited_for() {
        let found = certificate(&CertificateError::Expired);
        assert!(!found.lasting && found.why.contains("expired"), "{found:?}");
        assert!(certificate(&CertificateError::UnknownIssuer).lasting);
    }
}
