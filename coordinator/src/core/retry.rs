//! Whether a task that failed is tried again.
//!
//! Decided by the class of its failures alone. A worker that falls silent may
//! have been killed by anything, so much is forgiven; a panic is the engine's
//! own and will come again, so another worker's confirmation is enough.

use std::time::Duration;

use common::ids::WorkerId;
use common::planted::{Bug, planted};
use common::protocol::{Attempt, FailureKind};

/// One failure of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastFailure {
    /// On which worker.
    pub worker: WorkerId,
    /// Of what class.
    pub kind: FailureKind,
    /// The attempt that failed.
    pub attempt: Attempt,
}

/// How many failures of each class set a task aside.
#[derive(Clone, Copy, Debug)]
pub struct RetryLimits {
    /// A panic in the engine.
    pub panic: u32,
    /// Memory limit exceeded.
    pub out_of_memory: u32,
    /// The slot's process died.
    pub crash: u32,
    /// A file could not be fetched.
    pub data_unavailable: u32,
    /// Worker and coordinator disagree about the identity.
    pub identity_mismatch: u32,
    /// The worker fell silent while computing it.
    pub worker_lost: u32,
    /// The report made no sense.
    pub malformed_report: u32,
    /// Pause before the second try after `data_unavailable`; doubles.
    pub pause: Duration,
    /// Failures in a row, blamed on the worker rather than the task, after
    /// which a worker gets no more tasks while there are others.
    pub worker_streak: u32,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            panic: 2,
            out_of_memory: 3,
            crash: 3,
            data_unavailable: 5,
            identity_mismatch: 3,
            worker_lost: 8,
            malformed_report: 3,
            pause: Duration::from_millis(500),
            worker_streak: 8,
        }
    }
}

/// What happens to a task after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Tried again after a pause.
    Again(Duration),
    /// Not tried again until somebody asks for it.
    SetAside,
}

impl RetryLimits {
    /// Decides after the last of `failures`.
    pub(super) fn decide(&self, failures: &[PastFailure]) -> Decision {
        let Some(last) = failures.last() else {
            return Decision::Again(Duration::ZERO);
        };
        let same = failures
            .iter()
            .filter(|failure| failure.kind == last.kind)
            .count();
        let same = u32::try_from(same).unwrap_or(u32::MAX);
        let limit = match last.kind {
            FailureKind::InvalidTask => 1,
            FailureKind::Panic if planted(Bug::RetriesForEver) => u32::MAX,
            FailureKind::Panic => self.panic,
            FailureKind::OutOfMemory => self.out_of_memory,
            FailureKind::Crash => self.crash,
            FailureKind::DataUnavailable => self.data_unavailable,
            FailureKind::IdentityMismatch => self.identity_mismatch,
            FailureKind::WorkerLost if planted(Bug::SetsAsideAtOnce) => 1,
            FailureKind::WorkerLost => self.worker_lost,
            FailureKind::MalformedReport => self.malformed_report,
        };
        if same >= limit {
            return Decision::SetAside;
        }
        match last.kind {
            FailureKind::DataUnavailable => {
                Decision::Again(self.pause * 2_u32.pow(same.saturating_sub(1).min(6)))
            }
            _ => Decision::Again(Duration::ZERO),
        }
    }

    /// Whether a failure of this kind says something about the worker.
    pub(super) fn blames_worker(kind: FailureKind) -> bool {
        match kind {
            FailureKind::OutOfMemory
            | FailureKind::Crash
            | FailureKind::DataUnavailable
            | FailureKind::IdentityMismatch
            | FailureKind::MalformedReport => true,
            FailureKind::InvalidTask | FailureKind::Panic | FailureKind::WorkerLost => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(kinds: &[FailureKind]) -> Decision {
        let failure = |kind: &FailureKind| PastFailure {
            worker: WorkerId([0; 16]),
            kind: *kind,
            attempt: Attempt::new(1, 1),
        };
        let failures: Vec<_> = kinds.iter().map(failure).collect();
        RetryLimits::default().decide(&failures)
    }

    #[test]
    fn a_mistake_in_the_task_is_not_tried_again() {
        assert_eq!(after(&[FailureKind::InvalidTask]), Decision::SetAside);
    }

    #[test]
    fn classes_are_counted_apart() {
        use FailureKind::{Crash, Panic, WorkerLost};
        assert_eq!(after(&[Panic]), Decision::Again(Duration::ZERO));
        assert_eq!(
            after(&[Panic, Crash, WorkerLost]),
            Decision::Again(Duration::ZERO)
        );
        assert_eq!(after(&[Panic, Crash, Panic]), Decision::SetAside);
    }

    #[test]
    fn missing_data_is_waited_for_ever_longer() {
        let data = FailureKind::DataUnavailable;
        assert_eq!(after(&[data]), Decision::Again(Duration::from_millis(500)));
        assert_eq!(after(&[data; 4]), Decision::Again(Duration::from_secs(4)));
        assert_eq!(after(&[data; 5]), Decision::SetAside);
    }
}
