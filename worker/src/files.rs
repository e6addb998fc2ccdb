//! The files that specifications name: which, and their contents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::spec::{Body, CellSpec, DataSpec, FileRef, Start};

/// The files that a cell reads.
pub fn of_cell(cell: &CellSpec) -> Vec<FileRef> {
    let mut files = Vec::new();
    if let DataSpec::File(data) = &cell.data {
        files.push(FileRef {
            path: data.file.file.clone(),
            sha256: data.file.sha256.clone(),
        });
        files.extend(data.target_file.clone());
    }
    if let Body::Table(file) = &cell.model.body {
        files.push(file.clone());
    }
    files
}

/// The file that a start reads.
pub fn of_start(start: &Start) -> Option<&FileRef> {
    match start {
        Start::Point(file) => Some(file),
        Start::Drawn { .. } => None,
    }
}

/// A folder that holds contents under the hexadecimal form of their SHA-256.
///
/// Who puts a file there has checked its hash; it appears under its name only
/// when it is complete.
#[derive(Clone, Debug)]
pub struct BlobFolder(pub PathBuf);

impl BlobFolder {
    /// Where a content lies, or will.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.0
            .join(Path::new(sha256).file_name().unwrap_or_default())
    }

    /// Whether a content is there.
    pub fn has(&self, sha256: &str) -> bool {
        self.path(sha256).is_file()
    }
}

/// Contents by the hexadecimal form of their SHA-256.
#[derive(Clone, Debug, Default)]
pub struct Contents(BTreeMap<String, Vec<u8>>);

impl Contents {
    /// Adds a content.
    pub fn insert(&mut self, sha256: String, content: Vec<u8>) {
        self.0.insert(sha256, content);
    }

    /// Reads what is there of these files; what is missing is missed by who
    /// asks for it.
    pub fn read(folder: &BlobFolder, files: &[FileRef]) -> Self {
        let mut contents = Self::default();
        for file in files {
            if let Ok(bytes) = std::fs::read(folder.path(&file.sha256)) {
                contents.insert(file.sha256.clone(), bytes);
            }
        }
        contents
    }

    /// The content of that hash.
    pub fn get(&self, sha256: &str) -> Option<&[u8]> {
        self.0.get(sha256).map(Vec::as_slice)
    }
}
