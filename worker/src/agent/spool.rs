//! Results that wait for a coordinator, on the disk.
//!
//! While there is no coordinator a worker keeps what it has finished. If it is
//! killed or told to leave meanwhile that would be computed again; with a spool
//! the next worker delivers it. One file for each report, written while there
//! is no connection and removed with the receipt; a thread of its own does it,
//! because the agent's loop waits for no disk.
//!
//! Nothing rests on the spool: a result is recorded when the coordinator says
//! so, and a file that is lost or damaged costs the time of computing it again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use common::ids::TaskId;
use common::pb::{reports_from_wire, wire};
use common::protocol::{HeldLease, HeldState, Outcome, Place, Report};
use rustix::fs::{FlockOperation, flock};

use crate::frame;
use crate::session::Session;

/// Ending of the files.
const ENDING: &str = "report";

/// A folder for reports, locked for this worker.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    // Never read: the lock lasts as long as the file is open.
    _lock: File,
}

/// Why a folder cannot be a spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The disk.
    #[error("cannot use the spool `{folder}`: {source}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the disk says.
        source: io::Error,
    },
    /// Another worker has it.
    #[error("the spool `{folder}` is another worker's; give each worker its own")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
}

impl Spool {
    /// Makes the folder if need be and locks it.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(folder: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io {
            folder: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(SpoolError::InUse {
                folder: folder.to_owned(),
            }),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// What an earlier worker has left.
    fn reports(&self) -> Vec<(Place, Report)> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut found: Vec<(Place, Report)> = files
            .filter(|path| path.extension().is_some_and(|e| e == ENDING))
            .filter_map(|path| match read(&path) {
                Ok(found) => Some(found),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a spooled report cannot be read");
                    None
                }
            })
            .collect();
        found.sort_by_key(|(_, report)| report.lease);
        found
    }

    fn path(&self, task: &TaskId) -> PathBuf {
        self.folder.join(format!("{task}.{ENDING}"))
    }

    fn write(&self, place: Place, report: Report) -> io::Result<()> {
        let path = self.path(&report.lease.task);
        let part = path.with_extension("part");
        let mut to = File::create(&part)?;
        to.write_all(&encode(place, report)?)?;
        to.sync_all()?;
        fs::rename(&part, path)
    }
}

fn encode(place: Place, report: Report) -> io::Result<Vec<u8>> {
    let held = HeldLease {
        lease: report.lease,
        place,
        state: HeldState::Finished,
    };
    let reports = vec![report.into()];
    let mut bytes = frame::encode(&wire::HeldLease::from(held))?;
    bytes.extend(frame::encode(&wire::ReportBatch { reports })?);
    Ok(bytes)
}

/// The report of a spooled file.
///
/// # Errors
/// `InvalidData` if it is none.
pub fn decode(mut bytes: &[u8]) -> io::Result<(Place, Report)> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let held = frame::read::<wire::HeldLease>(&mut bytes)?.unwrap_or_default();
    let held = HeldLease::try_from(held).map_err(|e| wrong(e.to_string()))?;
    let batch = frame::read::<wire::ReportBatch>(&mut bytes)?.unwrap_or_default();
    let mut reports = reports_from_wire(batch).map_err(|e| wrong(e.to_string()))?;
    match (reports.pop(), reports.is_empty()) {
        (Some(report), true)
            if report.lease == held.lease
                && !matches!(report.outcome, Outcome::Malformed { .. }) =>
        {
            Ok((held.place, report))
        }
        _ => Err(wrong("not one report of one lease".to_owned())),
    }
}

fn read(path: &Path) -> io::Result<(Place, Report)> {
    decode(&fs::read(path)?)
}

enum Order {
    Keep(Place, Report),
    Drop(TaskId),
}

/// A spool in use.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Tasks whose reports lie there.
    kept: BTreeSet<TaskId>,
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Gives a session what lies in the spool.
    pub(super) fn start(spool: Spool, session: &mut Session) -> io::Result<Self> {
        let mut kept = BTreeSet::new();
        for (place, report) in spool.reports() {
            kept.insert(report.lease.task);
            session.bring(place, report);
        }
        if !kept.is_empty() {
            tracing::info!(
                reports = kept.len(),
                "reports of an earlier worker are delivered"
            );
        }
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || carry_out(&spool, &inbox))?;
        Ok(Self {
            kept,
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Brings the spool into line with the session.
    pub(super) fn follow(&mut self, session: &Session, connected: bool) {
        let Some(orders) = &self.orders else { return };
        if !connected {
            for (place, report) in session.undelivered() {
                let worth = match &report.outcome {
                    Outcome::Result(_) => true,
                    Outcome::HandBack(back) => back.checkpoint.is_some(),
                    Outcome::Failure(_) | Outcome::Malformed { .. } => false,
                };
                if worth && self.kept.insert(report.lease.task) {
                    let _ = orders.send(Order::Keep(place, report.clone()));
                }
            }
        }
        self.kept.retain(|task| {
            let held = session.is_undelivered(task);
            if !held {
                let _ = orders.send(Order::Drop(*task));
            }
            held
        });
    }

    /// Waits until everything is written.
    pub(super) fn finish(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // If it has panicked there is nothing more to wait for.
            let _ = thread.join();
        }
        if !self.kept.is_empty() {
            tracing::info!(
                reports = self.kept.len(),
                "reports wait in the spool for the next worker"
            );
        }
    }
}

fn carry_out(spool: &Spool, orders: &Receiver<Order>) {
    for order in orders {
        match order {
            Order::Keep(place, report) => {
                let lease = report.lease;
                if let Err(error) = spool.write(place, report) {
                    tracing::warn!(%lease, %error, "a report cannot be spooled");
                }
            }
            Order::Drop(task) => {
                // What could not be written is not there.
                let _ = fs::remove_file(spool.path(&task));
            }
        }
    }
}
