//! The directory of a store: a lock that says who holds it, and a look at the
//! file system it lies on.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::error::{Owner, StoreError};

/// A directory that this process holds until the value is dropped, or the
/// process ends in whatever way.
#[derive(Debug)]
pub(super) struct Claim {
    lock: File,
}

impl Claim {
    /// Creates the directory if need be and locks it.
    pub(super) fn on(directory: &Path, owner: &Owner) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(|source| io("create", directory, source))?;
        refuse_network_file_system(directory)?;
        let path = directory.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| io("open", &path, source))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Should its owner be writing it just now, it stays unnamed.
                let _ = lock.read_to_string(&mut text);
                let owner = serde_json::from_str(&text).unwrap_or_default();
                return Err(StoreError::InUse {
                    path: directory.to_owned(),
                    owner,
                });
            }
            Err(source) => return Err(io("lock", &path, source.into())),
        }
        let text = serde_json::to_string(owner).expect("numbers and strings are plain JSON");
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(text.as_bytes()))
            .map_err(|source| io("write", &path, source))?;
        Ok(Self { lock })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Closing the file would not be enough: a process that is just being started has a copy
        // of it until it has become another program. What cannot be unlocked is unlocked by its
        // end.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: PathBuf::from(path),
        source,
    }
}

#[cfg(target_os = "linux")]
fn refuse_network_file_system(directory: &Path) -> Result<(), StoreError> {
    let found = rustix::fs::statfs(directory)
        .map_err(|source| io("look at the file system of", directory, source.into()))?;
    // The field is wider than the number on most machines, and signed on some.
    match network_file_system(found.f_type as u32) {
        Some(kind) => Err(StoreError::NetworkFileSystem {
            path: directory.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn refuse_network_file_system(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// File systems that several machines write to, by their magic numbers
/// (statfs(2) and the file systems' own headers).
#[cfg(target_os = "linux")]
fn network_file_system(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x4750_4653 => Some("GPFS"),
        0xFF53_4D42 | 0xFE53_4D42 | 0x517B => Some("CIFS"),
        0x00C3_6400 => Some("CephFS"),
        0x1980_0202 | 0x1983_0326 => Some("a cluster file system"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let owner = Owner {
            pid: 7,
            host: "here".into(),
            listen: None,
            since: 3,
        };
        let claim = Claim::on(directory.path(), &owner).unwrap();
        let error = Claim::on(directory.path(), &Owner::default()).unwrap_err();
        assert!(matches!(&error, StoreError::InUse { owner: found, .. } if *found == owner));
        assert!(error.to_string().contains("process 7 on here"), "{error}");
        drop(claim);
        Claim::on(directory.path(), &Owner::default()).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xFF53_4D42), Some("CIFS"));
        assert_eq!(network_file_system(0xEF53), None);
    }
}
