//! Connections to browsers, scrapers and probes: plain text or TLS, HTTP/1.1.
//!
//! | a caller's | is limited to |
//! |---|---|
//! | connections, all callers together | [`CONNECTIONS`] |
//! | time for a TLS handshake, and for the headers of each call | [`PATIENCE`] |
//! | headers of a call | [`HEADERS`] bytes, [`LINES`] lines |
//! | body, and time of a call | see `rules` |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::door::{Io, greet};
use crate::run::host_name;
use crate::tls::Tls;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 256;
/// Time for a handshake, and for the headers of a call; a connection that says
/// nothing for so long is closed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of the headers of a call.
const HEADERS: usize = 16 << 10;
/// Lines of them.
const LINES: usize = 64;
/// Pause after a connection could not be taken (no descriptors, say).
const BREATH: Duration = Duration::from_millis(100);

/// Bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Tls>>,
    address: SocketAddr,
}

impl Listener {
    /// Takes an address.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn bind(address: SocketAddr, tls: Option<Arc<Tls>>) -> Result<Self, String> {
        let cannot = |e: std::io::Error| format!("cannot serve HTTP on {address}: {e}");
        let tcp = TcpListener::bind(address).await.map_err(cannot)?;
        let address = tcp.local_addr().map_err(cannot)?;
        Ok(Self { tcp, tls, address })
    }

    /// Where people find it.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = crate::leadership::advertised(self.address, &host_name());
        format!("{scheme}://{address}")
    }
}

/// Takes connections until it is dropped.
pub(super) async fn serve(listener: Listener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.tcp.accept().await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let tls = listener.tls.as_ref().map(|tls| tls.web_config());
        let router = router.clone();
        tokio::spawn(async move {
            answer(stream, peer, tls, router).await;
            drop(place);
        });
    }
}

async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
) {
    match tokio::time::timeout(PATIENCE, greet(stream, tls)).await {
        Ok(Ok(Io::Plain(io))) => carry(io, peer, router).await,
        Ok(Ok(Io::Tls(io))) => carry(io, peer, router).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection was refused"),
        Err(_) => tracing::debug!(%peer, "a connection was refused: it did not come to a start"),
    }
}

async fn carry<I>(io: I, peer: SocketAddr, router: Router)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEADERS)
        .max_headers(LINES)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}
