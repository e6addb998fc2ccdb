//! gRPC sessions to events and back; no decisions.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use common::ids::BlobId;
use common::pb::{FieldError, LeaseEncoder, MESSAGE_LIMIT, hello_of, wire};
use common::protocol::WorkerMessage;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc, watch};
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
/// Different files that are on their way at a time; who wants another one waits.
const FILES: usize = 16;
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
    contents: Contents,
}

/// Files on their way to workers: each is in memory once, however many fetch it.
#[derive(Debug)]
struct Contents {
    sent: Mutex<HashMap<BlobId, Weak<Content>>>,
    places: Arc<Semaphore>,
}

/// A file, once it is read, and its place.
type Content = OnceCell<(Bytes, OwnedSemaphorePermit)>;

impl Contents {
    fn new(files: usize) -> Self {
        Self {
            sent: Mutex::default(),
            places: Arc::new(Semaphore::new(files)),
        }
    }

    /// A file that is being sent already, or else is read now; and what keeps it known to others
    /// for as long as the caller has it.
    async fn get<F>(
        &self,
        id: BlobId,
        read: impl FnOnce() -> F,
    ) -> Result<(Bytes, Arc<Content>), Status>
    where
        F: Future<Output = Result<Bytes, Status>>,
    {
        let content = {
            let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.retain(|_, content| content.strong_count() > 0);
            let known = sent.get(&id).and_then(Weak::upgrade);
            let content = known.unwrap_or_default();
            sent.insert(id, Arc::downgrade(&content));
            content
        };
        let fetch = async || {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.map_err(|_| Status::unavailable("no files are sent any more"))?;
            Ok::<_, Status>((read().await?, place))
        };
        let (bytes, _) = content.get_or_try_init(fetch).await?;
        Ok((bytes.clone(), content))
    }
}

/// The service for a server; the guard sees a call before its message is read.
pub fn service<S: Store>(
    stage: Arc<Stage<S>>,
    guard: Guard,
) -> InterceptedService<ClusterServer<Service<S>>, Guard> {
    let service = ClusterServer::new(Service {
        stage,
        last_session: AtomicU64::new(0),
        contents: Contents::new(FILES),
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
        let store = &self.stage.active()?.store;
        let read = async || {
            let content = store.blob(id).await.map_err(|error| {
                tracing::error!(%error, "a content cannot be read");
                Status::unavailable("the store cannot be read at the moment")
            })?;
            content.ok_or_else(|| Status::not_found(format!("no content has the hash {id}")))
        };
        let (bytes, content) = self.contents.get(id, read).await?;
        let chunks = (0..bytes.len().max(1)).step_by(CHUNK).map(move |start| {
            // Known to others until the last chunk is on its way.
            let _ = &content;
            let end = bytes.len().min(start + CHUNK);
            Ok(wire::BlobChunk {
                content: bytes.slice(start..end),
            })
        });
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

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn who_fetches_a_file_that_is_being_sent_shares_it_and_another_one_waits_for_its_place() {
        let contents = Contents::new(1);
        let reads = AtomicU64::new(0);
        let read = || {
            reads.fetch_add(1, Ordering::Relaxed);
            ready(Ok(Bytes::from(vec![7; 9])))
        };
        let (one, two) = (BlobId([1; 32]), BlobId([2; 32]));
        let (first, second) = tokio::join!(contents.get(one, read), contents.get(one, read));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.0.as_ptr(), second.0.as_ptr());
        assert_eq!(reads.load(Ordering::Relaxed), 1);

        let mut other = pin!(contents.get(two, read));
        tokio::select! {
            biased;
            _ = &mut other => panic!("there is no place for it"),
            () = ready(()) => {}
        }
        drop(first);
        // The second one still has it.
        let third = contents.get(one, read).await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        drop((second, third));
        other.await.unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        // What cannot be had is asked for again by the next one.
        let lost = || ready(Err(Status::not_found("")));
        contents.get(one, lost).await.unwrap_err();
        contents.get(one, read).await.unwrap();
        assert_eq!(contents.sent.lock().unwrap().len(), 1);
    }
}
