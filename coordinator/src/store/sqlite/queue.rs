//! A queue with a limit that costs nothing while it is empty.
//!
//! `sync_channel` of the standard library takes its limit's memory at once; here places are
//! counted, and memory is taken as it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvError, RecvTimeoutError};
use std::time::Duration;

use super::super::StoreError;

/// The end that never waits.
#[derive(Debug)]
pub(super) struct Sender<T> {
    sender: mpsc::Sender<T>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// The end that waits.
#[derive(Debug)]
pub(super) struct Receiver<T> {
    receiver: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

/// A queue of at most `limit` messages.
pub(super) fn queue<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&waiting);
    let sender = Sender {
        sender,
        waiting,
        limit,
    };
    let waiting = own;
    (sender, Receiver { receiver, waiting })
}

impl<T> Sender<T> {
    /// Sends now or not at all.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if the limit is reached, [`StoreError::Closed`] if nobody receives.
    pub(super) fn send(&self, message: T) -> Result<(), StoreError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Busy {
                waiting: self.limit,
            });
        }
        self.sender.send(message).map_err(|_| StoreError::Closed)
    }
}

impl<T> Receiver<T> {
    pub(super) fn recv(&self) -> Result<T, RecvError> {
        self.receiver.recv().inspect(|_| self.taken())
    }

    pub(super) fn recv_timeout(&self, longest: Duration) -> Result<T, RecvTimeoutError> {
        self.receiver
            .recv_timeout(longest)
            .inspect(|_| self.taken())
    }

    fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_so_and_takes_more_when_there_is_room() {
        let (sender, receiver) = queue(2);
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert!(matches!(
            sender.send(3),
            Err(StoreError::Busy { waiting: 2 })
        ));
        assert_eq!(receiver.recv(), Ok(1));
        sender.send(4).unwrap();
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Ok(2));
        assert_eq!(receiver.recv(), Ok(4));
        drop(receiver);
        assert!(matches!(sender.send(5), Err(StoreError::Closed)));
    }
}
