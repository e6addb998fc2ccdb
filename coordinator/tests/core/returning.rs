//! Workers that fall silent, come back, and find another coordinator.

use std::time::Duration;

use common::ids::WorkerId;
use common::protocol::{HeldState, ReceiptStatus, STOPPING};
use coordinator::core::{CloseReason, Config, Control, Event, Refusal, SweepState};
use coordinator::testing::FakeWorkload;

use crate::scene::{SWEEP, Scene, held, tasks};

const LEASE: Duration = Duration::from_secs(10);

#[test]
fn tasks_of_a_silent_worker_go_to_another_after_the_lease() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    let b = s.join(2, 1, 1);
    s.pass_with(Duration::from_millis(9_500), &[b]);
    assert_eq!(s.leases(b), []);
    s.pass_with(Duration::from_millis(1_000), &[b]);
    assert_eq!(tasks(&s.leases(b)), [lease.id.task]);
    assert_eq!(s.closed, [(a, CloseReason::Silent)]);
}

#[test]
fn heartbeats_keep_the_leases_of_a_long_task() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    let b = s.join(2, 1, 1);
    s.pass_with(10 * LEASE, &[a, b]);
    assert_eq!(s.leases(b), []);
    s.finish(a, &[lease]);
    assert_eq!(s.end_of(SWEEP).0, SweepState::Finished);
}

#[test]
fn a_worker_that_reconnects_in_time_keeps_its_leases() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 2, 2);
    let leases = s.leases(a);
    s.disconnect(a);
    s.pass(LEASE / 2);
    let back = leases
        .iter()
        .map(|lease| held(lease, HeldState::Running))
        .collect();
    let a = s.rejoin(1, 2, 2, back);
    assert_eq!(s.welcome(a).drop, []);
    assert_eq!(s.leases(a), []);
    s.finish(a, &leases);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded; 2]);
}

#[test]
fn a_lease_that_was_lost_with_the_connection_is_granted_anew() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 2, 2);
    let leases = s.leases(a);
    s.disconnect(a);
    let a = s.rejoin(1, 2, 2, vec![held(&leases[1], HeldState::Running)]);
    let again = s.lease(a);
    assert_eq!(again.id.task, leases[0].id.task);
    assert_ne!(again.id.attempt, leases[0].id.attempt);
}

#[test]
fn a_newer_session_of_a_worker_ends_the_older_one() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let old = s.join(1, 1, 1);
    let lease = s.lease(old);
    let new = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Running)]);
    assert_eq!(s.closed, [(old, CloseReason::Superseded)]);
    s.disconnect(old);
    s.finish(new, &[lease]);
    assert_eq!(s.statuses(new), [ReceiptStatus::Recorded]);
}

#[test]
fn a_late_result_of_a_suspected_worker_is_the_first_one() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.pass(LEASE + Duration::from_millis(100));
    let b = s.join(2, 1, 1);
    let second = s.lease(b);
    assert_eq!(second.id.task, lease.id.task);
    // The suspected worker was only slow; it returns with the result.
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Finished)]);
    assert_eq!(s.welcome(a).drop, []);
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
    assert_eq!(s.revoked(b), [second.id], "the other one need not go on");
    s.finish(b, &[second]);
    assert_eq!(s.statuses(b), [ReceiptStatus::Duplicate]);
}

#[test]
fn a_suspected_worker_that_still_computes_must_drop_what_another_has() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.pass(LEASE + Duration::from_millis(100));
    let b = s.join(2, 1, 1);
    s.lease(b);
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Running)]);
    assert_eq!(s.welcome(a).drop, [lease.id]);
}

#[test]
fn a_suspected_worker_goes_on_with_what_nobody_else_has() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.pass(LEASE + Duration::from_millis(100));
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Running)]);
    assert_eq!(s.welcome(a).drop, []);
    assert_eq!(s.leases(a), [], "it has the task already");
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
}

#[test]
fn a_failure_of_an_older_attempt_does_not_disturb_the_newer_one() {
    use common::protocol::FailureKind;
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.pass(LEASE + Duration::from_millis(100));
    let b = s.join(2, 1, 1);
    let second = s.lease(b);
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Finished)]);
    s.fail(a, &lease, FailureKind::Panic);
    s.hand_back(a, lease.id, None);
    assert_eq!(s.statuses(a), [ReceiptStatus::Stale; 2]);
    s.finish(b, &[second]);
    assert_eq!(s.statuses(b), [ReceiptStatus::Recorded]);
    assert!(s.store.failures.is_empty());
}

