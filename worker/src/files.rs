//! Contents by hash: which ones a cell needs, and where they are kept.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use common::ids::BlobId;
use common::spec::{Body, CellSpec, DataSpec, Start};
use sha2::{Digest, Sha256};

/// Hashes of the files that a cell reads.
pub fn of_cell(spec: &CellSpec) -> Vec<BlobId> {
    let mut texts: Vec<&str> = Vec::new();
    if let DataSpec::File(file) = &spec.data {
        texts.push(&file.file.sha256);
        texts.extend(file.target_file.iter().map(|f| f.sha256.as_str()));
    }
    if let Body::Table(file) = &spec.model.body {
        texts.push(&file.sha256);
    }
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Hash of the file that a start reads.
pub fn of_start(start: &Start) -> Option<BlobId> {
    match start {
        Start::Point(file) => file.sha256.parse().ok(),
        Start::Drawn { .. } => None,
    }
}

/// A folder of contents, each under its hash.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// A cache in an existing folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, id: BlobId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Whether a content is there.
    pub fn holds(&self, id: BlobId) -> bool {
        self.path(id).exists()
    }

    /// Keeps a content, if it has the hash.
    ///
    /// # Errors
    /// `InvalidData` for another hash, and those of the file system.
    pub fn put(&self, id: BlobId, content: &[u8]) -> io::Result<()> {
        let found = BlobId(Sha256::digest(content).into());
        if found != id {
            let text = format!("a content of hash {found} arrived for {id}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        io::Write::write_all(&mut file, content)?;
        file.persist(self.path(id)).map_err(|e| e.error)?;
        Ok(())
    }

    /// Contents of these hashes by their texts; those that are not there are left out.
    ///
    /// # Errors
    /// Those of the file system, except that a file is not there.
    pub fn read(&self, ids: &[BlobId]) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut contents = BTreeMap::new();
        for id in ids {
            match std::fs::read(self.path(*id)) {
                Ok(content) => {
                    contents.insert(id.to_string(), content);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_kept_under_its_hash_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let id = BlobId(Sha256::digest(b"content").into());
        assert!(cache.put(id, b"another").is_err());
        assert!(!cache.holds(id));
        cache.put(id, b"content").unwrap();
        let contents = cache.read(&[id, BlobId([0; 32])]).unwrap();
        assert_eq!(contents.len(), 1);
        assert_eq!(contents[&id.to_string()], b"content");
    }
}
