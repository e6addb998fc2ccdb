//! Where connections come in, and what a stranger may do before a token has
//! been shown: little, and not for long.
//!
//! There are two doors. Local workers have one on loopback, in plain text,
//! that opens to the token of this process alone. `--listen` is the other one,
//! with TLS or without. What arrives at the wrong one (plain text where TLS is
//! spoken, TLS where it is not) is told so in a way that its side can show.
//!
//! | a stranger's | is limited to |
//! |---|---|
//! | connections, all strangers together | [`STRANGERS`] |
//! | … from one address | [`OF_ONE_ADDRESS`] |
//! | … that come from one address and leave without a token | [`BURST`], and [`RATE`] a second |
//! | time from arrival to a valid token | [`PATIENCE`] |
//! | calls with a wrong token, a connection | [`REFUSALS`] |
//! | headers of a call | [`HEADERS`] |
//! | streams of a connection | [`STREAMS`] |
//! | message | nothing is read before the token was checked (see `guard`) |

mod strangers;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::tls::Tls;
pub(crate) use strangers::{Place, Strangers};

/// Connections that have shown no token, at a time and door. More wait in the
/// system's queue.
pub const STRANGERS: usize = 512;
/// Those from one address (of IPv6: from one network of 64 bits). More are
/// turned away, and workers try again.
pub const OF_ONE_ADDRESS: usize = STRANGERS / 2;
/// Connections without a valid token that may come from an address at once …
pub const BURST: f64 = 1024.0;
/// … and in each second after that.
pub const RATE: f64 = 64.0;
/// Time that a connection has for its handshake and a valid token.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Calls with a wrong token after which a connection is ended.
pub const REFUSALS: u32 = 8;
/// Bytes of the headers of a call.
pub const HEADERS: u32 = 16 << 10;
/// Streams of a connection at a time. A worker needs two: its session and a
/// file.
pub const STREAMS: u32 = 32;
/// Bytes on their way on a stream, and on a connection: the 64 KiB of HTTP/2
/// would carry about a megabyte a second across a continent.
const WINDOW: u32 = 4 << 20;
/// Time between two signs of life of a silent connection, and for the answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be taken (no descriptors, say).
const BREATH: Duration = Duration::from_millis(100);
/// First byte of a TLS connection.
const HANDSHAKE: u8 = 22;

/// Which way a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// From a worker that this process has started.
    Local,
    /// From anywhere else.
    Network,
}

/// Bound and not yet open.
#[derive(Debug)]
pub struct Doors {
    local: TcpListener,
    network: Option<(TcpListener, Option<Arc<Tls>>)>,
}

impl Doors {
    /// Takes a free port of loopback for local workers, and `listen` for others.
    ///
    /// # Errors
    /// Which address cannot be had, and why.
    pub async fn bind(listen: Option<SocketAddr>, tls: Option<Arc<Tls>>) -> Result<Self, String> {
        let bind = async |address: SocketAddr| {
            let listener = TcpListener::bind(address).await;
            listener.map_err(|e| format!("cannot listen on {address}: {e}"))
        };
        let network = match listen {
            None => None,
            Some(address) => Some((bind(address).await?, tls)),
        };
        let local = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        Ok(Self { local, network })
    }

    /// Where local workers connect.
    ///
    /// # Errors
    /// The system's.
    pub fn local_url(&self) -> io::Result<String> {
        Ok(format!("http://{}", self.local.local_addr()?))
    }

    /// Where others connect, as seen from this machine; `None` if they cannot.
    pub fn network_url(&self) -> Option<String> {
        let (listener, tls) = self.network.as_ref()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut address = listener.local_addr().ok()?;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        Some(format!("{scheme}://{address}"))
    }

    /// The address of the network's door, if there is one.
    pub fn network_address(&self) -> Option<SocketAddr> {
        let (listener, _) = self.network.as_ref()?;
        listener.local_addr().ok()
    }

    /// Opens both: connections for a server, until nobody takes them any more.
    pub fn open(self) -> ReceiverStream<io::Result<Connection>> {
        let (to, connections) = mpsc::channel(16);
        let keep = |door, listener, tls| {
            let keeper = Keeper {
                door,
                tls,
                // Each door has its own: strangers of the network keep no local worker out.
                strangers: Strangers::new(STRANGERS, OF_ONE_ADDRESS),
                to: to.clone(),
            };
            tokio::spawn(keeper.keep(listener));
        };
        keep(Door::Local, self.local, None);
        if let Some((listener, tls)) = self.network {
            keep(Door::Network, listener, tls);
        }
        ReceiverStream::new(connections)
    }
}

/// A server with the limits of this module.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
}

/// Takes connections at one door.
#[derive(Clone)]
struct Keeper {
    door: Door,
    tls: Option<Arc<Tls>>,
    strangers: Arc<Strangers>,
    to: mpsc::Sender<io::Result<Connection>>,
}