#[test]
fn after_a_restart_workers_bring_back_what_they_hold() {
    let mut s = Scene::with(Config {
        grace: Duration::from_secs(2),
        ..Config::default()
    });
    s.pass(Duration::from_secs(3));
    s.sweep(FakeWorkload::noops(6));
    let a = s.join(1, 3, 3);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 3);
    s.restart();
    s.sweep(FakeWorkload::noops(6));
    let states = [HeldState::Finished, HeldState::Running, HeldState::Queued];
    let back = leases
        .iter()
        .zip(states)
        .map(|(lease, state)| held(lease, state))
        .collect();
    let a = s.rejoin(1, 3, 3, back);
    let welcome = s.welcome(a);
    assert_eq!((welcome.drop, welcome.epoch), (vec![], 2));
    s.finish(a, &leases);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded; 3]);
    // The other three, and only those, are handed out after the grace time.
    assert_eq!(s.leases(a), []);
    s.pass(Duration::from_secs(2));
    let rest = s.leases(a);
    assert_eq!(rest.len(), 3);
    assert!(
        rest.iter()
            .all(|lease| !tasks(&leases).contains(&lease.id.task))
    );
    s.finish(a, &rest);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 6);
}

#[test]
fn a_result_recorded_before_the_crash_and_reported_again_is_a_duplicate() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(2));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.finish(a, std::slice::from_ref(&lease));
    // The receipt never arrived.
    s.restart();
    s.sweep(FakeWorkload::noops(2));
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Finished)]);
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Duplicate]);
    s.work_off(&[a]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 2);
}

#[test]
fn a_lease_that_no_plan_has_must_be_dropped() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(4));
    let a = s.join(1, 4, 4);
    let leases = s.leases(a);
    s.restart();
    s.sweep(FakeWorkload::noops(4));
    let mut elsewhere = held(&leases[0], HeldState::Running);
    elsewhere.place.position = 3;
    let mut beyond = held(&leases[1], HeldState::Running);
    beyond.place.position = u64::MAX;
    let mut of_no_sweep = held(&leases[2], HeldState::Finished);
    of_no_sweep.place.sweep.0 = 7;
    let mut of_the_future = held(&leases[3], HeldState::Running);
    of_the_future.lease.attempt.0 = u64::MAX;
    let wrong = vec![elsewhere, beyond, of_no_sweep, of_the_future];
    let dropped = wrong.iter().map(|held| held.lease).collect::<Vec<_>>();
    let a = s.rejoin(1, 4, 0, wrong);
    assert_eq!(s.welcome(a).drop, dropped);
}

#[test]
fn a_worker_whose_process_ended_is_not_waited_for() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    let b = s.join(2, 1, 1);
    s.disconnect(a);
    s.step(Event::WorkerEnded {
        worker: WorkerId([1; 16]),
    });
    assert_eq!(tasks(&s.leases(b)), [lease.id.task]);
}

#[test]
fn a_draining_worker_gets_nothing_more_and_what_it_hands_back_goes_on() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(5));
    let a = s.join(1, 1, 3);
    let leases = s.leases(a);
    assert!(leases.len() > 1);
    s.step(Event::Draining { session: a });
    s.finish(a, &leases[..1]);
    for lease in &leases[1..] {
        s.hand_back(a, lease.id, None);
    }
    assert_eq!(s.leases(a), []);
    s.disconnect(a);
    let b = s.join(2, 1, 1);
    s.work_off(&[b]);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 5);
    assert!(s.store.failures.is_empty());
}

#[test]
fn a_checkpoint_goes_to_the_next_worker_even_over_a_restart() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(1));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.step(Event::Draining { session: a });
    s.store_silent = true;
    s.hand_back(a, lease.id, Some(b"state"));
    assert_eq!(
        s.receipts(a),
        [],
        "a checkpoint is acknowledged when it is durable"
    );
    s.store_speaks();
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
    let b = s.join(2, 1, 1);
    assert_eq!(s.lease(b).checkpoint.as_deref(), Some(&b"state"[..]));
    s.restart();
    s.sweep(FakeWorkload::noops(1));
    let c = s.join(3, 1, 1);
    assert_eq!(s.lease(c).checkpoint.as_deref(), Some(&b"state"[..]));
}

