//! The tasks of a slot: those that wait, and the one being computed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use common::ids::TaskId;
use common::protocol::Lease;

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    /// The task being computed is to be handed back.
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Lease>,
    current: Option<TaskId>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn assign(&self, leases: Vec<Lease>) {
        self.lock().waiting.extend(leases);
        self.arrived.notify_one();
    }

    /// Takes a task out that has not begun, or asks the current one to stop.
    /// By task and not by lease: a lease may have got another attempt number
    /// since it was assigned.
    pub(super) fn stop(&self, task: TaskId) -> Option<Lease> {
        let mut state = self.lock();
        if let Some(position) = state.waiting.iter().position(|lease| lease.id.task == task) {
            return state.waiting.remove(position);
        }
        if state.current == Some(task) {
            self.stop.store(true, Ordering::Relaxed);
        }
        None
    }

    /// Whether the current task is to be handed back.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The current task is over. What was said to it must not reach the next.
    pub(super) fn done(&self) {
        let mut state = self.lock();
        state.current = None;
        self.stop.store(false, Ordering::Relaxed);
    }

    pub(super) fn try_next(&self) -> Option<Lease> {
        begin(&mut self.lock())
    }

    pub(super) fn next(&self) -> Lease {
        let mut state = self.lock();
        loop {
            if let Some(lease) = begin(&mut state) {
                return lease;
            }
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn begin(state: &mut State) -> Option<Lease> {
    let lease = state.waiting.pop_front()?;
    state.current = Some(lease.id.task);
    Some(lease)
}

#[cfg(test)]
mod tests {
    use common::protocol::{Attempt, LeaseId, Place, SweepNumber, Work};

    use super::*;

    fn lease(byte: u8, attempt: u64) -> Lease {
        Lease {
            id: LeaseId {
                task: TaskId([byte; 32]),
                attempt: Attempt(attempt),
            },
            place: Place {
                sweep: SweepNumber(1),
                position: 0,
                baseline: false,
            },
            work: Work::Noop {
                seed: 0,
                microseconds: 0,
            },
            checkpoint: None,
        }
    }

    #[test]
    fn a_stop_takes_waiting_tasks_out_and_marks_the_current_one_alone() {
        let queue = Queue::default();
        queue.assign(vec![lease(1, 1), lease(2, 2), lease(3, 3)]);
        assert_eq!(queue.next().id.task, TaskId([1; 32]));
        assert_eq!(queue.stop(TaskId([3; 32])), Some(lease(3, 3)));
        assert!(!queue.is_stopped(), "only a waiting task was stopped");
        assert_eq!(queue.stop(TaskId([1; 32])), None);
        assert!(queue.is_stopped());
        queue.done();
        assert_eq!(queue.try_next(), Some(lease(2, 2)));
        assert!(!queue.is_stopped(), "the stop was for the task before");
        assert_eq!(queue.stop(TaskId([1; 32])), None);
        assert!(!queue.is_stopped(), "a task that was answered is ignored");
    }
}
