//! What every store does, compared with the contract written down as maps.
//!
//! Each rule is a function over a place; at the end they become tests of each
//! kind of store.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use common::ids::{BlobId, TaskId};
use common::protocol::SweepNumber;
use coordinator::core::{AlreadyThere, Exception, Lookup, Record, SweepState, Ticket};
use coordinator::store::{
    Chain, Identity, PostgresStore, PostgresUrl, SqliteStore, Store, StoreError, SweepText,
};
use coordinator::testing::{MemoryStore, PostgresServer};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use sha2::{Digest, Sha256};

use crate::records::{any_record, evidence, profile, result, task, worker};

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime of one thread").block_on(future)
}

/// Where a store can be opened again and again.
pub(crate) trait Place {
    type Store: Store;

    fn open(&self) -> Self::Store {
        self.open_as(&Identity::default())
    }

    fn open_as(&self, identity: &Identity) -> Self::Store;
}

/// A store in a directory of its own, which goes with it.
pub(crate) struct Directory {
    pub(crate) directory: tempfile::TempDir,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }
}

impl Place for Directory {
    type Store = SqliteStore;

    fn open_as(&self, identity: &Identity) -> SqliteStore {
        SqliteStore::open(self.directory.path(), identity).expect("a store")
    }
}

/// A store in a database of its own.
pub(crate) struct Database {
    pub(crate) server: &'static PostgresServer,
    pub(crate) address: String,
    pub(crate) url: PostgresUrl,
}

impl Database {
    /// `None` where PostgreSQL is not installed and need not be.
    pub(crate) fn new() -> Option<Self> {
        let server = PostgresServer::shared()?;
        let address = server.database();
        let url = address.parse().expect("the server's own address");
        Some(Self {
            server,
            address,
            url,
        })
    }
}

impl Place for Database {
    type Store = PostgresStore;

    fn open_as(&self, identity: &Identity) -> PostgresStore {
        wait(PostgresStore::open(&self.url, identity)).expect("a store")
    }
}

pub(crate) fn sweep_text(id: &str) -> SweepText {
    SweepText {
        id: id.into(),
        name: "a sweep".into(),
        grid: "version: 1\n".into(),
        files: [("it's \"x\".csv".to_owned(), "ab".repeat(32))].into(),
        priority: 3,
        numerics_version: 1,
        numeric_level: "fma64-1".into(),
    }
}

fn persist(store: &impl Store, ticket: u64, records: Vec<Record>) -> Vec<Exception> {
    wait(store.persist(Ticket(ticket), records.into())).expect("it can be written")
}

/// Everything that can be asked, asked of both.
fn assert_equal(store: &impl Store, model: &MemoryStore) {
    let tasks: Vec<_> = (0..9).map(task).collect();
    for sweep in [1, 2].map(SweepNumber) {
        let lookup = Lookup {
            sweep,
            tasks: tasks.clone(),
        };
        let found = wait(store.lookup(lookup.clone())).expect("it can be read");
        assert_eq!(found, model.lookup(&lookup));
    }
    for task in &tasks {
        let bits = |theta: &[f64]| {
            theta
                .iter()
                .map(|value| value.to_bits())
                .collect::<Vec<_>>()
        };
        let kept = wait(store.theta(*task)).expect("it can be read");
        let expected = model.theta.get(task).map(|(theta, _)| bits(theta));
        assert_eq!(kept.as_deref().map(bits), expected);
    }
    let results = wait(store.results(0, 1000)).expect("it can be read");
    assert_eq!(results.len(), model.results.len());
    let mut chain = Chain::default();
    for result in results {
        let expected = &model.results[&result.task];
        assert_eq!(result.evidence, expected.bytes);
        chain = chain.with(&result.task, &expected.digest);
        assert_eq!(chain.results, result.number);
    }
    assert_eq!(wait(store.chain()).expect("it can be read"), chain);
    for sweep in wait(store.sweeps()).expect("it can be read") {
        let expected = model.sweeps.get(&sweep.number).copied();
        let expected = expected.unwrap_or((SweepState::Running, 3));
        assert_eq!((sweep.state, sweep.text.priority), expected);
        let failures = wait(store.failures(sweep.number)).expect("it can be read");
        let of_sweep = model
            .failures
            .iter()
            .filter(|((number, _), _)| *number == sweep.number);
        let expected: Vec<_> = of_sweep
            .flat_map(|((_, task), failures)| failures.iter().map(|(a, f)| (*task, *a, f.kind)))
            .collect();
        let found: Vec<_> = failures
            .iter()
            .map(|f| (f.task, f.attempt, f.kind))
            .collect();
        assert_eq!(found, expected);
    }
}