#[test]
fn large_checkpoints_go_out_in_several_messages() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(5));
    let a = s.join(1, 5, 5);
    let leases = s.leases(a);
    assert_eq!(leases.len(), 5);
    s.step(Event::Draining { session: a });
    let large = vec![1; 3 << 20];
    for (position, lease) in leases.iter().enumerate() {
        s.hand_back(a, lease.id, (position < 3).then_some(&large));
    }
    s.disconnect(a);
    let b = s.join(2, 5, 5);
    let batches = s.batches(b);
    let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 3], "at most 4 MiB at a time");
    let again: Vec<_> = batches.concat();
    assert_eq!(tasks(&again), tasks(&leases));
    s.finish(b, &again);
    assert_eq!(s.end_of(SWEEP).1.results.len(), 5);
}

#[test]
fn a_stop_counts_the_tasks_that_begin_anew() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(5));
    let a = s.join(1, 5, 5);
    let leases = s.leases(a);
    s.running(a, &leases[..3]);
    s.hand_back(a, leases[0].id, None);
    assert_eq!(
        s.core.begun_anew(),
        0,
        "before the stop it is nobody's loss"
    );
    let leases = [s.leases(a), leases[1..].to_vec()].concat();
    s.running(a, &leases[..2]);
    s.control(1, stop());
    s.hand_back(a, leases[0].id, None);
    s.hand_back(a, leases[1].id, Some(b"state"));
    assert_eq!(s.core.begun_anew(), 1);
    // The worker goes without a word about the others.
    s.step(Event::WorkerEnded {
        worker: WorkerId([1; 16]),
    });
    assert_eq!(s.core.begun_anew(), 2, "one of them was running");
}

#[test]
fn workers_of_another_kind_are_refused_with_the_reason() {
    let mut s = Scene::with(Config {
        max_sessions: 1,
        ..Config::default()
    });
    let refuse = |s: &mut Scene, change: fn(&mut common::protocol::Hello)| {
        let mut hello = Scene::hello(9, 1, Vec::new());
        change(&mut hello);
        s.step(Event::Hello {
            session: coordinator::core::SessionId(99),
            hello,
        });
        s.refused.pop().expect("a refusal")
    };
    let refusal = refuse(&mut s, |hello| hello.protocol = 2);
    assert_eq!(refusal, Refusal::Protocol { found: 2 });
    let refusal = refuse(&mut s, |hello| hello.profile.numerics_version = 5);
    assert_eq!(
        refusal,
        Refusal::NumericsVersion {
            found: 5,
            expected: 1
        }
    );
    let refusal = refuse(&mut s, |hello| {
        hello.profile.numeric_levels = vec!["old".into()]
    });
    assert_eq!(
        refusal.to_string(),
        "the worker cannot compute at numeric level fma64-1, only at old"
    );
    s.join(1, 1, 1);
    assert_eq!(refuse(&mut s, |_| {}), Refusal::TooMany { limit: 1 });
}

#[test]
fn a_stopping_coordinator_sends_workers_away_but_takes_what_they_bring() {
    let mut s = Scene::new();
    s.sweep(FakeWorkload::noops(4));
    let a = s.join(1, 1, 1);
    let lease = s.lease(a);
    s.control(1, stop());
    assert_eq!(s.drains(a), [(false, Some(Duration::from_secs(30)))]);
    s.disconnect(a);
    s.pass(Duration::from_secs(4));
    let a = s.rejoin(1, 1, 1, vec![held(&lease, HeldState::Finished)]);
    let left = Some(Duration::from_secs(26));
    assert_eq!(s.drains(a), [(false, left)], "what is left of it");
    s.finish(a, &[lease]);
    assert_eq!(s.statuses(a), [ReceiptStatus::Recorded]);
    assert_eq!(s.leases(a), []);
    s.join(2, 1, 1);
    assert_eq!(s.refused, [Refusal::Stopping]);
    // By these words workers know that nothing is wrong.
    assert_eq!(Refusal::Stopping.to_string(), STOPPING);
}

fn stop() -> Control {
    Control::Stop {
        reason: "interrupted".into(),
        finished: false,
        waits: Some(Duration::from_secs(30)),
    }
}
