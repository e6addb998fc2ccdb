//! The stream to the coordinator.

use std::time::Duration;

use common::pb::{LeaseDecoder, MESSAGE_LIMIT, wire};
use common::protocol::WorkerMessage;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wire::cluster_client::ClusterClient;

use super::{Input, Settings, Token};
use crate::session::{Disconnect, Event};

/// Time to make a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time between two pings of an idle connection, and to their answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// At most one connection at a time.
pub(super) struct Link {
    url: String,
    token: Token,
    inputs: mpsc::UnboundedSender<Input>,
    /// Number of the current connection; news of earlier ones are dropped.
    current: u64,
    outgoing: Option<mpsc::UnboundedSender<wire::WorkerMessage>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// News of a connection.
pub(super) struct FromLink {
    connection: u64,
    news: News,
}

enum News {
    Up {
        outgoing: mpsc::UnboundedSender<wire::WorkerMessage>,
        channel: Channel,
    },
    Event(Event),
}

impl Link {
    pub(super) fn new(settings: &Settings, inputs: mpsc::UnboundedSender<Input>) -> Self {
        Self {
            url: settings.connect.clone(),
            token: settings.token.clone(),
            inputs,
            current: 0,
            outgoing: None,
            task: None,
        }
    }

    /// What news means to the session, with the channel that it brought.
    pub(super) fn news(&mut self, from: FromLink) -> Option<(Event, Option<Channel>)> {
        if from.connection != self.current {
            return None;
        }
        match from.news {
            News::Up { outgoing, channel } => {
                self.outgoing = Some(outgoing);
                Some((Event::Connected, Some(channel)))
            }
            News::Event(event) => {
                if let Event::Disconnected(why) = &event {
                    tracing::info!(?why, "disconnected");
                    self.outgoing = None;
                }
                Some((event, None))
            }
        }
    }

    pub(super) fn connect(&mut self) {
        self.disconnect();
        let connection = Connection {
            number: self.current,
            inputs: self.inputs.clone(),
        };
        let (url, token) = (self.url.clone(), self.token.clone());
        self.task = Some(tokio::spawn(async move {
            let why = connection.run(url, token).await;
            connection.tell(News::Event(Event::Disconnected(why)));
        }));
    }

    pub(super) fn send(&mut self, message: WorkerMessage) {
        if let Some(outgoing) = &self.outgoing {
            // A connection that has just ended says so itself.
            let _ = outgoing.send(message.into());
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.current += 1;
        self.outgoing = None;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

struct Connection {
    number: u64,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Connection {
    fn tell(&self, news: News) {
        let connection = self.number;
        // Nobody listens any more when the worker is ending.
        let _ = self.inputs.send(Input::Link(FromLink { connection, news }));
    }

    async fn run(&self, url: String, token: Token) -> Disconnect {
        let endpoint = match Endpoint::from_shared(url) {
            Ok(endpoint) => endpoint
                .connect_timeout(CONNECT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE),
            Err(error) => return Disconnect::Refused(error.to_string()),
        };
        let channel = match endpoint.connect().await {
            Ok(channel) => channel,
            Err(error) => return Disconnect::Retry(chain(&error)),
        };
        let mut client = ClusterClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let (outgoing, messages) = mpsc::unbounded_channel();
        let request = match authorised(UnboundedReceiverStream::new(messages), &token) {
            Ok(request) => request,
            Err(error) => return Disconnect::Refused(error),
        };
        // The Hello goes out while the call waits for the first answer.
        self.tell(News::Up { outgoing, channel });
        let mut incoming = match client.work(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return disconnect_of(&status),
        };
        let mut decoder = LeaseDecoder::default();
        loop {
            match incoming.message().await {
                Ok(Some(message)) => match decoder.message(message) {
                    Ok(message) => self.tell(News::Event(Event::Message(message))),
                    Err(error) => {
                        tracing::error!(%error, "the coordinator's message makes no sense");
                        return Disconnect::Retry(error.to_string());
                    }
                },
                Ok(None) => return Disconnect::Retry("the coordinator ended the stream".into()),
                Err(status) => return disconnect_of(&status),
            }
        }
    }
}

/// A request with the token.
pub(super) fn authorised<T>(message: T, token: &Token) -> Result<Request<T>, String> {
    let mut request = Request::new(message);
    if !token.0.is_empty() {
        let mut value: tonic::metadata::MetadataValue<_> = format!("Bearer {}", token.0)
            .parse()
            .map_err(|_| "the token has characters that no header may have".to_owned())?;
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
    Ok(request)
}

fn disconnect_of(status: &Status) -> Disconnect {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::Unimplemented => Disconnect::Refused(message),
        code => Disconnect::Retry(format!("{code}: {message}")),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