/// Some records, whether they are presented twice, whether the store is opened again after them.
type Tickets = Vec<(Vec<Record>, bool, u8)>;

fn any_tickets() -> impl Strategy<Value = Tickets> {
    let records = prop::collection::vec(any_record(), 1..9);
    prop::collection::vec((records, any::<bool>(), 0..9_u8), 1..12)
}

fn follows_the_contract(place: &impl Place, tickets: Tickets) -> Result<(), TestCaseError> {
    let mut store = place.open();
    let mut model = MemoryStore::default();
    for id in ["one", "two"] {
        wait(store.add_sweep(sweep_text(id))).unwrap();
    }
    let workers: Vec<_> = (0..3).map(profile).collect();
    persist(&store, 1, workers.clone());
    let mut next = 2;
    for (records, again, restart) in tickets {
        // The model does not know which records the driver would repeat:
        // any of them may be.
        let expected = model.persist(&records);
        prop_assert_eq!(persist(&store, next, records.clone()), expected);
        if again {
            let expected = model.persist(&records);
            prop_assert_eq!(persist(&store, next, records), expected);
        }
        next += 1;
        if restart == 0 {
            wait(store.close()).unwrap();
            store = place.open();
            next = 1;
        }
    }
    assert_equal(&store, &model);
    wait(store.close()).unwrap();
    assert_equal(&place.open(), &model);
    Ok(())
}

