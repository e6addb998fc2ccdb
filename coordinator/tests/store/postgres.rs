//! The database: its lock, its schema, and sessions that are cut.

use std::time::Duration;

use common::protocol::SweepNumber;
use coordinator::core::{Lookup, Record, Ticket};
use coordinator::store::{Address, AnyStore, Identity, PostgresStore, Store, StoreError};
use coordinator::testing::PostgresServer;
use tokio::sync::watch;

use crate::contract::{Database, Place as _, wait};
use crate::records::{profile, result, task};

fn open(place: &Database) -> Result<PostgresStore, StoreError> {
    wait(PostgresStore::open(&place.url, &Identity::default()))
}

fn records(range: std::ops::Range<u8>) -> Vec<Record> {
    range.map(|n| result(n, 0, u64::from(n) + 1)).collect()
}

/// Presents a ticket again and again, as the core does, until it is durable; how often it was
/// turned down.
fn insist(store: &PostgresStore, ticket: u64, records: &[Record]) -> u32 {
    for turned_down in 0..1000 {
        match wait(store.persist(Ticket(ticket), records.into())) {
            Ok(_) => return turned_down,
            Err(StoreError::Database { .. }) => std::thread::sleep(Duration::from_millis(50)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the store does not recover");
}

fn recorded(store: &PostgresStore) -> usize {
    wait(store.results(0, 10_000))
        .expect("it can be read")
        .len()
}

#[test]
fn a_store_that_is_led_is_refused_with_its_leader_and_taken_over_after_it() {
    let Some(place) = Database::new() else { return };
    let identity = Identity {
        host: "headnode".into(),
        listen: Some("10.0.0.1:7070".into()),
        ..Identity::default()
    };
    let first = wait(PostgresStore::open(&place.url, &identity)).unwrap();
    wait(first.persist(Ticket(1), records(0..3).into())).unwrap();
    let message = open(&place).unwrap_err().to_string();
    let pid = std::process::id();
    let owner = format!("(process {pid} on headnode, listening on 10.0.0.1:7070)");
    assert!(message.contains(&owner), "{message}");

    let (tell, mut told) = watch::channel(None);
    let url = place.url.clone();
    let standby =
        std::thread::spawn(move || wait(PostgresStore::stand_by(&url, &Identity::default(), tell)));
    wait(told.wait_for(Option::is_some)).unwrap();
    let leader = told.borrow().clone().unwrap();
    assert_eq!(leader.listen.as_deref(), Some("10.0.0.1:7070"));
    assert!(!standby.is_finished(), "it waits");

    // As by a crash: the leader's sessions end without a word.
    let ended = place.server.sql(
        &place.address,
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'sweep coordinator'",
    );
    assert_eq!(ended, "1");
    // Either of them may be the first to have the lock; here the first one gives up.
    wait(first.close()).unwrap();
    let second = standby.join().unwrap().unwrap();
    assert_eq!(second.epoch(), 2);
    assert!(second.may_have_orphans(), "the first one could be reached");
    assert_eq!(recorded(&second), 3);
}

#[test]
fn a_leader_that_was_deposed_writes_nothing_more_and_says_so() {
    let Some(place) = Database::new() else { return };
    let store = place.open();
    wait(store.persist(Ticket(1), records(0..3).into())).unwrap();
    let lost = store.lost();
    // What another coordinator does when it takes over; the fence holds even while the session
    // of the old one lives.
    place
        .server
        .sql(&place.address, "UPDATE sweeps.leader SET epoch = epoch + 1");
    for _ in 0..2 {
        let error = wait(store.persist(Ticket(2), records(3..6).into())).unwrap_err();
        assert!(
            matches!(error, StoreError::Deposed { epoch: 1, by: 2 }),
            "{error}"
        );
    }
    let error = wait(lost);
    assert!(error.to_string().contains("another coordinator"), "{error}");
    wait(store.put_blob(common::ids::BlobId([1; 32]), vec![1].into())).unwrap_err();
    assert_eq!(recorded(&store), 3);
    drop(store);
    assert_eq!(open(&place).unwrap().epoch(), 3);
}

#[test]
fn an_idle_leader_notices_that_it_was_deposed_while_its_session_was_cut() {
    let Some(place) = Database::new() else { return };
    let store = place.open();
    let ended = place.server.sql(
        &place.address,
        "UPDATE sweeps.leader SET epoch = epoch + 1; \
         SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'sweep coordinator'",
    );
    assert_eq!(ended, "1");
    let error = wait(store.lost());
    assert!(
        matches!(error, StoreError::Deposed { epoch: 1, by: 2 }),
        "{error}"
    );
}

#[test]
fn a_session_that_is_cut_comes_back_to_the_same_epoch_and_loses_nothing() {
    let Some(place) = Database::new() else { return };
    let store = place.open();
    wait(store.persist(Ticket(1), vec![profile(0), profile(1), profile(2)].into())).unwrap();
    for n in 0..20 {
        let cut = place.server.sql(
            &place.address,
            "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name LIKE 'sweep %'",
        );
        assert_eq!(cut, "t", "there was a session to be cut");
        insist(&store, 2 + n, &records(5 * n as u8..5 * (n as u8 + 1)));
    }
    assert_eq!(store.epoch(), 1);
    assert_eq!(recorded(&store), 100);
    let chain = wait(store.chain()).unwrap();
    assert_eq!(chain.results, 100);
    wait(store.close()).unwrap();
    // The chain over what is there is the one that was written.
    let store = place.open();
    let all = wait(store.results(0, 1000)).unwrap();
    let mut again = coordinator::store::Chain::default();
    for result in all {
        let digest = coordinator::core::Opened::open(result.evidence)
            .unwrap()
            .digest;
        again = again.with(&result.task, &digest);
    }
    assert_eq!(again, chain);
}

/// A ticket whose commit was not answered may be durable or not; presented again it is there
/// once.
#[test]
fn a_server_that_crashes_and_comes_back_has_every_acknowledged_result_once() {
    let Some(server) = PostgresServer::start(&[]) else {
        return;
    };
    let address = server.database();
    let url = address.parse().unwrap();
    let store = wait(PostgresStore::open(&url, &Identity::default())).unwrap();
    let mut acknowledged = 0;
    for crash in 0..3_u8 {
        let first = crash * 40;
        // On their way when the server dies.
        let tickets: Vec<_> = (0..8)
            .map(|n| {
                let ticket = u64::from(crash) * 8 + n + 1;
                let at = first + 5 * n as u8;
                (ticket, records(at..at + 5))
            })
            .collect();
        let waiting: Vec<_> = tickets
            .iter()
            .map(|(ticket, records)| store.persist(Ticket(*ticket), records.as_slice().into()))
            .collect();
        server.stop("immediate");
        let answers: Vec<bool> = waiting.into_iter().map(|w| wait(w).is_ok()).collect();
        acknowledged += answers.iter().filter(|ok| **ok).count();
        let error = wait(store.persist(Ticket(1), records(0..5).into())).unwrap_err();
        assert!(matches!(error, StoreError::Database { .. }), "{error}");
        wait(store.results(0, 10)).expect_err("there is no server");
        server.go();
        for (ticket, records) in tickets {
            insist(&store, ticket, &records);
        }
        assert_eq!(recorded(&store), usize::from(first) + 40);
    }
    assert!(acknowledged <= 24);
    assert_eq!(wait(store.chain()).unwrap().results, 120);
    assert_eq!(
        server.sql(&address, "SELECT count(DISTINCT task) FROM sweeps.results"),
        "120"
    );
}

#[test]
fn a_store_of_a_newer_schema_is_refused_also_by_a_standby() {
    let Some(place) = Database::new() else { return };
    drop(place.open());
    place.server.sql(
        &place.address,
        "UPDATE sweeps.schema_version SET version = 99",
    );
    let error = open(&place).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    let (tell, _told) = watch::channel(None);
    let identity = Identity::default();
    let error = wait(PostgresStore::stand_by(&place.url, &identity, tell)).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { .. }), "{error}");
}

#[test]
fn a_schema_of_somebody_else_is_left_alone() {
    let Some(place) = Database::new() else { return };
    place.server.sql(
        &place.address,
        "CREATE SCHEMA sweeps; CREATE TABLE sweeps.chimneys (x int)",
    );
    let error = open(&place).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let Some(place) = Database::new() else { return };
    let url = place.address.replace("test_", "no_such_");
    let url: Address = url.parse().unwrap();
    let error = wait(AnyStore::open(&url, &Identity::default())).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("no_such_") && text.contains("3D000"),
        "{text}"
    );
}

