//! What kind of world a seed gives.

use std::time::Duration;

use coordinator::testing::FakeTask;

use super::random::Dice;

/// Settings of a world, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Tasks of each sweep, and of its later rounds.
    pub sweeps: Vec<Vec<Vec<FakeTask>>>,
    /// Slots of each worker.
    pub workers: Vec<u32>,
    /// Range of task durations.
    pub task: (Duration, Duration),
    /// Range of a message's travel.
    pub latency: (Duration, Duration),
    /// Range of a commit's duration.
    pub commit: (Duration, Duration),
    /// Tasks whose number is divisible by this panic wherever they run; 0 for
    /// none.
    pub poison: u32,
    /// Faults, in a million occasions each.
    pub faults: Faults,
    /// Faults happen until then.
    pub trouble: Duration,
    /// Every message is encoded and decoded on its way.
    pub encode: bool,
}

/// How often what goes wrong, in a million occasions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The coordinator dies between two effects.
    pub coordinator_dies: u64,
    /// A worker dies between two effects.
    pub worker_dies: u64,
    /// A slot's process dies at the end of a task.
    pub slot_dies: u64,
    /// A task fails.
    pub task_fails: u64,
    /// A connection breaks when a message is sent on it.
    pub link_breaks: u64,
    /// A connection is silent for a while when a message is sent on it.
    pub link_stalls: u64,
    /// A commit fails, and those of the next while.
    pub commit_fails: u64,
    /// A lookup fails.
    pub lookup_fails: u64,
    /// A process stands still for a while when it ticks.
    pub freezes: u64,
    /// A worker is asked to leave when it ticks.
    pub leaves: u64,
    /// Somebody pauses, resumes or retries a sweep when the coordinator ticks.
    pub controls: u64,
    /// A cell's files cannot be had.
    pub cell_fails: u64,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn draw(dice: &mut Dice) -> Self {
        let n_sweeps = 1 + dice.below(2);
        let sweeps = (0..n_sweeps).map(|_| draw_sweep(dice)).collect();
        let workers = (0..1 + dice.below(4))
            .map(|_| 1 + dice.below(3) as u32)
            .collect();
        let tiny = dice.below(3) == 0;
        let micros = Duration::from_micros;
        let millis = Duration::from_millis;
        Self {
            sweeps,
            workers,
            task: if tiny {
                (micros(5), millis(1))
            } else {
                (millis(5), millis(4000))
            },
            latency: (
                micros(50),
                if dice.coin() { millis(2) } else { millis(400) },
            ),
            commit: (
                micros(200),
                if dice.coin() { millis(20) } else { millis(600) },
            ),
            poison: if dice.below(3) == 0 { 7 } else { 0 },
            faults: Faults::draw(dice),
            trouble: Duration::from_secs(20 + dice.below(100)),
            encode: dice.below(8) == 0,
        }
    }
}

fn draw_sweep(dice: &mut Dice) -> Vec<Vec<FakeTask>> {
    let rounds = 1 + dice.below(2);
    let baselines = dice.below(4) as u32;
    let first = dice.below(20) as u32;
    (0..rounds)
        .map(|_| {
            let most = if dice.below(4) == 0 { 400 } else { 40 };
            let tasks = dice.below(most);
            // Some tasks are equal, within a sweep and between sweeps.
            let numbers = 1 + tasks + tasks / 4;
            (0..tasks)
                .map(|_| {
                    let number = first + dice.below(numbers) as u32;
                    let with_baseline = baselines > 0 && !number.is_multiple_of(5);
                    let baseline = with_baseline.then(|| number % baselines);
                    FakeTask { number, baseline }
                })
                .collect()
        })
        .collect()
}

impl Faults {
    /// Each fault is absent, rare or frequent, independently.
    fn draw(dice: &mut Dice) -> Self {
        let mut level = |often: u64| match dice.below(3) {
            0 => 0,
            1 => often / 10,
            _ => often,
        };
        Self {
            coordinator_dies: level(4_000),
            worker_dies: level(2_000),
            slot_dies: level(60_000),
            task_fails: level(60_000),
            link_breaks: level(20_000),
            link_stalls: level(20_000),
            commit_fails: level(50_000),
            lookup_fails: level(100_000),
            freezes: level(4_000),
            leaves: level(2_000),
            controls: level(10_000),
            cell_fails: level(50_000),
        }
    }
}
