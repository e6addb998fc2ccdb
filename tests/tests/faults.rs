//! Faults that happen to whole processes: frozen, killed at any moment, out of disk. The sweep
//! ends with the bytes of an undisturbed one, whatever happened.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::mounts::{Disk, Failing};
use tests::processes::{RunningSweep, children, coordinator, send_signal, wait, wait_until_gone};
use tests::scene::{Helper, RESULTS, Scene, TASKS, count, undisturbed, url_of};

/// Every task is in the store once, and nothing else is.
fn each_once(store: &Path) {
    assert_eq!(count(store, "SELECT count(*) FROM results"), RESULTS);
    assert_eq!(
        count(store, "SELECT count(DISTINCT task) FROM results"),
        RESULTS
    );
    assert_eq!(count(store, "SELECT count(*) FROM conflicts"), 0);
}

/// Waits until so many workers have been given up; the leases that they held.
fn given_up(sweep: &mut RunningSweep, workers: usize) -> u64 {
    let words = " is given up; ";
    let held = |_| {
        let line = sweep.wait_for_words(words);
        let after = line.split(words).nth(1).unwrap_or_default();
        let tasks = after.split(' ').next().unwrap_or_default().parse::<u64>();
        tasks.unwrap()
    };
    (0..workers).map(held).sum()
}

/// The worker sleeps, its slot goes on: when it wakes up, its leases are others' and its results
/// are as good as any.
#[test]
fn a_worker_that_slept_past_its_lease_delivers_what_it_had() {
    let scene = Scene::new();
    let mut command = scene.sweep("frozen");
    command.args(["--local-workers", "0", "--listen", "127.0.0.1:0"]);
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);
    let (sleepy, awake) = (Helper::start(&url, "sleepy"), Helper::start(&url, "awake"));
    sweep.wait_for(|moment| moment["workers"] == 2 && moment["recorded"].as_u64() >= Some(6));
    // Both sleep, so that nobody else can have computed what is delivered.
    send_signal(sleepy.pid(), "STOP");
    send_signal(awake.pid(), "STOP");
    let taken_away = given_up(&mut sweep, 2);
    let woken = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let store = scene.path("frozen");
    let recorded = count(&store, "SELECT count(*) FROM results");
    // Attempts are numbered without gaps: each was recorded, or is one that was taken away.
    let granted = recorded + taken_away;
    let asleep = sweep.last_recorded();
    assert!(
        asleep + 2 < TASKS,
        "{asleep} of {TASKS} were recorded before"
    );
    send_signal(sleepy.pid(), "CONT");
    sweep.wait_for_recorded(asleep + 2);
    send_signal(awake.pid(), "CONT");
    assert!(sweep.finish().success());
    assert_eq!(scene.summary("frozen"), undisturbed());
    each_once(&store);
    let late = format!(
        "SELECT count(*) FROM results r JOIN workers w USING (worker) \
         WHERE w.name = 'sleepy' AND r.recorded_at >= {woken} \
         AND (r.attempt & 0xFFFFFFFF) <= {granted}"
    );
    assert!(count(&store, &late) >= 1, "a late result was accepted");
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_there_and_the_sweep_goes_on_when_it_can() {
    let Some(disk) = Disk::mount("8m") else {
        return;
    };
    let scene = Scene::new();
    let store = disk.path().join("store");
    let sweep = || {
        let mut command = scene.sweep_in(coordinator(), &store, "full");
        RunningSweep::start(command.args(["--local-workers", "2"]))
    };
    let full = |sweep: &mut RunningSweep| {
        disk.fill();
        let line = sweep.wait_for_words("the store takes no records");
        assert!(line.contains("disk is full"), "{line}");
        assert!(line.contains("nothing is acknowledged"), "{line}");
        sweep.last_recorded()
    };
    let mut first = sweep();
    first.wait_for_recorded(5);
    let seen = full(&mut first);
    disk.make_room();
    first.wait_for_words("the store works again");
    first.wait_for_recorded(seen + 1);
    // Once more, and this time the coordinator does not live to see the room.
    let seen = full(&mut first);
    first.kill();
    disk.make_room();
    let recorded = scene.at_rest(&store)["totals"]["recorded"]
        .as_u64()
        .unwrap();
    assert!(recorded >= seen, "{recorded} of the {seen} that were seen");
    assert!(recorded < TASKS, "the disk was full before the end");
    assert!(sweep().finish().success());
    assert_eq!(scene.summary("full"), undisturbed());
    each_once(&store);
}

