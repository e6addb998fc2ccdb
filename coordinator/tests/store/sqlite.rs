//! The file and its directory.

use std::process::Command;

use common::protocol::SweepNumber;
use coordinator::core::{Lookup, Ticket};
use coordinator::store::{Identity, SqliteStore, Store, StoreError};

use crate::contract::{Directory, Place as _, wait};
use crate::records::{result, task};

fn refused(place: &Directory) -> StoreError {
    SqliteStore::open(place.directory.path(), &Identity::default()).expect_err("it is refused")
}

fn file(place: &Directory) -> std::path::PathBuf {
    place.directory.path().join("store.sqlite3")
}

#[test]
fn a_store_that_is_in_use_is_refused_with_its_owner() {
    let place = Directory::new();
    let identity = Identity {
        host: "headnode".into(),
        listen: Some("10.0.0.1:7070".into()),
        ..Identity::default()
    };
    let first = SqliteStore::open(place.directory.path(), &identity).unwrap();
    let message = refused(&place).to_string();
    let pid = std::process::id();
    let owner = format!("(process {pid} on headnode, listening on 10.0.0.1:7070)");
    assert!(message.contains(&owner), "{message}");
    wait(first.close()).unwrap();
    let second = place.open();
    assert!(
        second.may_have_orphans(),
        "the first one could be reached from elsewhere"
    );
    drop(second);
    assert!(!place.open().may_have_orphans());
}

#[test]
fn only_its_owner_can_read_a_store() {
    use std::os::unix::fs::PermissionsExt;
    let place = Directory::new();
    let store = place.open();
    for ending in ["", "-wal", "-shm"] {
        let file = file(&place).with_extension(format!("sqlite3{ending}"));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    drop(store);
}

#[test]
fn a_store_of_a_newer_schema_is_refused() {
    let place = Directory::new();
    drop(place.open());
    let connection = rusqlite::Connection::open(file(&place)).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let error = refused(&place);
    assert!(
        matches!(error, StoreError::NewerSchema { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let place = Directory::new();
    std::fs::write(
        file(&place),
        "dear diary, today I wrote a long text".repeat(50),
    )
    .unwrap();
    assert!(matches!(refused(&place), StoreError::Foreign { .. }));
    let place = Directory::new();
    let connection = rusqlite::Connection::open(file(&place)).unwrap();
    connection.execute_batch("CREATE TABLE mine (x)").unwrap();
    drop(connection);
    assert!(matches!(refused(&place), StoreError::Foreign { .. }));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let place = Directory::new();
    let path = place.directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = SqliteStore::open(&path.join("store"), &Identity::default()).unwrap_err();
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
}

#[test]
fn evidence_that_was_damaged_on_disk_is_reported_and_not_taken() {
    let place = Directory::new();
    let store = place.open();
    wait(store.persist(Ticket(1), vec![result(1, 0, 1)].into())).unwrap();
    wait(store.close()).unwrap();
    let connection = rusqlite::Connection::open(file(&place)).unwrap();
    connection
        .execute("UPDATE results SET evidence = x'ffff'", [])
        .unwrap();
    drop(connection);
    let lookup = Lookup {
        sweep: SweepNumber(1),
        tasks: vec![task(1)],
    };
    let error = wait(place.open().lookup(lookup)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// A full disk, as the database sees it: no page can be added.
#[test]
fn nothing_is_durable_on_a_full_disk_and_everything_is_when_there_is_room_again() {
    // The limit is of the whole process, so it needs one of its own.
    let exe = std::env::current_exe().unwrap();
    let place = Directory::new();
    let output = Command::new(exe)
        .args([
            "sqlite::in_a_process_of_its_own::full_disk",
            "--exact",
            "--include-ignored",
        ])
        .env("STORE_DIRECTORY", place.directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    // What was acknowledged there is here.
    assert_eq!(wait(place.open().results(0, 1000)).unwrap().len(), 200);
}

mod in_a_process_of_its_own {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    /// Does nothing unless the test above started it.
    #[test]
    fn full_disk() {
        let Some(directory) = std::env::var_os("STORE_DIRECTORY") else {
            return;
        };
        let store = SqliteStore::open(directory.as_ref(), &Identity::default()).unwrap();
        let records = |range: std::ops::Range<u8>| {
            range
                .map(|n| result(n, 0, u64::from(n)))
                .collect::<Vec<_>>()
        };
        wait(store.persist(Ticket(1), records(0..100).into())).unwrap();
        let log = std::path::Path::new(&directory).join("store.sqlite3-wal");
        let size = std::fs::metadata(log).unwrap().len();
        let before = getrlimit(Resource::Fsize);
        // Without this, the write that meets the limit would end the process.
        ignore_sigxfsz();
        setrlimit(
            Resource::Fsize,
            Rlimit {
                current: Some(size),
                ..before
            },
        )
        .unwrap();
        for _ in 0..3 {
            let error = wait(store.persist(Ticket(2), records(100..200).into())).unwrap_err();
            assert!(matches!(error, StoreError::Database { .. }), "{error}");
        }
        assert_eq!(wait(store.results(0, 1000)).unwrap().len(), 100);
        setrlimit(Resource::Fsize, before).unwrap();
        wait(store.persist(Ticket(2), records(100..200).into())).unwrap();
        wait(store.close()).unwrap();
    }

    fn ignore_sigxfsz() {
        // A handler that does nothing lets the write fail with EFBIG instead.
        use tokio::signal::unix::{SignalKind, signal};
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        std::mem::forget(signal(SignalKind::from_raw(
            rustix::process::Signal::XFSZ.as_raw(),
        )));
        std::mem::forget(runtime);
    }
}
