//! Where the coordinator is and how it is spoken to: address, TLS, limits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::pem::{self, Pem, provider};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tonic::transport::{Endpoint, Uri};

use super::BadInput;
use super::settings::Settings;
use crate::agent::Target;

/// Time between two signs of life, and for the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Window of a stream and of a connection: the 64 KiB of HTTP/2 would carry
/// about a megabyte a second across a continent.
const WINDOW: u32 = 4 << 20;
/// Bytes of the headers of an answer.
const HEADERS: u32 = 16 << 10;

/// The coordinator's address with everything that is needed to connect, and
/// whether the token travels in the clear over a network.
///
/// # Errors
/// What is wrong with the address, a file, or their combination.
pub(super) fn target(url: &str, settings: &Settings) -> Result<(Target, bool), BadInput> {
    let bad = |error: &dyn std::fmt::Display| BadInput(format!("`{url}` is no address: {error}"));
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err(bad(&"it must begin with https:// or http://")),
        None if settings.ca_file.is_some() => ("https", url),
        None => ("http", url),
    };
    let is_tls = scheme == "https";
    // As the library knows it there is no TLS: the agent makes it.
    let endpoint = Endpoint::from_shared(format!("http://{rest}")).map_err(|e| bad(&e))?;
    let host = host(endpoint.uri()).ok_or_else(|| bad(&"no host"))?;
    let port = endpoint.uri().port_u16();
    let origin: Uri = format!("{scheme}://{rest}").parse().map_err(|e| bad(&e))?;
    let exposed = !is_tls && !is_loopback(&host);
    let tls = if is_tls {
        Some(tls(&host, settings)?)
    } else {
        plain(url, exposed, settings)?;
        None
    };
    let endpoint = endpoint
        .origin(origin)
        // A coordinator that vanished without a word is noticed.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let target = Target {
        endpoint,
        host,
        port: port.unwrap_or(if is_tls { 443 } else { 80 }),
        tls,
    };
    Ok((target, exposed))
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
    if exposed && !settings.insecure && !url.contains(':') {
        return Err(BadInput(format!(
            "`{url}` is no URL; write https://HOST:PORT, as the coordinator shows it"
        )));
    }
    if exposed && !settings.insecure {
        return Err(BadInput(format!(
            "`{url}` is plain text over a network, so the token and every result would travel in \
             the clear; connect with https:// and `ca_file`, or say --insecure"
        )));
    }
    Ok(())
}

/// What TLS needs to know, and the name that the coordinator must prove.
fn tls(
    host: &str,
    settings: &Settings,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), BadInput> {
    let Some(ca_file) = &settings.ca_file else {
        let message = "an https coordinator needs `ca_file`, the certificate that vouches for it";
        return Err(BadInput(message.to_owned()));
    };
    let about = |key: &str, error: &dyn std::fmt::Display| BadInput(format!("`{key}`: {error}"));
    let read = |key: &str, path: &Path| Pem::read(path).map_err(|e| about(key, &e));
    let ca = read("ca_file", ca_file)?;
    let authorities = ca.authorities().map_err(|e| about("ca_file", &e))?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| about("ca_file", &e))?
        .with_root_certificates(authorities);
    let mut config = match (&settings.cert_file, &settings.key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (read("cert_file", certificate)?, read("key_file", key)?);
            let identity =
                pem::identity(&certificate, &key).map_err(|e| BadInput(e.to_string()))?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        (Some(_), None) => return Err(about("cert_file", &"needs its key, `key_file`")),
        (None, Some(_)) => return Err(about("key_file", &"needs its certificate, `cert_file`")),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = settings.server_name.as_deref().unwrap_or(host).to_owned();
    let shown = format!("`{name}` is no host name");
    let name = ServerName::try_from(name).map_err(|_| about("server_name", &shown))?;
    Ok((Arc::new(config), name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Flags, resolve};

    fn settings(flags: Flags) -> Settings {
        let room = crate::room::Room {
            cores: 1,
            memory: None,
        };
        resolve(None, &std::collections::BTreeMap::new(), &flags, room).unwrap()
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
            assert!(!target(url, &careful).unwrap().1, "{url}");
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
            let error = target(url, &careful).unwrap_err().to_string();
            assert!(error.contains("--insecure"), "{error}");
            assert!(target(url, &bold).unwrap().1, "{url}");
        }
        let error = target("nonsense", &careful).unwrap_err().to_string();
        assert!(error.contains("no URL"), "{error}");
    }

    #[test]
    fn a_setting_of_tls_is_not_dropped_in_silence() {
        let careless = settings(Flags {
            cert_file: Some("worker.pem".into()),
            ..Flags::default()
        });
        let error = target("http://localhost:7", &careless).unwrap_err();
        assert!(error.to_string().contains("`cert_file`"), "{error}");
        let error = target("https://localhost:7", &careless).unwrap_err();
        assert!(error.to_string().contains("`ca_file`"), "{error}");
        for url in ["ftp://localhost:7", "http://", "unix:/tmp/x", "a b"] {
            assert!(target(url, &settings(Flags::default())).is_err(), "{url}");
        }
    }
}
