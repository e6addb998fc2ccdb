//! The worker's private folder below the system's folder for temporary files.
//!
//! It is gone with the worker. One that was killed leaves its folder behind,
//! which nobody would ever miss; so the next worker of the same user that
//! starts takes away those whose lock nobody holds.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// Beginning of the names of such folders.
const PREFIX: &str = "sweep-worker-";
/// The file in it that its worker has locked.
const LOCK: &str = "lock";

/// A folder that only this user can read.
#[derive(Debug)]
pub(super) struct Private {
    folder: TempDir,
    // Never read: the lock lasts as long as the file is open.
    _lock: File,
}

impl Private {
    /// Makes one in a folder, and removes those that killed workers left there.
    pub(super) fn make_in(parent: &Path) -> io::Result<Self> {
        remove_orphans(parent);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Locked before it has its name: whoever finds a lock that is free may
        // remove the folder.
        let unnamed = folder.path().join("lock.new");
        let lock = File::create_new(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&unnamed, folder.path().join(LOCK))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn remove_orphans(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_orphan(&entry.path()) {
            // Another worker may be doing the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_orphan(folder: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    let mine = fs::symlink_metadata(folder).is_ok_and(|m| m.is_dir() && m.uid() == me);
    mine && File::open(folder.join(LOCK))
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_killed_workers_are_removed_and_those_in_use_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let used = Private::make_in(parent.path()).unwrap();
        let orphan = parent.path().join("sweep-worker-orphan");
        fs::create_dir(&orphan).unwrap();
        fs::write(orphan.join(LOCK), "").unwrap();
        fs::write(orphan.join("data"), "fetched").unwrap();
        // One that is just being made, and one of somebody else's making.
        let young = parent.path().join("sweep-worker-young");
        let other = parent.path().join("other");
        fs::create_dir(&young).unwrap();
        fs::create_dir(&other).unwrap();
        let _second = Private::make_in(parent.path()).unwrap();
        assert!(!orphan.exists());
        assert!(used.path().exists() && young.exists() && other.exists());
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists(), "gone with its worker");
    }
}
