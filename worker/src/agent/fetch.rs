//! Contents of files from the coordinator, by hash.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::decode::{decode_cell, decode_start};
use common::ids::BlobId;
use common::pb::{MESSAGE_LIMIT, wire};
use common::protocol::{CellText, Lease, Work};
use tonic::transport::Channel;
use wire::cluster_client::ClusterClient;

use super::Token;
use super::link::authorised;
use crate::files::{self, Cache};

/// Largest file that is accepted, bytes.
const LIMIT: usize = 4 << 30;
/// Tries per file, a second apart.
const TRIES: u32 = 5;

/// Fetches files into the cache, over whatever connection there is.
#[derive(Clone)]
pub(super) struct Fetcher {
    channel: Arc<Mutex<Option<Channel>>>,
    token: Token,
    cache: Cache,
}

impl Fetcher {
    pub(super) fn new(token: Token, cache: Cache) -> Self {
        Self {
            channel: Arc::default(),
            token,
            cache,
        }
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) fn use_channel(&self, channel: Channel) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel);
    }

    /// Brings the files of a cell.
    ///
    /// # Errors
    /// Why a file cannot be had, for people. A cell that cannot be read is no
    /// error here: its slot says so.
    pub(super) async fn files_of_cell(&self, cell: &CellText) -> Result<(), String> {
        let Ok(spec) = decode_cell(&cell.json) else {
            return Ok(());
        };
        for id in files::of_cell(&spec) {
            self.bring(id).await?;
        }
        Ok(())
    }

    /// Brings the files of the starts of leases, as far as they can be had:
    /// the slot finds out about the others.
    pub(super) async fn files_of_starts(&self, leases: &[Lease]) {
        for lease in leases {
            if let Work::Run { start, .. } = &lease.work
                && start.contains("point")
                && let Ok(start) = decode_start(start)
                && let Some(id) = files::of_start(&start)
                && let Err(error) = self.bring(id).await
            {
                tracing::warn!(file = %id, error, "a point file cannot be fetched");
            }
        }
    }

    async fn bring(&self, id: BlobId) -> Result<(), String> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            if self.cache.holds(id) {
                return Ok(());
            }
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            match self.fetch(id).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(format!("file {id} cannot be fetched: {last}"))
    }

    async fn fetch(&self, id: BlobId) -> Result<(), String> {
        let channel = self
            .channel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or("there is no connection")?;
        let mut client = ClusterClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let request = wire::FetchBlobRequest {
            sha256: id.0.to_vec().into(),
        };
        let request = authorised(request, &self.token)?;
        let status = |s: tonic::Status| s.message().to_owned();
        let mut stream = client
            .fetch_blob(request)
            .await
            .map_err(status)?
            .into_inner();
        let mut content = Vec::new();
        while let Some(chunk) = stream.message().await.map_err(status)? {
            if content.len() + chunk.content.len() > LIMIT {
                return Err(format!("it is larger than {LIMIT} bytes"));
            }
            content.extend_from_slice(&chunk.content);
        }
        self.cache.put(id, &content).map_err(|e| e.to_string())
    }
}
