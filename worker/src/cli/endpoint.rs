//! Where the coordinator is and how it is spoken to: address, TLS, limits.

use std::path::Path;
use std::time::Duration;

use common::pem::{self, Pem};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use super::BadInput;
use super::settings::Settings;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// Time between two signs of life, and for the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Window of a stream and of a connection: the 64 KiB of HTTP/2 would carry
/// about a megabyte a second across a continent.
const WINDOW: u32 = 4 << 20;
/// Bytes of the headers of an answer.
const HEADERS: u32 = 16 << 10;

/// An address to connect to, checked.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// The tokens travel in the clear over a network.
    pub(super) exposed: bool,
}

/// The coordinator's address with everything that is needed to connect.
///
/// # Errors
/// What is wrong with the address, a file, or their combination.
pub(super) fn endpoint(url: &str, settings: &Settings) -> Result<Target, BadInput> {
    let scheme = if settings.ca_file.is_some() { "https" } else { "http" };
    let full = if url.contains("://") {
        url.to_owned()
    } else {
        format!("{scheme}://{url}")
    };
    let bad = |error: &dyn std::fmt::Display| BadInput(format!("`{url}` is no address: {error}"));
    let endpoint = Endpoint::from_shared(full).map_err(|error| bad(&error))?;
    let host = host(endpoint.uri()).ok_or_else(|| bad(&"no host"))?;
    let mut exposed = false;
    let endpoint = match endpoint.uri().scheme_str() {
        Some("https") => endpoint
            .tls_config(tls(&host, settings)?)
            .map_err(|error| bad(&innermost(&error)))?,
        Some("http") => {
            exposed = !is_loopback(&host);
            plain(url, exposed, settings)?;
            endpoint
        }
        _ => return Err(bad(&"it must begin with https:// or http://")),
    };
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        // A coordinator that vanished without a word is noticed.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    Ok(Target { endpoint, exposed })
}

/// The host of an address, without the brackets of IPv6.
fn host(uri: &Uri) -> Option<String> {
    let host = uri.host().filter(|host| !host.is_empty())?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    Some(bare.unwrap_or(host).to_owned())
}

/// Whether what is said to a host stays on this machine. A name may lead
/// anywhere, but for the one that is reserved.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |a| a.is_loopback())
}

/// Plain text stays on this machine, and wants no certificates.
fn plain(url: &str, exposed: bool, settings: &Settings) -> Result<(), BadInput> {
    for (key, given) in [
        ("ca_file", settings.ca_file.is_some()),
        ("cert_file", settings.cert_file.is_some()),
        ("key_file", settings.key_file.is_some()),
        ("server_name", settings.server_name.is_some()),
    ] {
        if given {
            return Err(BadInput(format!(
                "`{key}` is for TLS, and `{url}` is plain text: connect with https://"
            )));
        }
    }
    if exposed && !settings.insecure {
        return Err(BadInput(format!(
            "`{url}` is plain text over a network, so the token and every result would travel in \
             the clear; connect with https:// and `ca_file`, or say --insecure"
        )));
    }
    Ok(())
}

fn tls(host: &str, settings: &Settings) -> Result<ClientTlsConfig, BadInput> {
    let Some(ca_file) = &settings.ca_file else {
        let message = "an https coordinator needs `ca_file`, the certificate that vouches for it";
        return Err(BadInput(message.to_owned()));
    };
    let about = |key: &str, error: &dyn std::fmt::Display| BadInput(format!("`{key}`: {error}"));
    let read = |key: &str, path: &Path| Pem::read(path).map_err(|e| about(key, &e));
    let ca = read("ca_file", ca_file)?;
    ca.authorities().map_err(|e| about("ca_file", &e))?;
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca.bytes()))
        .timeout(HANDSHAKE);
    match (&settings.cert_file, &settings.key_file) {
        (None, None) => {}
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (read("cert_file", certificate)?, read("key_file", key)?);
            pem::identity(&certificate, &key).map_err(|e| BadInput(e.to_string()))?;
            tls = tls.identity(Identity::from_pem(certificate.bytes(), key.bytes()));
        }
        (Some(_), None) => return Err(about("cert_file", &"needs its key, `key_file`")),
        (None, Some(_)) => return Err(about("key_file", &"needs its certificate, `cert_file`")),
    }
    let name = settings.server_name.as_deref().unwrap_or(host);
    if rustls::pki_types::ServerName::try_from(name).is_err() {
        return Err(about("server_name", &format!("`{name}` is no host name")));
    }
    Ok(tls.domain_name(name))
}

/// The innermost cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Flags, resolve};

    fn settings(flags: Flags) -> Settings {
        resolve(None, &std::collections::BTreeMap::new(), &flags, 1).unwrap()
    }

    #[test]
    fn plain_text_stays_on_this_machine_unless_it_is_asked_for() {
        let careful = settings(Flags::default());
        for url in [
            "http://127.0.0.1:7",
            "127.1.2.3:7",
            "localhost:7",
            "http://[::1]:7",
        ] {
            assert!(!endpoint(url, &careful).unwrap().exposed, "{url}");
        }
        let bold = settings(Flags {
            insecure: true,
            ..Flags::default()
        });
        for url in [
            "http://10.0.0.1:7",
            "coordinator:7",
            "http://localhost.example.org:7",
            "http://[2001:db8::1]:7",
        ] {
            let error = endpoint(url, &careful).unwrap_err().to_string();
            assert!(error.contains("--insecure"), "{error}");
            assert!(endpoint(url, &bold).unwrap().exposed, "{url}");
        }
    }

    #[test]
    fn a_setting_of_tls_is_not_dropped_in_silence() {
        let careless = settings(Flags {
            cert_file: Some("worker.pem".into()),
            ..Flags::default()
        });
        let error = endpoint("http://localhost:7", &careless).unwrap_err();
        assert!(error.to_string().contains("`cert_file`"), "{error}");
        let error = endpoint("https://localhost:7", &careless).unwrap_err();
        assert!(error.to_string().contains("`ca_file`"), "{error}");
        for url in ["ftp://localhost:7", "http://", "unix:/tmp/x", "a b"] {
            assert!(endpoint(url, &settings(Flags::default())).is_err(), "{url}");
        }
    }
}