/// A fresh place for each case.
fn a_store_behaves_as_its_contract_over_restarts_and_repetitions<P: Place>(place: impl Fn() -> P) {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(40)
    };
    let result = TestRunner::new(config).run(&any_tickets(), |tickets| {
        follows_the_contract(&place(), tickets)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// The same records one by one and all at once come to the same.
fn tickets_that_are_written_together_come_to_what_they_come_to_one_by_one<P: Place>(
    place: impl Fn() -> P,
) {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(20)
    };
    let result = TestRunner::new(config).run(&any_tickets(), |tickets| {
        let place = place();
        let store = place.open();
        let mut model = MemoryStore::default();
        for id in ["one", "two"] {
            wait(store.add_sweep(sweep_text(id))).unwrap();
        }
        let mut waiting = Vec::new();
        let mut expected = Vec::new();
        let workers: Vec<_> = (0..3).map(profile).collect();
        let tickets = std::iter::once(workers).chain(tickets.into_iter().map(|t| t.0));
        for (number, records) in (1..).zip(tickets) {
            expected.push(model.persist(&records));
            waiting.push(store.persist(Ticket(number), records.into()));
        }
        let found: Vec<_> = waiting.into_iter().map(|w| wait(w).unwrap()).collect();
        prop_assert_eq!(found, expected);
        assert_equal(&store, &model);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

fn each_opening_claims_a_later_epoch(place: &impl Place) {
    for epoch in 1..4 {
        let store = place.open();
        assert_eq!(store.epoch(), epoch);
        // Dropped without a word, as by a crash.
        drop(store);
    }
}

/// Workers of a coordinator that crashed are waited for, whoever has looked at its store since.
fn who_only_looks_hides_no_coordinator_that_had_workers(place: &impl Place) {
    let reachable = Identity {
        listen: Some("10.0.0.1:7070".into()),
        ..Identity::default()
    };
    let at_rest = Identity {
        at_rest: true,
        ..Identity::default()
    };
    assert!(!place.open_as(&reachable).may_have_orphans());
    for _ in 0..2 {
        assert!(place.open_as(&at_rest).may_have_orphans());
    }
    assert!(place.open().may_have_orphans());
    // That one could be reached by nobody.
    drop(place.open_as(&at_rest));
    assert!(!place.open().may_have_orphans());
    assert_eq!(place.open().epoch(), 7, "each has one of its own");
}

fn tickets_become_durable_in_their_order(place: &impl Place) {
    let store = place.open();
    // Sent at once; the calls are made in the wrong order.
    let records = |n| Arc::from(vec![result(n, 0, 1)]);
    let second = store.persist(Ticket(2), records(2));
    let first = store.persist(Ticket(1), records(1));
    let again = store.persist(Ticket(2), records(2));
    let third = store.persist(Ticket(3), records(3));
    let error = wait(second).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::OutOfOrder {
                found: 2,
                expected: 1
            }
        ),
        "{error}"
    );
    for future in [first, again, third] {
        assert_eq!(wait(future).unwrap(), []);
    }
    let order: Vec<_> = wait(store.results(0, 9))
        .unwrap()
        .iter()
        .map(|r| r.task)
        .collect();
    assert_eq!(order, [task(1), task(2), task(3)]);
}

fn a_ticket_that_nobody_waits_for_is_durable_all_the_same(place: &impl Place) {
    let store = place.open();
    drop(store.persist(Ticket(1), vec![result(1, 0, 1)].into()));
    wait(store.close()).unwrap();
    assert_eq!(wait(place.open().results(0, 9)).unwrap().len(), 1);
}

fn what_the_store_held_already_is_told_record_by_record(place: &impl Place) {
    let store = place.open();
    persist(&store, 1, vec![result(1, 7, 1), result(2, 7, 2)]);
    let exceptions = persist(
        &store,
        2,
        vec![result(3, 7, 3), result(1, 7, 4), result(2, 8, 5)],
    );
    assert_eq!(
        exceptions,
        [
            Exception {
                record: 1,
                found: AlreadyThere::Equal
            },
            Exception {
                record: 2,
                found: AlreadyThere::Different
            },
        ]
    );
    let lookup = Lookup {
        sweep: SweepNumber(1),
        tasks: vec![task(2)],
    };
    let known = wait(store.lookup(lookup)).unwrap();
    assert_eq!(known.results, [(task(2), evidence(7))]);
}

fn results_tell_who_computed_them_and_come_in_pages(place: &impl Place) {
    let store = place.open();
    let mut records = vec![profile(0), profile(1), profile(2)];
    records.extend((0..7).map(|n| result(n, 0, u64::MAX - u64::from(n))));
    persist(&store, 1, records);
    let first = wait(store.results(0, 4)).unwrap();
    let second = wait(store.results(first[3].number, 4)).unwrap();
    assert_eq!((first.len(), second.len()), (4, 3));
    assert_eq!((first[1].worker, &*first[1].host), (worker(1), "here"));
    assert_eq!(first[1].attempt.0, u64::MAX - 1);
    assert_eq!(first[1].telemetry.peak_memory, 1 << 40);
    // The same by task, in the order asked for; those without a result are left out.
    let asked = wait(store.results_of(vec![task(5), task(9), task(1)])).unwrap();
    assert_eq!(asked, [second[1].clone(), first[1].clone()]);
}

/// In whatever order they are asked for, once or again, before or after more are recorded.
fn every_result_is_found_in_any_order(place: &impl Place) {
    const RESULTS: u16 = 6_000;
    let store = place.open();
    let id = |n: u16| TaskId(Sha256::digest(n.to_le_bytes()).into());
    let record = |n: u16| match result(1, 0, u64::from(n)) {
        Record::Result {
            worker,
            place,
            attempt,
            telemetry,
            theta,
            ..
        } => Record::Result {
            task: id(n),
            place,
            worker,
            attempt,
            evidence: evidence(n.into()),
            telemetry,
            theta,
        },
        other => other,
    };
    persist(&store, 1, vec![profile(1)]);
    persist(&store, 2, (0..RESULTS).map(record).collect());
    let mut ticket = 2;
    let mut check = |tasks: Vec<u16>| {
        let lookup = Lookup {
            sweep: SweepNumber(1),
            tasks: tasks.iter().map(|n| id(*n)).collect(),
        };
        let known = wait(store.lookup(lookup.clone())).unwrap();
        let expected: Vec<_> = (tasks.iter().filter(|n| **n < RESULTS))
            .map(|n| (id(*n), evidence((*n).into())))
            .collect();
        assert_eq!(known.results, expected);
        let found = wait(store.results_of(lookup.tasks)).unwrap();
        let expected: Vec<_> = expected.into_iter().map(|(id, _)| id).collect();
        assert_eq!(found.iter().map(|r| r.task).collect::<Vec<_>>(), expected);
        // More is recorded meanwhile.
        ticket += 1;
        persist(&store, ticket, vec![record(4 * RESULTS + ticket as u16)]);
    };
    // As recorded, backwards, far apart, and some that have none.
    let all = 0..RESULTS;
    all.clone()
        .collect::<Vec<_>>()
        .chunks(1024)
        .for_each(|chunk| check(chunk.to_vec()));
    check(all.clone().rev().collect());
    for start in 0..7 {
        check(
            all.clone()
                .filter(|n| n % 7 == start)
                .map(|n| n + RESULTS / 2)
                .collect(),
        );
        check(
            (0..500_u32)
                .map(|n| ((n * 1_009 + u32::from(start)) % u32::from(RESULTS)) as u16)
                .collect(),
        );
    }
}

fn who_recorded_how_much_of_a_sweep_is_added_up(place: &impl Place) {
    let store = place.open();
    assert_eq!(wait(store.shares(SweepNumber(1))).unwrap(), []);
    let mut records = vec![profile(0), profile(1), profile(2)];
    records.extend((0..7).map(|n| result(n, 0, u64::from(n))));
    persist(&store, 1, records);
    let mut results = wait(store.results(0, 9)).unwrap();
    results.retain(|result| result.place.sweep == SweepNumber(1));
    let shares = wait(store.shares(SweepNumber(1))).unwrap();
    assert_eq!(shares.iter().map(|share| share.results).sum::<u64>(), 4);
    for share in &shares {
        let own: Vec<_> = results
            .iter()
            .filter(|r| r.worker == share.worker)
            .collect();
        assert_eq!(share.results, own.len() as u64);
        assert_eq!(
            (&*share.host, &*share.program_version),
            (&*own[0].host, &*own[0].program_version)
        );
        let seconds: f64 = own.iter().map(|r| r.telemetry.cpu_seconds).sum();
        assert_eq!(share.cpu_seconds, seconds);
        let most = own.iter().map(|r| r.telemetry.peak_memory).max();
        assert_eq!(Some(share.peak_memory), most);
        let times = own.iter().map(|r| r.recorded_at);
        assert_eq!(Some(share.first_recorded_at), times.clone().min());
        assert_eq!(Some(share.last_recorded_at), times.max());
    }
    assert_eq!(wait(store.shares(SweepNumber(3))).unwrap(), []);
}

/// A link for each commit, and the last one is the head: `verify` walks them.
fn every_commit_of_results_leaves_a_link(place: &impl Place) {
    let store = place.open();
    assert!(wait(store.links()).unwrap().is_empty());
    let mut expected = Vec::new();
    let mut chain = Chain::default();
    for (ticket, numbers) in [(1, 0..3), (2, 3..4), (3, 4..9)] {
        let workers = (0..3).map(profile).filter(|_| ticket == 1);
        let results = numbers.clone().map(|n| result(n, 0, u64::from(n)));
        persist(&store, ticket, workers.chain(results).collect());
        for n in numbers {
            chain = chain.with(&task(n), &evidence(0).digest);
        }
        expected.push(chain);
    }
    assert_eq!(wait(store.links()).unwrap(), expected);
    assert_eq!(wait(store.chain()).unwrap(), chain);
}

fn the_same_sweep_is_found_again_as_it_is(place: &impl Place) {
    let store = place.open();
    let one = wait(store.add_sweep(sweep_text("one"))).unwrap();
    let two = wait(store.add_sweep(sweep_text("two"))).unwrap();
    assert_ne!(one.number, two.number);
    let state = SweepState::Paused;
    persist(
        &store,
        1,
        vec![Record::Sweep {
            sweep: one.number,
            state,
            priority: 9,
        }],
    );
    let again = wait(store.add_sweep(sweep_text("one"))).unwrap();
    assert_eq!(
        (again.number, again.state, again.text.priority),
        (one.number, state, 9)
    );
    assert_eq!(wait(store.sweeps()).unwrap(), [again, two]);
}

fn files_are_kept_by_their_hash(place: &impl Place) {
    let store = place.open();
    let content = Bytes::from(vec![3; 300_000]);
    wait(store.put_blob(BlobId([1; 32]), content.clone())).unwrap();
    wait(store.put_blob(BlobId([1; 32]), content.clone())).unwrap();
    assert_eq!(wait(store.blob(BlobId([1; 32]))).unwrap(), Some(content));
    assert_eq!(wait(store.blob(BlobId([2; 32]))).unwrap(), None);
}

/// Tests of each rule on each kind of store.
macro_rules! on_every_store {
    ($($(#[$attribute:meta])* $rule:ident),* $(,)?) => {
        mod sqlite {
            use super::Directory;

            #[test]
            fn a_store_behaves_as_its_contract_over_restarts_and_repetitions() {
                super::a_store_behaves_as_its_contract_over_restarts_and_repetitions(Directory::new);
            }

            #[test]
            fn tickets_that_are_written_together_come_to_what_they_come_to_one_by_one() {
                super::tickets_that_are_written_together_come_to_what_they_come_to_one_by_one(
                    Directory::new,
                );
            }

            $(
                #[test]
                fn $rule() {
                    super::$rule(&Directory::new());
                }
            )*
        }

        mod postgres {
            use super::Database;

            fn another() -> Database {
                Database::new().expect("the first one was there")
            }

            #[test]
            fn a_store_behaves_as_its_contract_over_restarts_and_repetitions() {
                if Database::new().is_some() {
                    super::a_store_behaves_as_its_contract_over_restarts_and_repetitions(another);
                }
            }

            #[test]
            fn tickets_that_are_written_together_come_to_what_they_come_to_one_by_one() {
                if Database::new().is_some() {
                    super::tickets_that_are_written_together_come_to_what_they_come_to_one_by_one(
                        another,
                    );
                }
            }

            $(
                #[test]
                fn $rule() {
                    if let Some(place) = Database::new() {
                        super::$rule(&place);
                    }
                }
            )*
        }
    };
}

on_every_store!(
    each_opening_claims_a_later_epoch,
    who_only_looks_hides_no_coordinator_that_had_workers,
    tickets_become_durable_in_their_order,
    a_ticket_that_nobody_waits_for_is_durable_all_the_same,
    what_the_store_held_already_is_told_record_by_record,
    results_tell_who_computed_them_and_come_in_pages,
    every_result_is_found_in_any_order,
    who_recorded_how_much_of_a_sweep_is_added_up,
    every_commit_of_results_leaves_a_link,
    the_same_sweep_is_found_again_as_it_is,
    files_are_kept_by_their_hash,
);
