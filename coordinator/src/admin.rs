//! The administration's calls: sweeps come, are watched and changed. See
//! `proto/sweep/v1/admin.proto`.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::ids::{BlobId, TaskId};
use common::pb::wire;
use common::protocol::SweepNumber;
use common::summary::VerdictCounts;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status, Streaming};
use wire::admin_server::{Admin, AdminServer};

use crate::core::{Control, Core, SweepState};
use crate::explain;
use crate::export::whole::{self, Format};
use crate::guard::AdminGuard;
use crate::outcomes;
use crate::pace::Estimate;
use crate::store::{Store, StoreError};
use crate::submission::Submission;
use crate::sweeps::{Seen, Sweeps};
use crate::verify;

/// Bytes of one message: a grid file, or a piece of a file.
const MESSAGE: usize = 8 << 20;
/// Bytes of one uploaded file.
const FILE: usize = 1 << 30;
/// Files of one grid.
const FILES: usize = 1_000;
/// Bytes of all files of one grid.
const ALL_FILES: usize = 2 << 30;
/// Time between two looks of a watcher.
const LOOK: Duration = Duration::from_millis(500);

/// What the calls are passed on to, once this coordinator leads.
#[derive(Debug)]
pub struct Desk<S>(OnceLock<Arc<Sweeps<S>>>);

impl<S> Default for Desk<S> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<S> Desk<S> {
    /// From now on calls are carried out.
    pub fn open(&self, sweeps: Arc<Sweeps<S>>) {
        // Once open it is open to the end of the process.
        let _ = self.0.set(sweeps);
    }

    fn sweeps(&self) -> Result<&Arc<Sweeps<S>>, Status> {
        self.0.get().ok_or_else(|| {
            Status::unavailable(
                "this coordinator takes no sweeps: it stands by, is starting, or carries out one \
                 grid alone",
            )
        })
    }
}

/// The service.
#[derive(Debug)]
pub struct Service<S>(Arc<Desk<S>>);

/// The service for a server; the guard sees a call before its message is read.
pub fn service<S: Store>(
    desk: Arc<Desk<S>>,
    guard: AdminGuard,
) -> InterceptedService<AdminServer<Service<S>>, AdminGuard> {
    let limited = AdminServer::new(Service(desk)).max_decoding_message_size(MESSAGE);
    InterceptedService::new(limited, guard)
}

fn store_trouble(error: &StoreError) -> Status {
    tracing::error!(%error, "the store fails");
    Status::unavailable(format!("the store cannot be used at the moment: {error}"))
}

fn blob_id(sha256: &[u8]) -> Result<BlobId, Status> {
    BlobId::try_from(sha256).map_err(|e| Status::invalid_argument(format!("sha256: {e}")))
}

fn unknown(number: u32) -> Status {
    Status::not_found(format!("there is no sweep {number}"))
}

/// A sweep as it is sent.
pub(crate) fn status(seen: &Seen) -> wire::SweepStatus {
    let (stored, moment) = (&seen.stored, &seen.moment);
    wire::SweepStatus {
        sweep: stored.number.0,
        id: stored.text.id.clone(),
        name: stored.text.name.clone(),
        state: stored.state.name().to_owned(),
        priority: stored.text.priority,
        planned: moment.planned,
        recorded: moment.recorded,
        failed: moment.failed,
        leased: moment.leased,
        certified: moment.certified,
        violations: moment.violations,
        violations_inside: Some(moment.violations_inside),
        worst_excess: moment.worst_excess,
        workers: moment.workers,
        slots: moment.slots,
        verdicts: Some(verdicts(&moment.verdicts)),
        computed: moment.computed,
        computed_seconds: moment.computed_seconds,
        work_left: moment.work_left.map(estimate),
        rate: moment.rate,
        time_left: moment.left.map(estimate),
    }
}

fn estimate(left: Estimate) -> wire::WorkLeft {
    wire::WorkLeft {
        seconds: left.seconds,
        low95: left.interval.map(|(low, _)| low),
        high95: left.interval.map(|(_, high)| high),
    }
}