#[test]
fn on_a_file_system_that_has_become_read_only_nothing_is_acknowledged_and_nothing_is_lost() {
    let Some(disk) = Failing::mount() else {
        return;
    };
    let scene = Scene::new();
    let store = disk.path().join("store");
    let sweep = || {
        let mut command = scene.sweep_in(coordinator(), &store, "failing");
        RunningSweep::start(command.args(["--local-workers", "2"]))
    };
    let mut first = sweep();
    first.wait_for_recorded(5);
    disk.fail();
    let line = first.wait_for_words("the store takes no records");
    assert!(line.contains("nothing is acknowledged"), "{line}");
    // Workers wait with what they have; the next attempt fails as well. What is told after that
    // is told of the time after the failure: the second moment is no older than the first.
    first.wait_for_words("the store takes no records");
    first.wait_for_recorded(0);
    let seen = first.wait_for_recorded(0);
    first.wait_for_words("the store takes no records");
    assert_eq!(first.wait_for_recorded(0), seen);
    let workers = children(first.pid());
    first.kill();
    wait_until_gone(&workers);
    disk.repair();
    let recorded = scene.at_rest(&store)["totals"]["recorded"]
        .as_u64()
        .unwrap();
    assert!(recorded >= seen, "{recorded} of the {seen} that were seen");
    assert!(recorded < TASKS, "it failed before the end");
    assert!(sweep().finish().success());
    assert_eq!(scene.summary("failing"), undisturbed());
    each_once(&store);
}

/// Draws that a number replays.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea & Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// The draws of this run; printed, and given back with `KILL_SEED`.
fn draws() -> Draws {
    let given = std::env::var("KILL_SEED").ok().and_then(|s| s.parse().ok());
    let drawn = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64;
    let seed = given.unwrap_or(drawn);
    #[expect(clippy::print_stderr, reason = "shown when the test fails")]
    {
        eprintln!("KILL_SEED={seed}");
    }
    Draws(seed)
}

/// Workers outlive their coordinators: they come back by themselves, with what they have finished.
#[test]
fn whoever_is_killed_at_whatever_moment_the_bytes_are_the_same() {
    let mut draws = draws();
    let scene = Scene::new();
    // A port that is free now, for a coordinator that comes back to it.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}");
    let start = || {
        let mut command = scene.sweep("killed");
        command.args(["--local-workers", "0", "--listen", &free.to_string()]);
        RunningSweep::start(&mut command)
    };
    let mut workers = [Helper::start(&url, "one"), Helper::start(&url, "two")];
    let mut sweep = start();
    let (mut coordinators, mut others) = (0, 0);
    let store = scene.path("killed");
    for round in 1..=6 {
        let found = sweep.wait_for_recorded(1);
        if found > TASKS / 2 {
            // Near the end there is nothing left to disturb.
            break;
        }
        let goal = found + draws.below(8);
        let seen = sweep.wait_for_recorded(goal);
        std::thread::sleep(Duration::from_millis(draws.below(300)));
        if round == 1 || draws.below(2) == 0 {
            sweep.kill();
            coordinators += 1;
            let recorded = scene.at_rest(&store)["totals"]["recorded"]
                .as_u64()
                .unwrap();
            assert!(recorded >= seen, "{recorded} of the {seen} that were seen");
            sweep = start();
        } else {
            let victim = draws.below(2) as usize;
            assert!(
                workers[victim].0.try_wait().unwrap().is_none(),
                "it had ended"
            );
            workers[victim] = Helper::start(&url, "another");
            others += 1;
        }
    }
    let (ended, said) = sweep.finish_with_words();
    assert!(ended.success(), "{said:#?}");
    assert!(coordinators >= 1, "and {others} workers");
    for worker in &mut workers {
        assert!(wait(&mut worker.0).success(), "it leaves when all is done");
    }
    assert_eq!(scene.summary("killed"), undisturbed());
    each_once(&store);
    let run = std::fs::read(scene.path("killed-out").join("run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    assert_eq!(run["store_chain"]["results"], RESULTS);
}
