//! How much work there is, and how many workers that is worth.

use crate::core::{Status, SweepState};

/// Tasks that sweeps still want done: not recorded, not set aside, not paused.
pub fn unfinished(status: &Status) -> u64 {
    let running = |s: &&crate::core::SweepStatus| s.state == SweepState::Running;
    let left = status.sweeps.iter().filter(running).map(|sweep| {
        let over = sweep.duplicates + sweep.recorded + sweep.failed;
        sweep.planned.saturating_sub(over)
    });
    left.sum()
}

/// Workers that so many tasks keep busy, at `slots` tasks a worker: never more
/// than `limit`, and at least one while there is anything to do.
pub fn workers(unfinished: u64, slots: u32, limit: u32) -> u32 {
    let full = unfinished.div_ceil(u64::from(slots.max(1)));
    u32::try_from(full).unwrap_or(u32::MAX).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::SweepStatus;
    use common::protocol::SweepNumber;

    fn sweep(state: SweepState, counts: [u64; 4]) -> SweepStatus {
        let [planned, duplicates, recorded, failed] = counts;
        SweepStatus {
            number: SweepNumber(1),
            state,
            priority: 0,
            planned,
            duplicates,
            recorded,
            failed,
            leased: 0,
            baselines_solved: 0,
            baselines: 0,
        }
    }

    #[test]
    fn what_is_over_or_paused_needs_nobody() {
        let status = Status {
            sweeps: vec![
                sweep(SweepState::Running, [100, 10, 60, 5]),
                sweep(SweepState::Paused, [1000, 0, 0, 0]),
                sweep(SweepState::Running, [3, 0, 3, 0]),
            ],
            ..Status::default()
        };
        assert_eq!(unfinished(&status), 25);
        assert_eq!(unfinished(&Status::default()), 0);
    }

    #[test]
    fn workers_are_as_many_as_have_something_to_do_and_no_more_than_the_limit() {
        let table = [
            (0, 0),
            (1, 1),
            (4, 1),
            (5, 2),
            (40, 10),
            (41, 10),
            (u64::MAX, 10),
        ];
        for (tasks, expected) in table {
            assert_eq!(workers(tasks, 4, 10), expected, "{tasks} tasks");
        }
    }
}
