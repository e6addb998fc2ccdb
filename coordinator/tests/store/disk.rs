//! Disks that are full or read-only, for real: a small file system in memory that is mounted for
//! the test, and grown or made writable again under the store's feet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::ids::BlobId;
use coordinator::core::Ticket;
use coordinator::store::{Identity, PostgresStore, SqliteStore, Store, StoreError};
use coordinator::testing::{PostgresServer, REQUIRE};

use crate::contract::wait;
use crate::records::result;

/// A mounted file system; gone with the value.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None`, and a word about it, where this process may not mount.
    fn mount(size: &str) -> Option<Self> {
        let path = tempfile::Builder::new()
            .prefix("disk-")
            .tempdir()
            .unwrap()
            .keep();
        let options = format!("size={size},mode=0777");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&path)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { path });
        }
        let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
        assert!(!required, "nothing can be mounted here, and {REQUIRE} is 1");
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: nothing can be mounted here (root in a container, or unshare -rm)");
        }
        let _ = std::fs::remove_dir(&path);
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.path)
            .status()
            .unwrap();
        assert!(status.success(), "remounted with {options}");
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A server that ends may hold it for a moment longer.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        let _ = std::fs::remove_dir(&self.path);
    }
}

fn blob(n: u8) -> (BlobId, bytes::Bytes) {
    // Nothing that a database could compress.
    let mut state = u64::from(n) + 1;
    let words = (0..32 << 10).flat_map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state ^ (state >> 29)).to_le_bytes()
    });
    (BlobId([n; 32]), words.collect::<Vec<u8>>().into())
}

/// Fills the disk until the store turns something down, checks that only what was acknowledged
/// is there, makes room, and goes on.
fn survives_a_full_disk(store: &impl Store, make_room: impl FnOnce(), full: &str) {
    wait(store.persist(Ticket(1), vec![result(0, 0, 1)].into())).unwrap();
    let mut kept = 0;
    let error = loop {
        let (id, content) = blob(kept);
        match wait(store.put_blob(id, content)) {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 200, "the disk is not as small as it should be");
    };
    assert!(error.to_string().contains(full), "{error}");
    assert!(kept > 0, "it was not full from the beginning");
    for _ in 0..3 {
        let (id, content) = blob(kept);
        wait(store.put_blob(id, content)).unwrap_err();
    }
    for n in 0..kept {
        let (id, content) = blob(n);
        assert_eq!(wait(store.blob(id)).unwrap(), Some(content));
    }
    assert_eq!(wait(store.blob(blob(kept).0)).unwrap(), None);
    make_room();
    let (id, content) = blob(kept);
    wait(store.put_blob(id, content.clone())).unwrap();
    assert_eq!(wait(store.blob(id)).unwrap(), Some(content));
    wait(store.persist(Ticket(2), vec![result(1, 0, 2)].into())).unwrap();
    assert_eq!(wait(store.results(0, 10)).unwrap().len(), 2);
}

#[test]
fn a_file_on_a_full_disk_takes_nothing_more_until_there_is_room() {
    let Some(disk) = Disk::mount("3m") else {
        return;
    };
    let store = SqliteStore::open(disk.path(), &Identity::default()).unwrap();
    survives_a_full_disk(&store, || disk.remount("size=64m"), "disk is full");
    wait(store.close()).unwrap();
    let store = SqliteStore::open(disk.path(), &Identity::default()).unwrap();
    assert_eq!(wait(store.results(0, 10)).unwrap().len(), 2);
}

#[test]
fn a_database_on_a_full_disk_takes_nothing_more_until_there_is_room() {
    let Some(server) = PostgresServer::start(&["fsync = off"]) else {
        return;
    };
    // Large enough for the tables of a new database.
    let Some(disk) = Disk::mount("12m") else {
        return;
    };
    server.give(disk.path());
    let place = disk.path().display();
    server.sql(
        "postgres",
        &format!("CREATE TABLESPACE small LOCATION '{place}'"),
    );
    server.sql("postgres", "CREATE DATABASE on_small TABLESPACE small");
    let url = server.url("on_small").parse().unwrap();
    let store = wait(PostgresStore::open(&url, &Identity::default())).unwrap();
    survives_a_full_disk(
        &store,
        || disk.remount("size=64m"),
        "No space left on device",
    );
    assert_eq!(store.epoch(), 1);
}

/// The server's own log is full: it stops, recovers when there is room, and so does the store.
#[test]
fn a_server_that_a_full_disk_has_stopped_is_waited_for() {
    let Some(disk) = Disk::mount("64m") else {
        return;
    };
    let folder = disk.path().join("server");
    std::fs::create_dir(&folder).unwrap();
    let Some(server) = PostgresServer::start_in(folder, &["fsync = off"]) else {
        return;
    };
    let address = server.database();
    let url = address.parse().unwrap();
    let store = wait(PostgresStore::open(&url, &Identity::default())).unwrap();
    wait(store.persist(Ticket(1), vec![result(0, 0, 1)].into())).unwrap();
    let mut kept = 0;
    while wait(store.put_blob(blob(kept).0, blob(kept).1)).is_ok() {
        kept += 1;
        assert!(kept < 255, "the disk is not as small as it should be");
    }
    assert!(kept > 0);
    disk.remount("size=256m");
    // It may have stopped altogether, or only turned the write down.
    let status = server.try_go();
    let mut tries = 0;
    while wait(store.put_blob(blob(kept).0, blob(kept).1)).is_err() {
        tries += 1;
        assert!(tries < 600, "it does not recover: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    for n in 0..=kept {
        assert_eq!(wait(store.blob(blob(n).0)).unwrap(), Some(blob(n).1));
    }
    assert_eq!(wait(store.results(0, 10)).unwrap().len(), 1);
    assert_eq!(store.epoch(), 1);
}

#[test]
fn a_store_on_a_read_only_disk_says_so_and_opens_when_it_can_be_written() {
    let Some(disk) = Disk::mount("8m") else {
        return;
    };
    let folder = disk.path().join("store");
    let store = SqliteStore::open(&folder, &Identity::default()).unwrap();
    wait(store.persist(Ticket(1), vec![result(0, 0, 1)].into())).unwrap();
    wait(store.close()).unwrap();
    disk.remount("ro");
    for folder in [folder.clone(), disk.path().join("another")] {
        let error = SqliteStore::open(&folder, &Identity::default()).unwrap_err();
        let told = match &error {
            StoreError::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        assert!(told.contains("Read-only file system"), "{error}: {told}");
        assert!(error.to_string().contains(&folder.display().to_string()));
    }
    disk.remount("rw");
    let store = SqliteStore::open(&folder, &Identity::default()).unwrap();
    assert_eq!(wait(store.results(0, 10)).unwrap().len(), 1);
}
