//! What must survive: sweeps, results, failures, controls.
//!
//! [`Store`] is a handful of verbs over domain values. One implementation is a
//! SQLite file in a directory ([`SqliteStore`]), the other a PostgreSQL
//! database with hot standbys ([`PostgresStore`]); [`AnyStore`] is either.
//! They follow the contract that [`crate::testing::MemoryStore`] writes down as
//! maps, and one test suite runs against all of them.
//!
//! The store decides nothing: it says which results it held already, and the
//! core says what that means.

mod address;
mod any;
mod error;
mod filter;
mod place;
mod postgres;
mod sqlite;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{BlobId, TaskId, WorkerId};
use common::protocol::{Attempt, FailureKind, Place, SweepNumber};
use common::record::Telemetry;

pub use address::{Address, AddressError, PostgresUrl};
pub use any::AnyStore;
pub use error::{Owner, StoreError};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

use crate::core::{Exception, Known, Lookup, Record, SweepState, Ticket};

/// Durable state of one coordinator.
///
/// Whoever holds a `Store` is the only writer of what is behind it; opening one
/// claims a new epoch.
pub trait Store: Send + Sync + 'static {
    /// The epoch that opening this store claimed: larger than every earlier
    /// one, durably so.
    fn epoch(&self) -> u32;

    /// Whether the last coordinator before this one could have had workers that
    /// outlived it. Commands that only opened the store at rest do not count.
    fn may_have_orphans(&self) -> bool;

    /// Makes records durable, all or none, and tells which results were there
    /// already.
    ///
    /// A call takes its place in the order when it is made, not when its
    /// future is first polled. Tickets of an epoch count from 1 without gaps;
    /// one that comes before its predecessor is durable fails. A ticket that
    /// was durable already is applied again, which changes nothing.
    ///
    /// # Errors
    /// After an error the records may or may not be durable; present the same
    /// ticket again.
    fn persist(
        &self,
        ticket: Ticket,
        records: Arc<[Record]>,
    ) -> impl Future<Output = Result<Vec<Exception>, StoreError>> + Send + 'static;

    /// What is known of some tasks. Sees at least everything that was durable
    /// when the call was made.
    ///
    /// # Errors
    /// When the store cannot be read, or holds what nobody can have written.
    fn lookup(
        &self,
        lookup: Lookup,
    ) -> impl Future<Output = Result<Known, StoreError>> + Send + 'static;

    /// Adds a sweep, or finds the one of the same identity.
    ///
    /// # Errors
    /// When it could not be made durable.
    fn add_sweep(
        &self,
        sweep: SweepText,
    ) -> impl Future<Output = Result<StoredSweep, StoreError>> + Send + 'static;

    /// All sweeps in the order of their numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn sweeps(&self)
    -> impl Future<Output = Result<Vec<StoredSweep>, StoreError>> + Send + 'static;

    /// Keeps a file's content.
    ///
    /// # Errors
    /// When it could not be made durable.
    fn put_blob(
        &self,
        id: BlobId,
        content: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static;

    /// A file's content.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn blob(
        &self,
        id: BlobId,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send + 'static;

    /// θ of a result, if it is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn theta(
        &self,
        task: TaskId,
    ) -> impl Future<Output = Result<Option<Vec<f64>>, StoreError>> + Send + 'static;

    /// Results in the order they were recorded, from the first after `after`
    /// (0 for the first of all), at most `limit`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn results(
        &self,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<StoredResult>, StoreError>> + Send + 'static;

    /// The results of those of these tasks that have one, in the order asked for. Each task is
    /// asked for once.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn results_of(
        &self,
        tasks: Vec<TaskId>,
    ) -> impl Future<Output = Result<Vec<StoredResult>, StoreError>> + Send + 'static;

    /// Failures of a sweep, by task and attempt.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn failures(
        &self,
        sweep: SweepNumber,
    ) -> impl Future<Output = Result<Vec<StoredFailure>, StoreError>> + Send + 'static;

    /// Who recorded how much of a sweep.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn shares(
        &self,
        sweep: SweepNumber,
    ) -> impl Future<Output = Result<Vec<Share>, StoreError>> + Send + 'static;

    /// The chain over all recorded results: SHA-256 over the link before, the
    /// task and the digest of its evidence, from 32 zero bytes.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn chain(&self) -> impl Future<Output = Result<Chain, StoreError>> + Send + 'static;

    /// Comes when another coordinator has taken the store over: nothing will
    /// be acknowledged here any more. Never comes from a store that cannot be
    /// taken over.
    fn lost(&self) -> impl Future<Output = StoreError> + Send + 'static {
        std::future::pending()
    }

    /// The chain as it was after each commit, in order.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn links(&self) -> impl Future<Output = Result<Vec<Chain>, StoreError>> + Send + 'static;

    /// Finishes what was begun and gives the store up.
    ///
    /// # Errors
    /// When something that was begun could not be made durable.
    fn close(self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A sweep to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepText {
    /// What makes it the same sweep: hash of grid and numeric level.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The grid file as its author wrote it.
    pub grid: String,
    /// The files it names: paths as written, and the SHA-256 (hexadecimal) under which
    /// [`Store::blob`] has their contents.
    pub files: BTreeMap<String, String>,
    /// Higher ones are served first.
    pub priority: i32,
    /// Version of the numerics that its tasks' identities contain.
    pub numerics_version: u32,
    /// Level of all its results.
    pub numeric_level: String,
}

/// A sweep as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSweep {
    /// Its number.
    pub number: SweepNumber,
    /// What was stored.
    pub text: SweepText,
    /// How far it is.
    pub state: SweepState,
    /// When it was added, milliseconds since 1970.
    pub created_at: u64,
}

