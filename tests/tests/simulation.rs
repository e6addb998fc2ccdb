//! Worlds in which things go wrong, and nothing is lost.
//!
//! `SIMULATION_SEED=n` replays one world; `SIMULATION_SEEDS=n` lives that many
//! (300 unless said otherwise), from `SIMULATION_FIRST` on.

use std::time::Duration;

use tests::simulation::{Stats, run};

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a number of a seed"))
}

#[test]
fn whatever_goes_wrong_every_task_is_recorded_once() {
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("SIMULATION_FIRST").unwrap_or(0);
            first..first + number("SIMULATION_SEEDS").unwrap_or(300)
        }
    };
    let mut stats = Stats::default();
    let mut lasted = Duration::ZERO;
    let n_seeds = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = run(seed).unwrap_or_else(|broken| {
            panic!("seed {seed}: {broken}\nreplay with SIMULATION_SEED={seed}")
        });
        stats.add(&outcome.stats);
        lasted += outcome.lasted;
    }
    println!(
        "{n_seeds} worlds, {:.1} simulated hours: {stats:#?}",
        lasted.as_secs_f64() / 3600.0
    );
    if n_seeds >= 100 {
        // A world without trouble would prove little.
        for (what, count) in [
            ("coordinator deaths", stats.coordinator_deaths),
            ("worker deaths", stats.worker_deaths),
            ("slot deaths", stats.slot_deaths),
            ("task failures", stats.task_failures),
            ("broken links", stats.links_broken),
            ("stalled links", stats.links_stalled),
            ("lost messages", stats.messages_lost),
            ("failed commits", stats.commits_failed),
            ("unnoticed commits", stats.commits_unnoticed),
            ("failed lookups", stats.lookups_failed),
            ("freezes", stats.freezes),
            ("leaves", stats.leaves),
            ("controls", stats.controls),
            ("cancelled sweeps", 10 * stats.sweeps_cancelled),
        ] {
            assert!(count > 10, "only {count} {what}");
        }
    }
}