fn verdicts(counts: &VerdictCounts) -> wire::Verdicts {
    wire::Verdicts {
        certified_minimum: counts.certified_minimum,
        violation: counts.violation,
        saddle: counts.saddle,
        kink: counts.kink,
        diverging: counts.diverging,
        budget_exhausted: counts.budget_exhausted,
        non_finite: counts.non_finite,
    }
}

fn outcomes_chunk(batch: outcomes::Batch) -> wire::OutcomesChunk {
    let run = |run: outcomes::Outcome| wire::RunOutcome {
        cell: run.cell,
        seed: run.seed,
        start: run.start,
        value: run.value,
        certified: run.certified,
        baseline: run.baseline,
    };
    wire::OutcomesChunk {
        cells: batch.cells,
        runs: batch.runs.into_iter().map(run).collect(),
    }
}

/// Pieces of a file that wait for a client.
const PIECES: usize = 4;

type Chunks = Pin<Box<dyn Stream<Item = Result<wire::ExportChunk, Status>> + Send>>;
type Outcomes = Pin<Box<dyn Stream<Item = Result<wire::OutcomesChunk, Status>> + Send>>;
type Statuses = Pin<Box<dyn Stream<Item = Result<wire::SweepStatus, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> Admin for Service<S> {
    type WatchStream = Statuses;
    type ExportStream = Chunks;
    type OutcomesStream = Outcomes;

    async fn upload(
        &self,
        request: Request<Streaming<wire::UploadChunk>>,
    ) -> Result<Response<wire::UploadReply>, Status> {
        let sweeps = self.0.sweeps()?;
        let mut chunks = request.into_inner();
        let mut content = BytesMut::new();
        while let Some(chunk) = chunks.message().await? {
            if content.len() + chunk.content.len() > FILE {
                return Err(Status::resource_exhausted(format!(
                    "a file may have at most {FILE} bytes"
                )));
            }
            content.extend_from_slice(&chunk.content);
        }
        let content = content.freeze();
        let id = BlobId(Sha256::digest(&content).into());
        let kept = sweeps.store().put_blob(id, content).await;
        kept.map_err(|e| store_trouble(&e))?;
        Ok(Response::new(wire::UploadReply {
            sha256: Bytes::copy_from_slice(&id.0),
        }))
    }

    async fn missing(
        &self,
        request: Request<wire::MissingRequest>,
    ) -> Result<Response<wire::MissingReply>, Status> {
        let sweeps = self.0.sweeps()?;
        let mut missing = Vec::new();
        for sha256 in request.into_inner().sha256.into_iter().take(FILES) {
            let content = sweeps.store().blob(blob_id(&sha256)?).await;
            if content.map_err(|e| store_trouble(&e))?.is_none() {
                missing.push(sha256);
            }
        }
        Ok(Response::new(wire::MissingReply { sha256: missing }))
    }

    async fn submit(
        &self,
        request: Request<wire::SubmitRequest>,
    ) -> Result<Response<wire::SweepStatus>, Status> {
        let sweeps = self.0.sweeps()?;
        let request = request.into_inner();
        let submission = Submission {
            files: contents(sweeps.store().as_ref(), request.files).await?,
            name: request.name,
            text: request.grid,
        };
        let read = tokio::task::spawn_blocking(move || submission.read_new()).await;
        let (grid, data) = read
            .map_err(|e| Status::internal(e.to_string()))?
            .map_err(Status::invalid_argument)?;
        let added = sweeps.add(grid, data, request.priority).await;
        let stored = added.map_err(|e| store_trouble(&e))?;
        tracing::info!(
            sweep = stored.number.0,
            name = stored.text.name,
            "a sweep was submitted"
        );
        self.one(stored.number.0).await.map(Response::new)
    }

    async fn list(
        &self,
        _: Request<wire::ListRequest>,
    ) -> Result<Response<wire::ListReply>, Status> {
        let sweeps = self.0.sweeps()?;
        let all = sweeps.all().await.map_err(|e| store_trouble(&e))?;
        let now = sweeps.handle().look(Core::status).await.unwrap_or_default();
        let workers = now.workers.iter().map(|w| wire::WorkerStatus {
            name: w.profile.name.clone(),
            host: w.profile.host.clone(),
            slots: w.profile.slots,
            connected: w.attached,
            draining: w.draining,
            held: w.held as u64,
            memory: w.memory,
            task_seconds: w.task_seconds,
        });
        Ok(Response::new(wire::ListReply {
            sweeps: all.iter().map(status).collect(),
            workers: workers.collect(),
            store_failing: now.store_failing,
        }))
    }

    async fn watch(
        &self,
        request: Request<wire::SweepRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let number = SweepNumber(request.into_inner().sweep);
        let sweeps = Arc::clone(self.0.sweeps()?);
        let (to, statuses) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let (message, last) = match sweeps.one(number).await {
                    Ok(Some(seen)) => {
                        let over =
                            !matches!(seen.stored.state, SweepState::Running | SweepState::Paused);
                        (Ok(status(&seen)), over)
                    }
                    Ok(None) => (Err(unknown(number.0)), true),
                    Err(error) => (Err(store_trouble(&error)), true),
                };
                if to.send(message).await.is_err() || last {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(statuses))))
    }

    async fn summary(
        &self,
        request: Request<wire::SweepRequest>,
    ) -> Result<Response<wire::SummaryReply>, Status> {
        let number = request.into_inner().sweep;
        let found = self.0.sweeps()?.summary(SweepNumber(number)).await;
        match found.map_err(Status::unavailable)? {
            Some(summary) => Ok(Response::new(wire::SummaryReply {
                json: summary.to_json().into(),
            })),
            None => Err(unknown(number)),
        }
    }

    async fn export(
        &self,
        request: Request<wire::ExportRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let request = request.into_inner();
        let format: Format = (request.format.parse())
            .map_err(|e: whole::NoFormat| Status::invalid_argument(e.to_string()))?;
        let sweeps = Arc::clone(self.0.sweeps()?);
        let kept = sweeps.kept(SweepNumber(request.sweep)).await;
        let kept = kept.map_err(Status::unavailable)?;
        let kept = kept.ok_or_else(|| unknown(request.sweep))?;
        let (to, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let file = Pieces(to.clone());
            let written = whole::write(sweeps.store().as_ref(), kept, format, file).await;
            if let Err((_, message)) = written {
                // Nobody may be listening any more.
                let _ = to.send(Err(Status::unavailable(message))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(pieces))))
    }

    async fn outcomes(
        &self,
        request: Request<wire::SweepRequest>,
    ) -> Result<Response<Outcomes>, Status> {
        let number = request.into_inner().sweep;
        let sweeps = Arc::clone(self.0.sweeps()?);
        let kept = sweeps.kept(SweepNumber(number)).await;
        let kept = kept.map_err(Status::unavailable)?;
        let kept = kept.ok_or_else(|| unknown(number))?;
        let store = Arc::clone(sweeps.store());
        let opened = outcomes::Outcomes::of(store.as_ref(), kept).await;
        let mut runs = opened.map_err(|(_, m)| Status::unavailable(m))?;
        let (to, chunks) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            while let Some(next) = runs.next(store.as_ref()).await.transpose() {
                let failed = next.is_err();
                let next = next.map(outcomes_chunk);
                let next = next.map_err(|(_, message)| Status::unavailable(message));
                if to.send(next).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }

    async fn verify(
        &self,
        request: Request<wire::VerifyRequest>,
    ) -> Result<Response<wire::VerifyReply>, Status> {
        let sweeps = self.0.sweeps()?;
        let request = request.into_inner();
        if !(0.0..=1.0).contains(&request.share) {
            let text = format!("share: {} is not in 0 to 1", request.share);
            return Err(Status::invalid_argument(text));
        }
        let kept = sweeps.kept(SweepNumber(request.sweep)).await;
        let kept = kept.map_err(Status::unavailable)?;
        let kept = kept.ok_or_else(|| unknown(request.sweep))?;
        let checked = verify::of_kept(sweeps.store().as_ref(), kept, true).await;
        let (completeness, records, sweep) = checked.map_err(|(_, m)| Status::unavailable(m))?;
        // Whoever computes them again has the grid, and not what its search chose.
        let drawn = records.draw(request.share, request.seed, sweep.grid().len());
        let json = serde_json::json!({"completeness": completeness, "drawn": drawn});
        Ok(Response::new(wire::VerifyReply {
            json: json.to_string().into(),
        }))
    }

    async fn change(
        &self,
        request: Request<wire::ChangeRequest>,
    ) -> Result<Response<wire::ChangeReply>, Status> {
        use wire::change_request::Change;
        let sweeps = self.0.sweeps()?;
        let request = request.into_inner();
        let number = SweepNumber(request.sweep);
        self.one(number.0).await?;
        let control = match request.change {
            Some(Change::Pause(true)) => Control::Pause(number),
            Some(Change::Resume(true)) => Control::Resume(number),
            Some(Change::Cancel(true)) => Control::Cancel(number),
            Some(Change::Priority(priority)) => Control::Prioritise(number, priority),
            Some(Change::Retry(retry)) => {
                let tasks: Result<Vec<TaskId>, _> = (retry.tasks.iter())
                    .map(|t| TaskId::try_from(t.as_ref()))
                    .collect();
                let tasks = tasks.map_err(|e| Status::invalid_argument(format!("tasks: {e}")))?;
                Control::Retry(number, (!tasks.is_empty()).then_some(tasks))
            }
            _ => return Err(Status::invalid_argument("change: nothing is asked for")),
        };
        tracing::info!(?control, "a sweep is changed");
        let done = sweeps.change(control).await;
        let done = done.map_err(Status::failed_precondition)?;
        Ok(Response::new(wire::ChangeReply { tasks: done.tasks }))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainReply>, Status> {
        let sweeps = self.0.sweeps()?;
        let request = request.into_inner();
        let number = SweepNumber(request.sweep);
        let kept = sweeps.kept(number).await.map_err(Status::unavailable)?;
        let kept = kept.ok_or_else(|| unknown(request.sweep))?;
        let what = request.what.parse();
        let what = what.map_err(|e: explain::NotATask| Status::invalid_argument(e.to_string()))?;
        let now = async |tasks| sweeps.whereabouts(tasks).await;
        let found = explain::explain(sweeps.store().as_ref(), kept, &what, now).await;
        let json = found.map_err(|(_, message)| Status::not_found(message))?;
        Ok(Response::new(wire::ExplainReply {
            json: json.to_string().into(),
        }))
    }
}

impl<S: Store> Service<S> {
    async fn one(&self, number: u32) -> Result<wire::SweepStatus, Status> {
        let found = self.0.sweeps()?.one(SweepNumber(number)).await;
        match found.map_err(|e| store_trouble(&e))? {
            Some(seen) => Ok(status(&seen)),
            None => Err(unknown(number)),
        }
    }
}

/// A file that a client receives. Writing waits for the client, and fails when it has gone.
struct Pieces(mpsc::Sender<Result<wire::ExportChunk, Status>>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let content = Bytes::copy_from_slice(bytes);
        let sent = self.0.blocking_send(Ok(wire::ExportChunk { content }));
        sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a grid's files contain, from the store: no path is opened.
async fn contents<S: Store>(
    store: &S,
    files: Vec<wire::GridFile>,
) -> Result<BTreeMap<String, Bytes>, Status> {
    if files.len() > FILES {
        return Err(Status::resource_exhausted(format!(
            "a grid may name at most {FILES} files"
        )));
    }
    let mut known: HashMap<BlobId, Bytes> = HashMap::new();
    let mut out = BTreeMap::new();
    let mut total = 0;
    for file in files {
        let id = blob_id(&file.sha256)?;
        let content = match known.get(&id) {
            Some(content) => content.clone(),
            None => {
                let content = store.blob(id).await.map_err(|e| store_trouble(&e))?;
                let content = content.ok_or_else(|| {
                    Status::failed_precondition(format!(
                        "the content of `{}` was not uploaded",
                        file.path
                    ))
                })?;
                total += content.len();
                if total > ALL_FILES {
                    return Err(Status::resource_exhausted(format!(
                        "the files of a grid may have at most {ALL_FILES} bytes together"
                    )));
                }
                known.insert(id, content.clone());
                content
            }
        };
        out.insert(file.path, content);
    }
    Ok(out)
}
