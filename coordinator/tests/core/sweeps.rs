//! Several sweeps, and what people ask for.

use common::protocol::{ReceiptStatus, SweepNumber};
use coordinator::core::{Control, Denied, SweepState};
use coordinator::testing::{FakeTask, FakeWorkload};

use crate::scene::{SWEEP, Scene};

const SECOND: SweepNumber = SweepNumber(2);

fn others(count: u32) -> FakeWorkload {
    let task = |number| FakeTask {
        number: 1000 + number,
        baseline: None,
    };
    FakeWorkload::new((0..count).map(task).collect(), Vec::new())
}

#[test]
fn a_sweep_of_higher_priority_is_served_first() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(3));
    s.sweep_as(SECOND, 5, others(3));
    let a = s.join(1, 1, 1);
    let mut order = Vec::new();
    for _ in 0..6 {
        let lease = s.lease(a);
        order.push(lease.place.sweep.0);
        s.finish(a, &[lease]);
    }
    assert_eq!(order, [2, 2, 2, 1, 1, 1]);
}

#[test]
fn sweeps_of_equal_priority_share_the_workers() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(50));
    s.sweep_as(SECOND, 0, others(50));
    let a = s.join(1, 8, 8);
    let leases = s.leases(a);
    let of_first = leases
        .iter()
        .filter(|lease| lease.place.sweep == SWEEP)
        .count();
    assert_eq!((leases.len(), of_first), (8, 4));
}

#[test]
fn a_paused_sweep_hands_out_nothing_until_it_is_resumed() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(3));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.control(1, Control::Pause(SWEEP));
    assert_eq!(s.store.sweeps[&SWEEP].0, SweepState::Paused);
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
    assert_eq!(s.leases(a), []);
    s.control(2, Control::Resume(SWEEP));
    s.work_off(&[a]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 3);
}

#[test]
fn a_cancelled_sweep_revokes_its_leases_and_ends() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(30));
    let a = s.join(1, 1, 2);
    let leases = s.leases(a);
    s.finish(a, &leases[..1]);
    let more = s.leases(a);
    s.control(1, Control::Cancel(SWEEP));
    assert!(s.answers[&1].is_ok());
    let mut revoked = s.revoked(a);
    revoked.sort();
    let mut expected: Vec<_> = leases[1..]
        .iter()
        .chain(&more)
        .map(|lease| lease.id)
        .collect();
    expected.sort();
    assert_eq!(revoked, expected);
    let (state, workload) = s.end_of(SWEEP);
    assert_eq!((state, workload.results.len()), (SweepState::Cancelled, 1));
    s.control(2, Control::Resume(SWEEP));
    assert_eq!(s.answers[&2], Err(Denied::NotActive(SWEEP)));
}

#[test]
fn what_two_sweeps_want_goes_on_when_one_of_them_is_cancelled() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    s.sweep_as(SECOND, 0, FakeWorkload::noops(2));
    let a = s.join(1, 2, 2);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 2);
    s.control(1, Control::Cancel(SWEEP));
    assert_eq!(s.revoked(a), []);
    s.finish(a, &leases);
    assert_eq!(s.end_of(SECOND).1.results.len(), 2);
}

#[test]
fn what_two_sweeps_want_while_it_waits_for_a_baseline_goes_on_too() {
    let runs = || {
        let run = |number| FakeTask {
            number,
            baseline: Some(0),
        };
        FakeWorkload::new((0..3).map(run).collect(), Vec::new())
    };
    let mut s = Scene::new();
    s.sweep(runs());
    s.sweep_as(SECOND, 0, runs());
    let a = s.join(1, 1, 1);
    let baseline = s.lease(a);
    s.control(1, Control::Cancel(SWEEP));
    s.finish(a, &[baseline]);
    s.work_off(&[a]);
    let (_, workload) = s.end_of(SECOND);
    assert_eq!((workload.results.len(), workload.baselines.len()), (3, 1));
}

#[test]
fn rounds_follow_when_everything_before_is_settled() {
    let task = |number| FakeTask {
        number,
        baseline: None,
    };
    let rounds = vec![vec![task(10), task(11)], vec![task(12), task(0)]];
    let mut s = Scene::new();
    s.sweep(FakeWorkload::new(vec![task(0), task(1)], rounds));
    let a = s.join(1, 8, 8);
    let mut sizes = Vec::new();
    for _ in 0..3 {
        s.pass(std::time::Duration::from_millis(100));
        let leases = s.leases(a);
        sizes.push(leases.len());
        s.finish(a, &leases);
    }
    assert_eq!(
        sizes,
        [2, 2, 1],
        "task 0 is known already in the last round"
    );
    assert_eq!(s.end_of(SWEEP).1.results.len(), 5);
}
