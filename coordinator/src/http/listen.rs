//! Connections to browsers, scrapers and probes: plain text or TLS, HTTP/1.1.
//!
//! | a caller's | is limited to |
//! |---|---|
//! | connections, all callers together | [`CONNECTIONS`] |
//! | … from one address | [`OF_ONE_ADDRESS`] |
//! | … that come from one address and leave without a valid token | see `door` |
//! | time to the first byte of a connection | [`SILENCE`] |
//! | time for a TLS handshake, and for the headers of each call | [`PATIENCE`] |
//! | headers of a call | [`HEADERS`] bytes, [`LINES`] lines |
//! | body, and time of a call | see `rules` |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::door::{Io, Place, Strangers, greet};
use crate::run::host_name;
use crate::tls::Tls;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS: usize = 256;
/// Those from one address (of IPv6: from one network of 64 bits). More are hung
/// up on, so that a probe from elsewhere gets through.
const OF_ONE_ADDRESS: usize = CONNECTIONS / 2;
/// Time to the first byte of a connection.
const SILENCE: Duration = Duration::from_secs(5);
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

/// Whether a valid token was shown on a connection; every call on it carries this.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<AtomicBool>);

impl Trust {
    /// A valid token was shown.
    pub(super) fn gain(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long callers are waited for.
#[derive(Clone, Copy, Debug)]
struct Times {
    silence: Duration,
    patience: Duration,
}

/// Takes connections until it is dropped.
pub(super) async fn serve(listener: Listener, router: Router) {
    let times = Times {
        silence: SILENCE,
        patience: PATIENCE,
    };
    serve_within(times, listener, router).await;
}

async fn serve_within(times: Times, listener: Listener, router: Router) {
    let strangers = Strangers::new(CONNECTIONS, OF_ONE_ADDRESS);
    loop {
        let Some(permit) = strangers.next().await else {
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
        // Dropping the stream hangs up.
        if let Some(place) = strangers.admit(permit, peer.ip(), Instant::now()) {
            let tls = listener.tls.as_ref().map(|tls| tls.web_config());
            tokio::spawn(answer(stream, peer, tls, router.clone(), times, place));
        }
    }
}

async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    times: Times,
    place: Place,
) {
    // Readiness alone may be told without reason.
    if timeout(times.silence, stream.peek(&mut [0])).await.is_err() {
        tracing::debug!(%peer, "a connection was ended: it says nothing");
        return;
    }
    let trust = Trust::default();
    match timeout(times.patience, greet(stream, tls)).await {
        Ok(Ok(Io::Plain(io))) => carry(io, peer, router, times, &trust).await,
        Ok(Ok(Io::Tls(io))) => carry(io, peer, router, times, &trust).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a connection was refused"),
        Err(_) => tracing::debug!(%peer, "a connection was refused: it did not come to a start"),
    }
    if trust.0.load(Ordering::Relaxed) {
        place.give_up_for_trust();
    }
}

async fn carry<I>(io: I, peer: SocketAddr, router: Router, times: Times, trust: &Trust)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let trusting = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(trust.clone());
        router.call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.patience)
        .max_buf_size(HEADERS)
        .max_headers(LINES)
        .serve_connection(TokioIo::new(io), trusting)
        .await;
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;

    const NEVER: Duration = Duration::from_secs(86_400);

    async fn server(times: Times) -> SocketAddr {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = Listener::bind(address, None).await.expect("a free port");
        let address = listener.address;
        let router = Router::new().route("/healthz", get(async || "alive"));
        tokio::spawn(serve_within(times, listener, router));
        address
    }

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = format!("{from}:0").parse().expect("an address");
        socket.bind(from).expect("an address of this host");
        socket.connect(to).await.expect("somebody listens")
    }

    /// All that is said until it is hung up, with or without good manners.
    async fn hear(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn one_address_leaves_places_for_others() {
        let server = server(Times {
            silence: NEVER,
            patience: NEVER,
        })
        .await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(connect("127.0.0.1", server).await);
        }
        let mut probe = connect("127.0.0.2", server).await;
        let call = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        probe.write_all(call).await.expect("it listens");
        let answer = hear(probe).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // They are taken in the order in which they came.
        for more in silent.drain(OF_ONE_ADDRESS..) {
            assert_eq!(hear(more).await, "");
        }
        // The others are still waited for.
        let mut first = silent.swap_remove(0);
        first.write_all(call).await.expect("it listens");
        assert!(hear(first).await.ends_with("alive"));
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_ended_before_one_that_has_begun() {
        let server = server(Times {
            silence: Duration::ZERO,
            patience: NEVER,
        })
        .await;
        assert_eq!(hear(connect("127.0.0.1", server).await).await, "");
    }
}
