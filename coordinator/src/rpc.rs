//! gRPC sessions to events and back; no decisions.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use common::ids::BlobId;
use common::pb::{FieldError, LeaseEncoder, MESSAGE_LIMIT, hello_of, wire};
use common::protocol::WorkerMessage;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};
use wire::cluster_server::{Cluster, ClusterServer};

use crate::core::{Event, SessionId};
use crate::driver::{Handle, Input, Outgoing};
use crate::guard::Guard;
use crate::store::Store;

/// Time for the first message of a session.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a file in one message.
const CHUNK: usize = 1 << 20;
/// Messages that a session may be ahead of the driver. Whoever sends faster is
/// not read, and in the end cannot write.
const AHEAD: u32 = 64;

/// Header of a refusal with the address of the coordinator that leads, as
/// `HOST:PORT`. Workers know it, too.
const LEADER: &str = "sweep-leader";

/// What a coordinator is to those who call: it leads, or knows who does.
#[derive(Debug)]
pub struct Stage<S> {
    active: OnceLock<Active<S>>,
    leads: watch::Sender<bool>,
    leader: Mutex<Option<String>>,
    stands_by: AtomicBool,
}

/// What a coordinator does with its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It opens it.
    Starting,
    /// Another one leads; this one waits for its end.
    StandingBy,
    /// It leads.
    Leading,
}

/// What calls are passed on to.
#[derive(Debug)]
struct Active<S> {
    handle: Handle,
    store: Arc<S>,
}

impl<S> Default for Stage<S> {
    fn default() -> Self {
        Self {
            active: OnceLock::new(),
            leads: watch::Sender::new(false),
            leader: Mutex::new(None),
            stands_by: AtomicBool::new(false),
        }
    }
}