impl Keeper {
    async fn keep(self, listener: TcpListener) {
        loop {
            let Some(permit) = self.strangers.next().await else {
                return;
            };
            let taken = tokio::select! {
                taken = listener.accept() => taken,
                () = self.to.closed() => return,
            };
            match taken {
                Ok((stream, peer)) => {
                    // Dropping the stream hangs up.
                    if let Some(place) = self.strangers.admit(permit, peer.ip(), Instant::now()) {
                        let arrival = Arc::new(Arrival::new(self.door, peer, place));
                        tokio::spawn(self.clone().admit(stream, arrival));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    /// From the first byte to a connection for the server.
    async fn admit(self, stream: TcpStream, arrival: Arc<Arrival>) {
        let until = Instant::now() + PATIENCE;
        let peer = arrival.peer;
        let io = match tokio::time::timeout_at(
            until,
            greet(stream, self.tls.as_ref().map(|t| t.config())),
        )
        .await
        {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => {
                tracing::warn!(%peer, %error, "a connection was refused");
                return;
            }
            Err(_) => {
                tracing::warn!(%peer, "a connection was refused: it did not come to a start");
                return;
            }
        };
        let connection = Connection {
            io,
            arrival,
            patience: Some(Box::pin(tokio::time::sleep_until(until))),
        };
        // Without a server there is nobody to serve it.
        let _ = self.to.send(Ok(connection)).await;
    }
}

/// The handshake, or a word to whoever speaks another language.
pub(crate) async fn greet(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Io> {
    // A heartbeat must not wait for company.
    stream.set_nodelay(true)?;
    let mut first = [0; 3];
    let n = stream.peek(&mut first).await?;
    if n == 0 {
        return Err(io::Error::other("it was closed before it said anything"));
    }
    match (tls, first[0] == HANDSHAKE) {
        (None, false) => Ok(Io::Plain(stream)),
        (Some(tls), true) => {
            let handshake = TlsAcceptor::from(tls).accept(stream);
            match handshake.into_fallible().await {
                Ok(stream) => Ok(Io::Tls(Box::new(stream))),
                Err((error, stream)) => {
                    // Its side has been told, in an alert.
                    turn_away(stream, b"").await;
                    Err(error)
                }
            }
        }
        (None, true) => {
            // Not TLS, which is what its side will complain about.
            turn_away(stream, b"this port speaks plain text\n").await;
            Err(io::Error::other("TLS, and this port speaks plain text"))
        }
        (Some(_), false) => {
            const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
                Content-Type: text/plain\r\nContent-Length: 34\r\n\r\n\
                this port speaks TLS: use https://";
            if &first[..n] == b"PRI" {
                turn_away(stream, &go_away(USE_TLS)).await;
            } else {
                turn_away(stream, HTTP1).await;
            }
            Err(io::Error::other("plain text, and this port speaks TLS"))
        }
    }
}

/// What a plain-text client of a TLS port gets to read.
const USE_TLS: &[u8] = b"this port speaks TLS: use https://";

/// The beginning and the end of an HTTP/2 connection (RFC 9113, 6.5 and 6.8).
fn go_away(why: &[u8]) -> Vec<u8> {
    const INADEQUATE_SECURITY: u8 = 12;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let length = 8 + why.len() as u8;
    let head = [
        0,
        0,
        length,
        7,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        INADEQUATE_SECURITY,
    ];
    [&settings, &head[..], why].concat()
}

/// Says something and hangs up so that it is heard: what the other side has
/// still to say is read, or the system would answer it with a reset.
async fn turn_away(mut stream: TcpStream, words: &[u8]) {
    // Whoever does not listen is gone in any case.
    let _ = stream.write_all(words).await;
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    for _ in 0..16 {
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut rest)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return,
        }
    }
}

/// What is known of a connection; every call on it carries it.
#[derive(Debug)]
pub struct Arrival {
    /// Which way it came.
    pub door: Door,
    /// Where from.
    pub peer: SocketAddr,
    trusted: AtomicBool,
    refusals: AtomicU32,
    /// A stranger's place, free again when it is none any more.
    place: Mutex<Option<Place>>,
}

impl Arrival {
    fn new(door: Door, peer: SocketAddr, place: Place) -> Self {
        Self {
            door,
            peer,
            trusted: AtomicBool::new(false),
            refusals: AtomicU32::new(0),
            place: Mutex::new(Some(place)),
        }
    }

    /// A valid token was shown.
    pub(crate) fn trust(&self) {
        if !self.trusted.swap(true, Ordering::Relaxed) {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = place.take() {
                place.give_up_for_trust();
            }
        }
    }

    /// A wrong token was shown, or none.
    pub(crate) fn distrust(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection that the server may serve.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    arrival: Arc<Arrival>,
    /// How long it may go on without a token.
    patience: Option<Pin<Box<Sleep>>>,
}

/// What bytes come and go on.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// An error when a stranger has had its chance.
    fn bear(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(patience) = &mut self.patience else {
            return Ok(());
        };
        if self.arrival.trusted.load(Ordering::Relaxed) {
            self.patience = None;
            return Ok(());
        }
        let peer = self.arrival.peer;
        if self.arrival.refusals.load(Ordering::Relaxed) >= REFUSALS {
            tracing::warn!(%peer, "a connection was ended: too many calls without a valid token");
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if patience.as_mut().poll(context).is_ready() {
            tracing::warn!(%peer, "a connection was ended: it has shown no valid token");
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Arrival>;

    fn connect_info(&self) -> Arc<Arrival> {
        Arc::clone(&self.arrival)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.bear(context)?;
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_read(context, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_write(context, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_flush(context),
            Io::Tls(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(context),
            Io::Tls(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}
