//! Measures how long a sweep stands still after a kill.

#![allow(clippy::print_stdout, reason = "a command speaks on its streams")]

use std::net::TcpListener;
use std::time::{Duration, Instant};

use clap::Parser;
use tests::processes::RunningSweep;
use tests::scene::{Helper, Scene, undisturbed};

/// Kills coordinators and workers of small sweeps, and measures how long it takes until the sweep
/// goes on. Build all programs first: `cargo build --release --workspace`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Coordinators to kill, and workers
    #[arg(long, default_value_t = 5)]
    kills: u64,
}

fn main() {
    let kills = Arguments::parse().kills;
    println!("| killed | until | times | median | longest |");
    println!("|---|---|---|---|---|");
    let mut times = Vec::new();
    while (times.len() as u64) < kills {
        times.extend(coordinators(kills - times.len() as u64));
    }
    print(
        "coordinator",
        "a new result, from the start of the next one",
        times,
    );
    let times = (0..kills).map(|_| worker()).collect();
    print("worker", "its tasks are given to another", times);
}

fn print(killed: &str, until: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let shown = |i: usize| format!("{:.2} s", times[i].as_secs_f64());
    let (median, longest) = (shown(times.len() / 2), shown(times.len() - 1));
    println!(
        "| {killed} | {until} | {} | {median} | {longest} |",
        times.len()
    );
}

/// One sweep with two workers that stay, and coordinators that do not.
fn coordinators(most: u64) -> Vec<Duration> {
    let scene = Scene::new();
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let address = free.expect("a free port").to_string();
    let url = format!("http://{address}");
    let start = || {
        let mut command = scene.sweep("killed");
        command.args(["--local-workers", "0", "--listen", &address]);
        RunningSweep::start(&mut command)
    };
    let _workers = [Helper::start(&url, "one"), Helper::start(&url, "two")];
    let mut sweep = start();
    let mut times = Vec::new();
    for kill in 0..most.min(6) {
        sweep.wait_for_recorded(10 * (kill + 1));
        sweep.kill();
        let began = Instant::now();
        sweep = start();
        let found = sweep.wait_for_recorded(1);
        sweep.wait_for_recorded(found + 1);
        times.push(began.elapsed());
    }
    assert!(sweep.finish().success(), "it ends all the same");
    assert_eq!(scene.summary("killed"), undisturbed());
    times
}

/// One sweep with two workers, one of which is killed.
fn worker() -> Duration {
    let scene = Scene::new();
    let mut command = scene.sweep("killed");
    command.args(["--local-workers", "0", "--listen", "127.0.0.1:0"]);
    let mut sweep = RunningSweep::start(&mut command);
    let url = tests::scene::url_of(&mut sweep);
    let (victim, _other) = (Helper::start(&url, "victim"), Helper::start(&url, "other"));
    sweep.wait_for(|moment| moment["workers"] == 2 && moment["recorded"].as_u64() >= Some(10));
    drop(victim);
    let began = Instant::now();
    sweep.wait_for_words("worker victim is given up");
    let time = began.elapsed();
    assert!(sweep.finish().success(), "it ends all the same");
    assert_eq!(scene.summary("killed"), undisturbed());
    time
}
