//! Files by their SHA-256, fetched once from the coordinator.

use std::sync::{Arc, Mutex as Lock, PoisonError};

use common::ids::{BlobId, to_hex};
use common::pb::wire;
use common::spec::FileRef;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::link::Client;
use crate::files::BlobFolder;
use crate::session::{next_random, pause};

/// Tries before a file counts as not to be had: with the pauses between them
/// longer than a coordinator takes to start again.
const TRIES: u32 = 16;

#[derive(Clone, Debug)]
pub(super) struct Fetcher {
    /// Of the coordinator that leads.
    client: Arc<Lock<Client>>,
    folder: BlobFolder,
    /// One download at a time, so that no file is fetched twice. Holds the
    /// state of the random pauses.
    turn: Arc<Mutex<u64>>,
}

enum Trouble {
    /// Another try may help.
    Passing(String),
    /// It will not.
    Final(String),
}

impl Fetcher {
    pub(super) fn new(client: Client, folder: BlobFolder, seed: u64) -> Self {
        Self {
            client: Arc::new(Lock::new(client)),
            folder,
            turn: Arc::new(Mutex::new(seed)),
        }
    }

    /// Fetches from another coordinator from now on.
    pub(super) fn follow(&self, client: Client) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
    }

    fn client(&self) -> Client {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone()
    }

    /// Makes a file lie in the folder.
    ///
    /// # Errors
    /// Why that is not possible, for people.
    pub(super) async fn ensure(&self, file: &FileRef) -> Result<(), String> {
        let about = |why: String| format!("`{}` ({}): {why}", file.path, file.sha256);
        let id: BlobId = file
            .sha256
            .parse()
            .map_err(|_| about("not a SHA-256".to_owned()))?;
        let name = id.to_string();
        let mut random = self.turn.lock().await;
        let mut attempt = 0;
        loop {
            if self.folder.has(&name) {
                return Ok(());
            }
            match self.download(id, &name).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(why)) => return Err(about(why)),
                Err(Trouble::Passing(why)) if attempt + 1 >= TRIES => return Err(about(why)),
                Err(Trouble::Passing(_)) => {}
            }
            tokio::time::sleep(pause(attempt, next_random(&mut random))).await;
            attempt += 1;
        }
    }

    async fn download(&self, id: BlobId, name: &str) -> Result<(), Trouble> {
        let request = wire::FetchBlobRequest {
            sha256: id.0.to_vec().into(),
        };
        let mut client = self.client().0;
        let answer = client
            .fetch_blob(request)
            .await
            .map_err(|status| trouble(&status))?;
        let mut chunks = answer.into_inner();
        let part = self.folder.path(&format!("{name}.part"));
        let disk = |error: std::io::Error| Trouble::Final(format!("cannot be stored: {error}"));
        let mut to = tokio::fs::File::create(&part).await.map_err(disk)?;
        let mut hash = Sha256::new();
        while let Some(chunk) = chunks.message().await.map_err(|status| trouble(&status))? {
            hash.update(&chunk.content);
            to.write_all(&chunk.content).await.map_err(disk)?;
        }
        to.flush().await.map_err(disk)?;
        drop(to);
        let found: [u8; 32] = hash.finalize().into();
        if found != id.0 {
            return Err(Trouble::Passing(format!(
                "what came has the SHA-256 {}",
                to_hex(&found)
            )));
        }
        tokio::fs::rename(&part, self.folder.path(name))
            .await
            .map_err(disk)
    }
}

fn trouble(status: &Status) -> Trouble {
    let why = format!("{}: {}", status.code().description(), status.message());
    match status.code() {
        Code::NotFound
        | Code::InvalidArgument
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented => Trouble::Final(why),
        _ => Trouble::Passing(why),
    }
}
