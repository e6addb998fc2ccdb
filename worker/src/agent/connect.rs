//! The way to the coordinator: TCP, TLS, and why it is barred.
//!
//! TLS is made here and not by the client's library, because that one keeps
//! the reason of a failure to itself. A connection notes the first trouble
//! that it meets; whoever sees a call fail asks it why.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::trouble::{Trouble, of_io};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Where the coordinator is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Settings of HTTP/2, with the address; its scheme is of no meaning.
    pub endpoint: Endpoint,
    /// Host, without the brackets of IPv6.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS, and the name that the coordinator's certificate must have; plain
    /// text if `None`.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// The first trouble that a connection met.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted(Arc<OnceLock<Trouble>>);

impl Noted {
    pub(super) fn get(&self) -> Option<Trouble> {
        self.0.get().cloned()
    }

    fn note(&self, trouble: Trouble) {
        // The first one is the cause of all others.
        let _ = self.0.set(trouble);
    }
}

impl Target {
    /// Connects.
    pub(super) async fn connect(&self) -> Result<(Channel, Noted), Trouble> {
        let noted = Noted::default();
        let (target, to) = (self.clone(), noted.clone());
        let dial = service_fn(move |_: Uri| dial(target.clone(), to.clone()));
        match self.endpoint.connect_with_connector(dial).await {
            Ok(channel) => Ok((channel, noted)),
            Err(error) => Err(noted
                .get()
                .unwrap_or_else(|| Trouble::passing(&innermost(&error)))),
        }
    }

    /// A channel that connects when it is used, again and again.
    pub(super) fn connect_lazily(&self) -> Channel {
        let target = self.clone();
        let dial = service_fn(move |_: Uri| dial(target.clone(), Noted::default()));
        self.endpoint.connect_with_connector_lazy(dial)
    }
}

async fn dial(target: Target, noted: Noted) -> io::Result<TokioIo<Connection>> {
    let io = reach(&target)
        .await
        .inspect_err(|error| noted.note(of_io(error)))?;
    Ok(TokioIo::new(Connection {
        io,
        noted,
        heard: false,
    }))
}

async fn reach(target: &Target) -> io::Result<Io> {
    let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what}: no answer"));
    let address = (target.host.as_str(), target.port);
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(address))
        .await
        .map_err(|_| late("connecting"))??;
    stream.set_nodelay(true)?;
    let Some((config, name)) = &target.tls else {
        return Ok(Io::Plain(stream));
    };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
    let stream = tokio::time::timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| late("the TLS handshake"))??;
    Ok(Io::Tls(Box::new(stream)))
}

/// A connection that notes what goes wrong.
#[derive(Debug)]
struct Connection {
    io: Io,
    noted: Noted,
    /// Something has been read.
    heard: bool,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a coordinator with TLS says to plain text, in an HTTP/2 frame.
const USE_TLS: &[u8] = b"this port speaks TLS";

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let (read, plain) = match &mut self.io {
            Io::Plain(io) => (Pin::new(io).poll_read(context, buffer), true),
            Io::Tls(io) => (Pin::new(io).poll_read(context, buffer), false),
        };
        match &read {
            Poll::Ready(Err(error)) => self.noted.note(of_io(error)),
            Poll::Ready(Ok(())) if !self.heard => {
                self.heard = true;
                let first = &buffer.filled()[before..];
                if plain && first.windows(USE_TLS.len()).any(|part| part == USE_TLS) {
                    self.noted.note(Trouble::tls_wanted());
                }
            }
            _ => {}
        }
        read
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

/// The cause behind "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
