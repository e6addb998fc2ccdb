//! Who gets how many: idle slots first, little in advance near the end, and
//! tasks asked back when somebody sits idle.

use std::time::Duration;

use common::protocol::Outcome;
use coordinator::testing::{FakeTask, FakeWorkload};

use crate::scene::{SWEEP, Scene, result_of};

#[test]
fn scarce_tasks_are_spread_over_idle_slots() {
    let mut s = Scene::new();
    let workers = [s.join(1, 4, 100), s.join(2, 4, 100), s.join(3, 4, 100)];
    s.sweep(FakeWorkload::noops(6));
    for worker in workers {
        assert_eq!(s.leases(worker).len(), 2);
    }
}

#[test]
fn plenty_of_tiny_tasks_travel_in_large_batches() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(10_000));
    let a = s.join(1, 2, 1000);
    for _ in 0..3 {
        let leases = s.leases(a);
        s.finish(a, &leases);
    }
    assert_eq!(
        s.leases(a).len(),
        1000,
        "the whole window, refilled at once"
    );
}

#[test]
fn near_the_end_a_worker_holds_little_in_advance() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(16));
    let workers = [s.join(1, 1, 1000), s.join(2, 1, 1000)];
    let first = s.leases(workers[0]).len();
    assert!(first <= 8, "{first} of 16 went to the first that asked");
}

#[test]
fn queued_tasks_are_asked_back_for_an_idle_worker() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(5));
    let a = s.join(1, 1, 3);
    let of_a = s.leases(a);
    assert_eq!(of_a.len(), 3);
    s.running(a, &of_a[..1]);
    let b = s.join(2, 2, 2);
    assert_eq!(s.leases(b).len(), 2);
    // Nothing is left, and here comes somebody with nothing to do.
    let idle = s.join(3, 1, 1);
    let recalled = s.recalled(a);
    assert_eq!(recalled, [of_a[2].id], "the one granted last");
    s.pass(Duration::from_millis(500));
    assert_eq!(s.recalled(a), [], "asked for once");
    s.hand_back(a, recalled[0], None);
    assert_eq!(s.lease(idle).id.task, recalled[0].task);
    assert_eq!(s.status(SWEEP).failed, 0);
}

#[test]
fn a_quick_baseline_does_not_keep_long_runs_from_an_idle_worker() {
    let mut s = Scene::new();
    let run = |number| FakeTask {
        number,
        baseline: Some(0),
    };
    s.sweep(FakeWorkload::new((0..5).map(run).collect(), Vec::new()));
    let a = s.join(1, 1, 3);
    let mut solved = result_of(&s.lease(a));
    if let Outcome::Result(result) = &mut solved.outcome {
        result.telemetry.seconds = 1e-3;
    }
    s.reports(a, vec![solved]);
    let of_a = s.leases(a);
    assert_eq!(of_a.len(), 3);
    s.running(a, &of_a[..1]);
    let b = s.join(2, 2, 2);
    assert_eq!(s.leases(b).len(), 2);
    s.join(3, 1, 1);
    assert_eq!(s.recalled(a), [of_a[2].id]);
}