impl<S> Stage<S> {
    /// Names the leader to those who call.
    pub fn follow(&self, leader: Option<String>) {
        self.stands_by.store(true, Ordering::Relaxed);
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    /// From now on calls are carried out.
    pub fn lead(&self, handle: Handle, store: Arc<S>) {
        // Who leads once leads to the end of the process.
        let _ = self.active.set(Active { handle, store });
        self.leads.send_replace(true);
    }

    /// What this coordinator does at the moment.
    pub fn role(&self) -> Role {
        if *self.leads.borrow() {
            Role::Leading
        } else if self.stands_by.load(Ordering::Relaxed) {
            Role::StandingBy
        } else {
            Role::Starting
        }
    }

    /// Comes when this coordinator leads.
    pub async fn leads(&self) {
        // The sender is ours, so it is there.
        let _ = self.leads.subscribe().wait_for(|leads| *leads).await;
    }

    fn active(&self) -> Result<&Active<S>, Status> {
        self.active.get().ok_or_else(|| {
            let leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(leader) = leader.as_deref() else {
                return Status::unavailable("this coordinator does not lead (yet)");
            };
            let mut status =
                Status::unavailable(format!("this coordinator stands by; {leader} leads"));
            if let Ok(value) = leader.parse() {
                status.metadata_mut().insert(LEADER, value);
            }
            status
        })
    }
}

/// What workers call.
#[derive(Debug)]
pub struct Service<S> {
    stage: Arc<Stage<S>>,
    last_session: AtomicU64,
}

/// The service for a server; the guard sees a call before its message is read.
pub fn service<S: Store>(
    stage: Arc<Stage<S>>,
    guard: Guard,
) -> InterceptedService<ClusterServer<Service<S>>, Guard> {
    let service = ClusterServer::new(Service {
        stage,
        last_session: AtomicU64::new(0),
    });
    let limited = service
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    InterceptedService::new(limited, guard)
}

type Chunks = Pin<Box<dyn Stream<Item = Result<wire::BlobChunk, Status>> + Send>>;
type Messages = Pin<Box<dyn Stream<Item = Result<wire::CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> Cluster for Service<S> {
    type WorkStream = Messages;
    type FetchBlobStream = Chunks;

    async fn work(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let active = self.stage.active()?;
        let number = self.last_session.fetch_add(1, Ordering::Relaxed) + 1;
        let session = SessionId(number);
        let (outgoing, messages) = mpsc::unbounded_channel();
        tokio::spawn(listen(
            active.handle.clone(),
            session,
            outgoing,
            request.into_inner(),
        ));
        let mut encoder = LeaseEncoder::default();
        let messages = UnboundedReceiverStream::new(messages)
            .map(move |message| message.map(|message| encoder.message(message)));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn fetch_blob(
        &self,
        request: Request<wire::FetchBlobRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let sha256 = request.into_inner().sha256;
        let id = BlobId::try_from(sha256.as_ref())
            .map_err(|e| Status::invalid_argument(format!("sha256: {e}")))?;
        let content = self.stage.active()?.store.blob(id).await.map_err(|error| {
            tracing::error!(%error, "a content cannot be read");
            Status::unavailable("the store cannot be read at the moment")
        })?;
        let Some(content) = content else {
            return Err(Status::not_found(format!("no content has the hash {id}")));
        };
        let starts = (0..content.len().max(1)).step_by(CHUNK);
        let chunks: Vec<_> = starts
            .map(|start| {
                let end = content.len().min(start + CHUNK);
                Ok(wire::BlobChunk {
                    content: content.slice(start..end),
                })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// Passes a session's messages on until its stream ends.
async fn listen(
    handle: Handle,
    session: SessionId,
    outgoing: Outgoing,
    mut incoming: Streaming<wire::WorkerMessage>,
) {
    let hello = match tokio::time::timeout(PATIENCE, incoming.message()).await {
        Ok(Ok(Some(message))) => hello_of(message),
        Ok(Ok(None)) => return,
        Ok(Err(status)) => {
            unreadable(&outgoing, status);
            return;
        }
        Err(_) => {
            let _ = outgoing.send(Err(Status::deadline_exceeded("no hello came")));
            return;
        }
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) => {
            nonsense(&outgoing, &error);
            return;
        }
    };
    let event = Event::Hello { session, hello };
    handle.send(Input::Attach {
        session,
        outgoing: outgoing.clone(),
        event,
    });
    let mut ahead = 0;
    loop {
        ahead += 1;
        if ahead >= AHEAD {
            ahead = 0;
            // Answered after everything before it.
            handle.look(|_| ()).await;
        }
        let message = tokio::select! {
            message = incoming.message() => message,
            // The driver has ended the session.
            () = outgoing.closed() => break,
        };
        match message {
            Ok(Some(message)) => match WorkerMessage::try_from(message) {
                Ok(message) => handle.event(event_of(session, message)),
                Err(error) => {
                    nonsense(&outgoing, &error);
                    break;
                }
            },
            Ok(None) => break,
            Err(status) => {
                unreadable(&outgoing, status);
                break;
            }
        }
    }
    handle.event(Event::Closed { session });
}

/// A message that is too large or damaged, or a stream that broke.
fn unreadable(outgoing: &Outgoing, status: Status) {
    tracing::warn!(%status, "a worker's message cannot be read");
    // On a broken stream nobody hears it.
    let _ = outgoing.send(Err(status));
}

fn nonsense(outgoing: &Outgoing, error: &FieldError) {
    tracing::warn!(%error, "a worker's message makes no sense");
    let _ = outgoing.send(Err(Status::invalid_argument(error.to_string())));
}

fn event_of(session: SessionId, message: WorkerMessage) -> Event {
    match message {
        WorkerMessage::Hello(hello) => Event::Hello { session, hello },
        WorkerMessage::Credit { window } => Event::Credit { session, window },
        WorkerMessage::Heartbeat(heartbeat) => Event::Heartbeat { session, heartbeat },
        WorkerMessage::Reports(reports) => Event::Reports {
            session,
            reports: reports.into_iter().map(Into::into).collect(),
        },
        WorkerMessage::Draining => Event::Draining { session },
    }
}
