//! A store of either kind.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{BlobId, TaskId};
use common::protocol::SweepNumber;
use futures_util::future::Either;

use super::address::Address;
use super::error::StoreError;
use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::{Chain, Identity, Share, Store, StoredFailure, StoredResult, StoredSweep, SweepText};
use crate::core::{Exception, Known, Lookup, Record, Ticket};

/// A store as the setting `store` names it.
#[derive(Debug)]
pub enum AnyStore {
    /// In a SQLite file.
    Sqlite(SqliteStore),
    /// In a PostgreSQL database.
    Postgres(PostgresStore),
}

impl AnyStore {
    /// Opens or creates the store at an address and claims the next epoch.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another coordinator has it, and everything
    /// that [`SqliteStore::open`] and [`PostgresStore::open`] say.
    pub async fn open(address: &Address, identity: &Identity) -> Result<Self, StoreError> {
        match address {
            Address::Directory(directory) => {
                SqliteStore::open(directory, identity).map(Self::Sqlite)
            }
            Address::Postgres(url) => PostgresStore::open(url, identity).await.map(Self::Postgres),
        }
    }
}

macro_rules! either {
    ($self:expr, $store:ident => $future:expr) => {
        match $self {
            AnyStore::Sqlite($store) => Either::Left($future),
            AnyStore::Postgres($store) => Either::Right($future),
        }
    };
}

impl Store for AnyStore {
    fn epoch(&self) -> u32 {
        match self {
            Self::Sqlite(store) => store.epoch(),
            Self::Postgres(store) => store.epoch(),
        }
    }

    fn may_have_orphans(&self) -> bool {
        match self {
            Self::Sqlite(store) => store.may_have_orphans(),
            Self::Postgres(store) => store.may_have_orphans(),
        }
    }

    fn persist(
        &self,
        ticket: Ticket,
        records: Arc<[Record]>,
    ) -> impl Future<Output = Result<Vec<Exception>, StoreError>> + Send + 'static {
        either!(self, store => store.persist(ticket, records))
    }

    fn lookup(
        &self,
        lookup: Lookup,
    ) -> impl Future<Output = Result<Known, StoreError>> + Send + 'static {
        either!(self, store => store.lookup(lookup))
    }

    fn add_sweep(
        &self,
        sweep: SweepText,
    ) -> impl Future<Output = Result<StoredSweep, StoreError>> + Send + 'static {
        either!(self, store => store.add_sweep(sweep))
    }

    fn sweeps(
        &self,
    ) -> impl Future<Output = Result<Vec<StoredSweep>, StoreError>> + Send + 'static {
        either!(self, store => store.sweeps())
    }

    fn put_blob(
        &self,
        id: BlobId,
        content: Bytes,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        either!(self, store => store.put_blob(id, content))
    }

    fn blob(
        &self,
        id: BlobId,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send + 'static {
        either!(self, store => store.blob(id))
    }

    fn theta(
        &self,
        task: TaskId,
    ) -> impl Future<Output = Result<Option<Vec<f64>>, StoreError>> + Send + 'static {
        either!(self, store => store.theta(task))
    }

    fn results(
        &self,
        after: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<StoredResult>, StoreError>> + Send + 'static {
        either!(self, store => store.results(after, limit))
    }

    fn results_of(
        &self,
        tasks: Vec<TaskId>,
    ) -> impl Future<Output = Result<Vec<StoredResult>, StoreError>> + Send + 'static {
        either!(self, store => store.results_of(tasks))
    }

    fn failures(
        &self,
        sweep: SweepNumber,
    ) -> impl Future<Output = Result<Vec<StoredFailure>, StoreError>> + Send + 'static {
        either!(self, store => store.failures(sweep))
    }

    fn links(&self) -> impl Future<Output = Result<Vec<Chain>, StoreError>> + Send + 'static {
        either!(self, store => store.links())
    }

    fn shares(
        &self,
        sweep: SweepNumber,
    ) -> impl Future<Output = Result<Vec<Share>, StoreError>> + Send + 'static {
        either!(self, store => store.shares(sweep))
    }

    fn chain(&self) -> impl Future<Output = Result<Chain, StoreError>> + Send + 'static {
        either!(self, store => store.chain())
    }

    fn lost(&self) -> impl Future<Output = StoreError> + Send + 'static {
        either!(self, store => store.lost())
    }

    async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
        }
    }
}
