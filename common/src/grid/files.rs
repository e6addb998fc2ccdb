//! The files that a grid names.
//!
//! A grid never opens a path by itself: it asks a [`FileSource`]. A program
//! that reads its own user's grid gives it the folder of that grid; one that
//! receives a grid from elsewhere gives it the contents that came along, and
//! so can never be made to read its own files.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::decode::Files;
use crate::ids::BlobId;

/// Gives the content of a file by the path that a grid names.
pub trait FileSource {
    /// The content.
    ///
    /// # Errors
    /// Why it cannot be given.
    fn content(&self, path: &str) -> io::Result<Arc<[u8]>>;
}

/// Files on this machine, relative to a folder.
#[derive(Clone, Debug)]
pub struct Folder {
    /// What relative paths are relative to: the folder of the grid file.
    pub base: PathBuf,
}

impl FileSource for Folder {
    fn content(&self, path: &str) -> io::Result<Arc<[u8]>> {
        std::fs::read(self.base.join(path)).map(Arc::from)
    }
}

/// Contents that came with a grid, by the paths it names.
#[derive(Clone, Debug, Default)]
pub struct Uploaded {
    /// The contents.
    pub contents: HashMap<String, Arc<[u8]>>,
}

impl FileSource for Uploaded {
    fn content(&self, path: &str) -> io::Result<Arc<[u8]>> {
        self.contents.get(path).cloned().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "its content did not come along")
        })
    }
}

/// The files of a grid: reads each once, remembers the hashes.
pub(super) struct FileTable<'a> {
    source: &'a dyn FileSource,
    known: BTreeMap<String, Result<BlobId, String>>,
}

impl<'a> FileTable<'a> {
    pub(super) fn new(source: &'a dyn FileSource) -> Self {
        Self {
            source,
            known: BTreeMap::new(),
        }
    }

    /// Every file that could be read, by path.
    pub(super) fn into_read(self) -> Vec<(String, BlobId)> {
        let read = |(path, id): (String, Result<BlobId, String>)| Some((path, id.ok()?));
        self.known.into_iter().filter_map(read).collect()
    }
}

impl Files for FileTable<'_> {
    fn hash(&mut self, path: &str) -> Result<BlobId, String> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let found = match self.source.content(path) {
            Ok(content) => Ok(BlobId(Sha256::digest(&content).into())),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && error.raw_os_error().is_some() =>
            {
                Err("there is no such file".into())
            }
            Err(error) => Err(error.to_string()),
        };
        self.known.insert(path.to_string(), found.clone());
        found
    }
}
