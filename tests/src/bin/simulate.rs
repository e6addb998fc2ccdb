//! Lives many simulated worlds, and looks whether planted bugs are caught.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks on its streams"
)]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use common::planted::Bug;
use tests::simulation::{Stats, run};

/// Lives simulated clusters, each drawn from a seed, in which processes die, links break and
/// commits fail, and checks every promise in each.
///
/// Exit code 0: nothing found (or, with bugs planted, each was caught); 1 otherwise.
#[derive(Debug, Parser)]
struct Arguments {
    /// Number of worlds; with planted bugs, the most that each may take
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Plant this bug and count the worlds until it is caught (needs the feature planted-bugs)
    #[arg(long, value_name = "NAME", value_parser = bug)]
    bug: Option<Bug>,
    /// Plant each bug in turn (needs the feature planted-bugs)
    #[arg(long)]
    all_bugs: bool,
    /// List the bugs
    #[arg(long)]
    list_bugs: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::from_name(name).ok_or_else(|| "no such bug; --list-bugs has them".to_owned())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = arguments.first..arguments.first.saturating_add(arguments.seeds);
    if arguments.list_bugs {
        for bug in Bug::ALL {
            println!("{bug:36} {}", bug.description());
        }
        return ExitCode::SUCCESS;
    }
    let bugs = match (arguments.all_bugs, &arguments.bug) {
        (true, _) => Bug::ALL,
        (false, Some(bug)) => std::slice::from_ref(bug),
        (false, None) => &[],
    };
    let good = if bugs.is_empty() {
        live(&seeds, arguments.threads.max(1))
    } else {
        hunt(bugs, &seeds)
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One world; a panic is a broken promise like any other.
fn world(seed: u64) -> Result<tests::simulation::Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed))).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("without words")))
    })
}

/// Lives the worlds of the seeds, on some threads; whether nothing was found.
fn live(seeds: &Range<u64>, threads: u64) -> bool {
    let began = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let good = AtomicBool::new(true);
    let one = || {
        let mut stats = Stats::default();
        let mut lasted = Duration::ZERO;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (stats, lasted);
            }
            match world(seed) {
                Ok(outcome) => {
                    stats.add(&outcome.stats);
                    lasted += outcome.lasted;
                }
                Err(broken) => {
                    good.store(false, Ordering::Relaxed);
                    println!(
                        "seed {seed}: {broken}\n  replay: SIMULATION_SEED={seed} cargo test \
                         --release -p tests --test simulation"
                    );
                }
            }
        }
    };
    let mut stats = Stats::default();
    let mut lasted = Duration::ZERO;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        for thread in threads {
            if let Ok((more, longer)) = thread.join() {
                stats.add(&more);
                lasted += longer;
            }
        }
    });
    println!(
        "{} worlds, {:.0} simulated hours in {:.0} s: {stats:#?}",
        seeds.end - seeds.start,
        lasted.as_secs_f64() / 3600.0,
        began.elapsed().as_secs_f64()
    );
    good.into_inner()
}

#[cfg(feature = "planted-bugs")]
fn hunt(bugs: &[Bug], seeds: &Range<u64>) -> bool {
    // What a bug makes panic is expected here.
    std::panic::set_hook(Box::new(|_| {}));
    println!("| bug | what it does | worlds until caught | how it showed |");
    println!("|---|---|---|---|");
    let mut all = true;
    for bug in bugs {
        common::planted::plant(Some(*bug));
        let caught = seeds.clone().find_map(|seed| {
            let broken = world(seed).err()?;
            Some((seed - seeds.start + 1, broken))
        });
        let reached = common::planted::reached();
        let what = bug.description();
        match caught {
            Some((worlds, broken)) => {
                let shown = broken.split([':', '\n']).next().unwrap_or_default();
                println!("| `{bug}` | {what} | {worlds} | {shown} |");
            }
            None => {
                all = false;
                println!(
                    "| `{bug}` | {what} | **not in {}** | did its work {reached} times |",
                    seeds.end - seeds.start
                );
            }
        }
    }
    all
}

#[cfg(not(feature = "planted-bugs"))]
fn hunt(_: &[Bug], _: &Range<u64>) -> bool {
    eprintln!("this program has no bugs on purpose; build it with --features planted-bugs");
    false
}
