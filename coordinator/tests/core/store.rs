//! A store that is slow, full, or has been written to by somebody else.

use std::time::Duration;

use common::protocol::ReceiptStatus;
use common::record::Evidence;
use coordinator::core::{Config, Notice, Opened};
use coordinator::testing::FakeWorkload;

use crate::scene::{SWEEP, Scene};

#[test]
fn nothing_is_acknowledged_or_granted_while_the_store_fails_and_all_is_when_it_recovers() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(9));
    let a = s.join(1, 1, 2);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 2);
    s.store_broken = true;
    s.finish(a, &leases[..1]);
    // Granted before the store's refusal was known.
    let more = s.leases(a);
    assert!(more.len() <= 1);
    s.finish(a, &leases[1..]);
    s.pass_with(Duration::from_secs(30), &[a]);
    assert_eq!(s.receipts(a), []);
    assert_eq!(s.leases(a), []);
    assert!(s.core.status().store_failing);
    s.store_broken = false;
    s.pass_with(Duration::from_secs(5), &[a]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded; 2]);
    assert!(s.notices.contains(&Notice::StoreRecovered));
    s.finish(a, &more);
    s.work_off(&[a]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 9);
}

#[test]
fn a_commit_that_was_reported_as_failed_but_happened_is_no_conflict() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.store_broken = true;
    s.finish(a, std::slice::from_ref(&lease));
    // The transaction was committed all the same.
    let bytes = common::pb::encode_evidence(&Evidence::Noop { seed: 0 });
    s.store
        .results
        .insert(lease.id.task, Opened::open(bytes).unwrap());
    s.store_broken = false;
    s.pass(Duration::from_secs(1));
    assert_eq!(s.statuses(a), [ReceiptStatus::Duplicate]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 1);
}

#[test]
fn a_result_that_the_store_holds_with_other_bits_counts_as_stored() {
    use coordinator::testing::FakeTask;
    let mut s = Scene::new();
    let run = FakeTask {
        number: 0,
        baseline: Some(0),
    };
    s.sweep(FakeWorkload::new(vec![run], Vec::new()));
    let a = s.join(1, 1, 1);
    let baseline = s.lease(a);
    s.finish(a, &[baseline]);
    let lease = s.lease(a);
    let Evidence::Run(mut other) = coordinator::testing::compute(&lease.id.task, &lease.work)
    else {
        panic!("a run has a run's evidence");
    };
    other.value += 1.0;
    let bytes = common::pb::encode_evidence(&Evidence::Run(other));
    s.store
        .results
        .insert(lease.id.task, Opened::open(bytes.clone()).unwrap());
    s.finish(a, std::slice::from_ref(&lease));
    assert_eq!(s.statuses(a).last(), Some(&ReceiptStatus::Conflict));
    let (_, workload) = s.end_of(SWEEP);
    assert_eq!(workload.results[&lease.id.task], bytes);
    assert_eq!(s.store.conflicts.len(), 1);
}

#[test]
fn granting_stops_while_too_much_waits_for_the_store() {
    let mut s = Scene::with(Config {
        max_unpersisted: 4,
        ..Config::default()
    });
    s.sweep(FakeWorkload::noops(100));
    let a = s.join(1, 1, 3);
    s.store_silent = true;
    let mut leased = 0;
    loop {
        let leases = s.leases(a);
        if leases.is_empty() {
            break;
        }
        leased += leases.len();
        s.finish(a, &leases);
    }
    assert!(leased < 12, "{leased} were leased without a single commit");
    s.store_speaks();
    s.work_off(&[a]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 100);
}