#[test]
fn evidence_that_was_damaged_in_the_database_is_reported_and_not_taken() {
    let Some(place) = Database::new() else { return };
    let store = place.open();
    wait(store.persist(Ticket(1), records(1..2).into())).unwrap();
    place.server.sql(
        &place.address,
        "UPDATE sweeps.results SET evidence = '\\xffff'",
    );
    let lookup = Lookup {
        sweep: SweepNumber(1),
        tasks: vec![task(1)],
    };
    let error = wait(store.lookup(lookup)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

/// A database that has become a read-only copy, or was made read-only by its administrator.
#[test]
fn nothing_is_acknowledged_while_the_database_is_read_only() {
    let Some(place) = Database::new() else { return };
    let store = place.open();
    wait(store.persist(Ticket(1), records(0..5).into())).unwrap();
    let name = place.address.rsplit('/').next().unwrap();
    let set = |value: &str| {
        // Only new sessions have the new setting.
        for sql in [
            format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}"),
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            ),
        ] {
            place.server.sql("postgres", &sql);
        }
    };
    set("on");
    let mut refusals = 0;
    while refusals < 3 {
        let error = wait(store.persist(Ticket(2), records(5..9).into())).unwrap_err();
        refusals += u32::from(error.to_string().contains("read-only transaction"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(recorded(&store), 5);
    let sql = "SELECT count(*) FROM sweeps.results";
    assert_eq!(place.server.sql(&place.address, sql), "5");
    set("off");
    insist(&store, 2, &records(5..9));
    assert_eq!(recorded(&store), 9);
}

/// A thousand results in one commit: how many messages go to the server is bounded by the kinds
/// of records, whatever their number.
#[test]
fn a_commit_of_a_thousand_results_is_a_handful_of_statements() {
    let Some(server) = PostgresServer::start(&["fsync = off", "log_statement = all"]) else {
        return;
    };
    let address = server.database();
    let url = address.parse().unwrap();
    let store = wait(PostgresStore::open(&url, &Identity::default())).unwrap();
    wait(store.persist(Ticket(1), vec![profile(0), profile(1), profile(2)].into())).unwrap();
    let statements = || {
        let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
        let lines = log.lines();
        lines
            .filter(|l| l.contains(" execute ") || l.contains(" statement: "))
            .count()
    };
    let before = statements();
    let many: Vec<Record> = (0..1000_u32)
        .map(|n| {
            let mut record = result((n % 200) as u8, 0, u64::from(n));
            if let Record::Result { task, .. } = &mut record {
                task.0[..4].copy_from_slice(&n.to_le_bytes());
            }
            record
        })
        .collect();
    wait(store.persist(Ticket(2), many.into())).unwrap();
    let sent = statements() - before;
    assert!(sent >= 5, "the log was read: {sent}");
    assert!(sent <= 12, "{sent} statements");
    assert_eq!(recorded(&store), 1000);
}

/// On the network there is TLS, the server proves who it is, and the password is not told.
#[test]
fn a_server_on_the_network_is_reached_through_tls_and_must_be_who_it_says() {
    let Some(server) = PostgresServer::start(&["fsync = off"]) else {
        return;
    };
    let pid = std::process::id();
    let host = format!("127.{}.{}.9", 1 + (pid >> 8) % 100, pid % 250);
    let certificates = server.folder().join("certificates");
    std::fs::create_dir(&certificates).unwrap();
    let (key, certificate) = (certificates.join("key.pem"), certificates.join("cert.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=db"])
        .args(["-addext", &format!("subjectAltName=IP:{host}")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("Debian's PostgreSQL brings openssl");
    assert!(made.status.success(), "{made:?}");
    for path in [&certificates, &key, &certificate] {
        server.give(path);
    }
    let access = server.folder().join("data/pg_hba.conf");
    let lines = "local all all trust\nhostssl all all 127.0.0.0/8 scram-sha-256\n";
    std::fs::write(&access, lines).unwrap();
    for setting in [
        "ssl = on".to_owned(),
        format!("ssl_key_file = '{}'", key.display()),
        format!("ssl_cert_file = '{}'", certificate.display()),
        format!("listen_addresses = '{host}'"),
    ] {
        server.sql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    let database = server.database();
    let name = database.rsplit('/').next().unwrap();
    server.sql(
        "postgres",
        &format!("CREATE ROLE me LOGIN PASSWORD 'hunter22'; ALTER DATABASE {name} OWNER TO me"),
    );
    server.stop("fast");
    server.go();

    let address = |password: &str, rest: &str| -> Address {
        let url = format!("postgres://me:{password}@{host}/{name}?{rest}");
        url.parse().unwrap()
    };
    let roots = format!("sslmode=require&sslrootcert={}", certificate.display());
    let refused = |address: &Address| {
        let error = wait(AnyStore::open(address, &Identity::default())).unwrap_err();
        error.to_string()
    };
    let store = wait(AnyStore::open(
        &address("hunter22", &roots),
        &Identity::default(),
    ))
    .unwrap();
    wait(store.persist(Ticket(1), records(0..3).into())).unwrap();
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'me'";
    assert_eq!(server.sql("postgres", encrypted), "t");
    wait(store.close()).unwrap();

    let text = refused(&address("hunter22", "sslmode=require"));
    assert!(text.contains("certificate"), "{text}");
    let text = refused(&address("hunter22", "sslmode=disable"));
    assert!(text.contains("no encryption"), "{text}");
    let text = refused(&address("another-one", &roots));
    assert!(
        text.contains("28P01") && !text.contains("another-one"),
        "{text}"
    );
}