/// A result as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredResult {
    /// Its number in the order of recording, from 1.
    pub number: u64,
    /// Which task.
    pub task: TaskId,
    /// The place it was leased for.
    pub place: Place,
    /// Who computed it.
    pub worker: WorkerId,
    /// Where.
    pub host: Arc<str>,
    /// With which version of the program.
    pub program_version: Arc<str>,
    /// Under which attempt.
    pub attempt: Attempt,
    /// The encoded evidence.
    pub evidence: Bytes,
    /// What it cost.
    pub telemetry: Telemetry,
    /// When, milliseconds since 1970.
    pub recorded_at: u64,
}

/// A worker's share of a sweep's results.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Who.
    pub worker: WorkerId,
    /// Where.
    pub host: String,
    /// With which version of the program.
    pub program_version: String,
    /// Results, baselines among them.
    pub results: u64,
    /// What they cost, added up in the order of recording.
    pub cpu_seconds: f64,
    /// Most bytes that one of them took.
    pub peak_memory: u64,
    /// When the first one was recorded, milliseconds since 1970.
    pub first_recorded_at: u64,
    /// When the last one was.
    pub last_recorded_at: u64,
}

/// A failed execution as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFailure {
    /// Which task.
    pub task: TaskId,
    /// Where it stands.
    pub place: Place,
    /// Under which attempt.
    pub attempt: Attempt,
    /// Who failed at it.
    pub worker: WorkerId,
    /// Why.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
    /// When, milliseconds since 1970.
    pub failed_at: u64,
    /// Whether the task is set aside.
    pub set_aside: bool,
}

/// The chain over recorded results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Results in it.
    pub results: u64,
    /// The last link.
    pub head: [u8; 32],
}

impl Chain {
    /// The chain with one more result.
    #[must_use]
    pub fn with(self, task: &TaskId, digest: &[u8; 32]) -> Self {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(self.head);
        hash.update(task.0);
        hash.update(digest);
        Self {
            results: self.results + 1,
            head: hash.finalize().into(),
        }
    }
}

/// What a coordinator says about itself when it opens a store.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Its host.
    pub host: String,
    /// The address that others can reach, if there is one.
    pub listen: Option<String>,
    /// Whether it is a command that opens a store at rest, and grants nothing.
    pub at_rest: bool,
    /// Version of the program.
    pub program_version: String,
}

impl Identity {
    /// What stands in the column `listen` of its epoch: of a command at rest an empty text, so that
    /// it is told from a coordinator that nobody could reach.
    fn listens(&self) -> Option<&str> {
        self.listen.as_deref().or(self.at_rest.then_some(""))
    }
}
