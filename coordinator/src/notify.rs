//! `--notify URL`: a POST when a sweep is over, and when the first violation
//! inside the theorem is recorded.
//!
//! A notice is sent once and given [`PATIENCE`]; what becomes of it is logged
//! and changes nothing else. Nothing but the URL that was given is called, and
//! redirections are not followed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use common::pem::provider;
use common::protocol::SweepNumber;
use common::summary::{CellVerdict, Summary};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::core::{Core, SweepState};
use crate::driver::Handle;
use crate::progress::Moment;
use crate::run::host_name;
use crate::store::StoredSweep;
use crate::sweep::GridSweep;

/// Time for one notice, from the connection to the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks for a violation.
const LOOK: Duration = Duration::from_secs(1);

/// Where notices go. Shown without its path: that of a chat's hook is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct NotifyUrl {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// The text is no URL that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no URL that can be called; write http://HOST[:PORT][/PATH] or https://…, without a user")]
pub struct NotAUrl;

impl fmt::Display for NotifyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}/…", self.host, self.port)
    }
}

impl fmt::Debug for NotifyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NotifyUrl {
    type Err = NotAUrl;

    fn from_str(text: &str) -> Result<Self, NotAUrl> {
        let uri: hyper::Uri = text.parse().map_err(|_| NotAUrl)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(NotAUrl),
        };
        let authority = uri.authority().ok_or(NotAUrl)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(NotAUrl);
        }
        Ok(Self {
            tls,
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
        })
    }
}

/// Tells of violations and ends.
#[derive(Debug)]
pub struct Notices {
    url: NotifyUrl,
    /// Sweeps whose first violation was told. Held while a notice is on its way, so that the end
    /// of a sweep is told after its violation.
    told: Mutex<BTreeSet<SweepNumber>>,
}

impl Notices {
    /// Nothing is told so far.
    pub fn new(url: NotifyUrl) -> Arc<Self> {
        Arc::new(Self {
            url,
            told: Mutex::default(),
        })
    }

    /// Tells that a sweep is over; before that of a violation, if there was no time yet.
    pub async fn sweep_over(&self, stored: &StoredSweep, state: SweepState, of: &Summary) {
        let moment = Moment::of_summary(of);
        if of.overall.verdict == CellVerdict::Violated {
            let name = &stored.text.name;
            self.first_violation(stored.number, name, &moment).await;
        }
        let body = json!({
            "event": "sweep_over",
            "sweep": about(stored, state),
            "host": host_name(),
            "progress": numbers(&moment),
            "overall": of.overall,
            "totals": of.totals,
        });
        tell(&self.url, &body).await;
    }

    /// Tells of the first violation inside the theorem of each sweep, until it
    /// is dropped.
    pub async fn watch(self: Arc<Self>, handle: Handle) {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(found) = handle.look(violated).await else {
                return;
            };
            for (number, name, moment) in found {
                self.first_violation(number, &name, &moment).await;
            }
        }
    }

    async fn first_violation(&self, sweep: SweepNumber, name: &str, moment: &Moment) {
        let mut told = self.told.lock().await;
        if told.insert(sweep) {
            let body = json!({
                "event": "first_violation",
                "sweep": {"number": sweep.0, "name": name},
                "host": host_name(),
                "progress": numbers(moment),
            });
            tell(&self.url, &body).await;
        }
    }
}

/// Active sweeps with a violation inside the theorem.
fn violated(core: &Core) -> Vec<(SweepNumber, String, Moment)> {
    let sweeps = core.status().sweeps.into_iter();
    let found = sweeps.filter_map(|sweep| {
        let workload = core.workload(sweep.number)?;
        let grid = workload.as_any().downcast_ref::<GridSweep>()?;
        let moment = Moment::of(core, sweep.number)?;
        let name = grid.grid().name().to_owned();
        (grid.counts().violations_inside > 0).then_some((sweep.number, name, moment))
    });
    found.collect()
}

/// A moment for programs.
pub(crate) fn numbers(moment: &Moment) -> Value {
    json!({
        "planned": moment.planned,
        "recorded": moment.recorded,
        "failed": moment.failed,
        "leased": moment.leased,
        "certified": moment.certified,
        "violations": moment.violations,
        "violations_inside": moment.violations_inside,
        "worst_excess": moment.worst_excess,
    })
}

fn about(stored: &StoredSweep, state: SweepState) -> Value {
    json!({
        "number": stored.number.0,
        "id": stored.text.id,
        "name": stored.text.name,
        "state": state.name(),
    })
}

async fn tell(url: &NotifyUrl, body: &Value) {
    let event = &body["event"];
    match tokio::time::timeout(PATIENCE, post(url, body.to_string())).await {
        Ok(Ok(())) => tracing::info!(%url, %event, "a notice was sent"),
        Ok(Err(error)) => tracing::error!(%url, %event, error, "a notice was not sent"),
        Err(_) => tracing::error!(%url, %event, "a notice was not sent: no answer in time"),
    }
}

async fn post(url: &NotifyUrl, body: String) -> Result<(), String> {
    let host = url.host.trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, url.port)).await;
    let stream = stream.map_err(|e| e.to_string())?;
    if !url.tls {
        return send(stream, url, body).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let connector = TlsConnector::from(Arc::new(client()?));
    let stream = connector.connect(name, stream).await;
    send(stream.map_err(|e| e.to_string())?, url, body).await
}

/// TLS with the authorities that the machine trusts, or those that SSL_CERT_FILE or SSL_CERT_DIR
/// name instead.
fn client() -> Result<ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.iter().map(|e| format!(": {e}"));
        return Err(format!(
            "no authority is known that could vouch for it{}; SSL_CERT_FILE names a file with some",
            why.collect::<String>()
        ));
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn send<I>(io: I, url: &NotifyUrl, body: String) -> Result<(), String>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io))
        .await
        .map_err(|e| e.to_string())?;
    // Ends with the answer, or with this process.
    let connection = tokio::spawn(connection);
    let usual = if url.tls { 443 } else { 80 };
    let host = if url.port == usual {
        url.host.clone()
    } else {
        format!("{}:{}", url.host, url.port)
    };
    let request = Request::post(&url.path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            header::USER_AGENT,
            concat!("depth-sweep/", env!("SWEEP_VERSION")),
        )
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await;
    connection.abort();
    let status = answer.map_err(|e| e.to_string())?.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("it answers {status}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secret() {
        let url: NotifyUrl = "https://hooks.example.org/services/T0/secret?x=1"
            .parse()
            .unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "https://hooks.example.org:443/… https://hooks.example.org:443/…"
        );
        assert_eq!(url.path, "/services/T0/secret?x=1");
        let url: NotifyUrl = "http://[::1]:8080".parse().unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.path.as_str()),
            ("[::1]", 8080, "/")
        );
    }

    #[test]
    fn what_cannot_be_called_is_no_url() {
        for wrong in [
            "",
            "example.org",
            "ftp://example.org",
            "/path",
            "https://",
            "http://user:word@example.org/",
        ] {
            assert_eq!(wrong.parse::<NotifyUrl>(), Err(NotAUrl), "{wrong}");
        }
    }
}
