//! A coordinator without a mind: it says what the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use common::pb::wire::cluster_server::{Cluster, ClusterServer};
use common::pb::{LeaseEncoder, MESSAGE_LIMIT, wire};
use common::protocol::{
    CoordinatorMessage, Hello, Lease, LeaseId, PROTOCOL, Receipt, ReceiptStatus, Report, Welcome,
    WorkerMessage,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Blobs = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// The server, and the sessions that workers open.
pub(crate) struct Coordinator {
    pub(crate) url: String,
    sessions: mpsc::UnboundedReceiver<Opened>,
    blobs: Blobs,
    server: tokio::task::JoinHandle<()>,
}

struct Opened {
    from: Streaming<wire::WorkerMessage>,
    to: mpsc::Sender<Result<wire::CoordinatorMessage, Status>>,
}

struct Service {
    token: String,
    sessions: mpsc::UnboundedSender<Opened>,
    blobs: Blobs,
}

impl Service {
    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let expected = (!self.token.is_empty()).then(|| format!("Bearer {}", self.token));
        let found = request
            .metadata()
            .get("authorization")
            .map(|v| v.to_str().unwrap().to_owned());
        if found == expected {
            Ok(())
        } else {
            Err(Status::unauthenticated("wrong token"))
        }
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    type WorkStream = ReceiverStream<Result<wire::CoordinatorMessage, Status>>;
    type FetchBlobStream = ReceiverStream<Result<wire::BlobChunk, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<wire::WorkerMessage>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        self.check(&request)?;
        let (to, messages) = mpsc::channel(64);
        let _ = self.sessions.send(Opened {
            from: request.into_inner(),
            to,
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn fetch_blob(
        &self,
        request: Request<wire::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        self.check(&request)?;
        let content = self
            .blobs
            .lock()
            .unwrap()
            .get(&request.get_ref().sha256[..])
            .cloned();
        let content = content.ok_or_else(|| Status::not_found("no such content"))?;
        let (to, chunks) = mpsc::channel(64);
        for chunk in content.chunks(7) {
            to.send(Ok(wire::BlobChunk {
                content: chunk.to_vec().into(),
            }))
            .await
            .unwrap();
        }
        Ok(Response::new(ReceiverStream::new(chunks)))
    }
}

impl Coordinator {
    pub(crate) async fn start(token: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (opened, sessions) = mpsc::unbounded_channel();
        let blobs = Blobs::default();
        let service = Service {
            token: token.to_owned(),
            sessions: opened,
            blobs: blobs.clone(),
        };
        let service = ClusterServer::new(service).max_decoding_message_size(MESSAGE_LIMIT);
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            url,
            sessions,
            blobs,
            server,
        }
    }

    pub(crate) fn serve_blob(&self, sha256: [u8; 32], content: &[u8]) {
        self.blobs
            .lock()
            .unwrap()
            .insert(sha256.to_vec(), content.to_vec());
    }

    /// The next session, welcomed, with its Hello.
    pub(crate) async fn session(&mut self) -> (Session, Hello) {
        let opened = self.sessions.recv().await.unwrap();
        let mut session = Session {
            from: opened.from,
            to: opened.to,
            encoder: LeaseEncoder::default(),
        };
        let WorkerMessage::Hello(hello) = session.next().await else {
            panic!("no Hello")
        };
        let welcome = Welcome {
            protocol: PROTOCOL,
            epoch: 1,
            lease_ms: 30_000,
            heartbeat_ms: 20,
            drop: Vec::new(),
            numeric_level: hello.profile.numeric_levels[0].clone(),
        };
        session.say(CoordinatorMessage::Welcome(welcome)).await;
        (session, hello)
    }

    /// Whether no session was opened that nobody has taken.
    pub(crate) fn no_other_session(&mut self) -> bool {
        self.sessions.try_recv().is_err()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One session, from the coordinator's side.
pub(crate) struct Session {
    from: Streaming<wire::WorkerMessage>,
    to: mpsc::Sender<Result<wire::CoordinatorMessage, Status>>,
    encoder: LeaseEncoder,
}

impl Session {
    pub(crate) async fn say(&mut self, message: CoordinatorMessage) {
        let message = self.encoder.message(message);
        self.to.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> WorkerMessage {
        let message = self.from.message().await.unwrap();
        message
            .expect("the worker ended the session")
            .try_into()
            .unwrap()
    }

    pub(crate) async fn lease(&mut self, leases: Vec<Lease>) {
        self.say(CoordinatorMessage::Leases(leases)).await;
    }

    pub(crate) async fn drain(&mut self, finished: bool) {
        let reason = "the test is over".to_owned();
        self.say(CoordinatorMessage::Drain {
            reason,
            finished,
            waits: None,
        })
        .await;
    }

    /// The next `n` reports, in the order of their attempts.
    pub(crate) async fn reports_unacknowledged(&mut self, n: usize) -> Vec<Report> {
        let mut reports = Vec::new();
        while reports.len() < n {
            if let WorkerMessage::Reports(batch) = self.next().await {
                reports.extend(batch);
            }
        }
        reports.sort_by_key(|report| report.lease.attempt);
        reports
    }

    /// The same, acknowledged.
    pub(crate) async fn reports(&mut self, n: usize) -> Vec<Report> {
        let reports = self.reports_unacknowledged(n).await;
        let receipt = |lease: LeaseId| Receipt {
            lease,
            status: ReceiptStatus::Recorded,
            detail: String::new(),
        };
        let receipts = reports.iter().map(|report| receipt(report.lease)).collect();
        self.say(CoordinatorMessage::Receipts(receipts)).await;
        reports
    }
}
