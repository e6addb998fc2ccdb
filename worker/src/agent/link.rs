//! One connection to the coordinator: messages to a stream and back.

use std::time::Duration;

use common::math::NUMERIC_LEVEL;
use common::pb::wire::cluster_client::ClusterClient;
use common::pb::{LeaseDecoder, MESSAGE_LIMIT, wire};
use common::protocol::{CoordinatorMessage, WorkerMessage};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::connect::{Noted, Target};
use super::trouble::Trouble;
use super::{Inbox, Source};
use crate::session::{Disconnect, Event};

/// Messages that wait to be sent. A coordinator that lets so many pile up does
/// not read, and is left.
const OUTBOX: usize = 1024;

/// Header of a refusal with the address of the coordinator that leads, as
/// `HOST:PORT`. Coordinators know it, too.
const LEADER: &str = "sweep-leader";
/// Bytes of a host's name and a port.
const LONGEST_ADDRESS: usize = 260;

/// Puts the token into every call.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() {
            "Bearer(…)"
        } else {
            "Bearer(none)"
        })
    }
}

impl Bearer {
    /// Nothing to show.
    pub const NONE: Self = Self(None);

    /// With a token; nothing if it cannot stand in a header.
    pub fn new(token: &str) -> Option<Self> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
        value.set_sensitive(true);
        Some(Self(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A client of the coordinator's service.
#[derive(Clone, Debug)]
pub(super) struct Client(pub(super) ClusterClient<InterceptedService<Channel, Bearer>>);

impl Client {
    pub(super) fn new(channel: Channel, bearer: Bearer) -> Self {
        let client = ClusterClient::with_interceptor(channel, bearer)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Self(client)
    }
}

/// A connection, or the attempt at one.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) number: u64,
    outbox: mpsc::Sender<wire::WorkerMessage>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// With `known`, a coordinator that has welcomed this worker before: it is
    /// not given up for a certificate that does not fit at the moment.
    pub(super) fn open(
        number: u64,
        target: Target,
        bearer: Bearer,
        known: bool,
        inbox: Inbox,
    ) -> Self {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let task = tokio::spawn(async move {
            let said = |event| inbox.send((Source::Link(number), event));
            let why = match target.connect().await {
                Err(trouble) => unreachable(trouble, known),
                Ok((channel, noted)) => {
                    // Before the call is answered: the coordinator may want to
                    // hear the Hello first.
                    let _ = said(Event::Connected).await;
                    let client = Client::new(channel, bearer);
                    let broken = Broken { noted, known };
                    talk(client, messages, number, &broken, &inbox).await
                }
            };
            let _ = said(Event::Disconnected(why)).await;
        });
        Self {
            number,
            outbox,
            task,
        }
    }

    /// Queues a message.
    pub(super) fn send(&self, message: WorkerMessage) -> Result<(), String> {
        match self.outbox.try_send(message.into()) {
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err("the coordinator does not read".to_owned())
            }
            // It has ended: why is on its way as an event, perhaps with a hint.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Lets what is queued leave, and ends the connection.
    pub(super) async fn close(mut self, within: Duration) {
        let (outbox, _) = mpsc::channel(1);
        self.outbox = outbox;
        let _ = tokio::time::timeout(within, &mut self.task).await;
    }
}

/// Carries messages until the connection ends; why it ended.
async fn talk(
    client: Client,
    messages: mpsc::Receiver<wire::WorkerMessage>,
    number: u64,
    broken: &Broken,
    inbox: &Inbox,
) -> Disconnect {
    let mut client = client.0;
    let mut answers = match client.work(ReceiverStream::new(messages)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return broken.why(&status),
    };
    // Lives as long as the session, like its counterpart at the coordinator.
    let mut decoder = LeaseDecoder::default();
    loop {
        let message = match answers.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Disconnect::Retry("the coordinator ended the session".to_owned()),
            Err(status) => return broken.why(&status),
        };
        let message = match decoder.message(message) {
            Ok(message) => message,
            Err(error) => return Disconnect::Retry(format!("a message made no sense: {error}")),
        };
        if let CoordinatorMessage::Welcome(welcome) = &message
            && welcome.numeric_level != NUMERIC_LEVEL
        {
            let level = &welcome.numeric_level;
            return Disconnect::Refused(format!(
                "the sweep is computed at the numeric level {level}, this worker has {NUMERIC_LEVEL}"
            ));
        }
        if inbox
            .send((Source::Link(number), Event::Message(message)))
            .await
            .is_err()
        {
            return Disconnect::Retry("the worker ends".to_owned());
        }
    }
}

/// How a broken call is understood.
struct Broken {
    noted: Noted,
    known: bool,
}

impl Broken {
    /// The connection knows better than the call why it broke.
    fn why(&self, status: &Status) -> Disconnect {
        match self.noted.get() {
            Some(trouble) => unreachable(trouble, self.known),
            None => ended(status),
        }
    }
}

/// Whether a call that ended so is worth another try.
fn ended(status: &Status) -> Disconnect {
    let why = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    let leader = status.metadata().get(LEADER);
    let leader = leader.and_then(|leader| leader.to_str().ok());
    if let Some(leader) = leader.filter(|leader| leader.len() <= LONGEST_ADDRESS)
        && status.code() == Code::Unavailable
    {
        let leader = leader.to_owned();
        return Disconnect::Elsewhere { leader, why };
    }
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::Unimplemented => Disconnect::Refused(why),
        _ => Disconnect::Retry(why),
    }
}

/// What no answer means for the worker.
fn unreachable(trouble: Trouble, known: bool) -> Disconnect {
    if trouble.lasting && !known {
        Disconnect::Refused(trouble.why)
    } else {
        Disconnect::Retry(trouble.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_token_is_not_tried_again_and_a_broken_stream_is() {
        for code in [
            Code::Unauthenticated,
            Code::FailedPrecondition,
            Code::InvalidArgument,
        ] {
            assert_eq!(
                ended(&Status::new(code, "no")),
                Disconnect::Refused("no".into())
            );
        }
        for code in [
            Code::Unavailable,
            Code::Unknown,
            Code::Aborted,
            Code::ResourceExhausted,
        ] {
            assert_eq!(
                ended(&Status::new(code, "no")),
                Disconnect::Retry("no".into())
            );
        }
    }

    #[test]
    fn a_standby_that_names_the_leader_is_understood() {
        let mut status = Status::unavailable("no");
        status
            .metadata_mut()
            .insert(LEADER, "b:7070".parse().unwrap());
        let (leader, why) = ("b:7070".into(), "no".into());
        assert_eq!(ended(&status), Disconnect::Elsewhere { leader, why });
        let mut status = Status::unauthenticated("no");
        status
            .metadata_mut()
            .insert(LEADER, "b:7070".parse().unwrap());
        assert_eq!(ended(&status), Disconnect::Refused("no".into()));
    }

    #[test]
    fn a_token_is_never_printed_and_must_fit_a_header() {
        let bearer = Bearer::new("secret").unwrap();
        assert!(!format!("{bearer:?}").contains("secret"));
        assert!(Bearer::new("two\nlines").is_none());
    }
}
