//! Mistakes on purpose.
//!
//! A simulation that finds nothing may be blind. With the feature `planted-bugs` each [`Bug`] can
//! be switched on for a thread, and the simulation has to catch it. Without the feature
//! [`planted`] is a constant, and nothing of a bug is in the program.

use std::fmt;

macro_rules! bugs {
    ($($name:ident: $what:literal,)*) => {
        /// A mistake that the programs could plausibly have made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bug {
            $(#[doc = $what] $name,)*
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What is wrong when it is switched on.
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                }
            }
        }
    };
}

bugs! {
    AcknowledgesBeforeCommit: "a result is acknowledged when it arrives, not when it is durable",
    AcknowledgesFailedCommit: "receipts leave although the commit they rest on has failed",
    ReusesAttempts: "two leases in a row have the same attempt number",
    RecordsSecondResult: "a second result for a task that is being recorded is recorded too",
    RetriesForEver: "a task that panics is never set aside",
    SetsAsideAtOnce: "one lost worker is enough to set a task aside",
    CountsFailureTwice: "a failure that is reported again after a lost receipt is counted again",
    ReadsFailuresTwice: "after a restart the failures of equal tasks of a plan are added up",
    ForgetsToRecordFailures: "a failed attempt is counted but not written to the store",
    ForgetsToRecordSetAside: "a task is set aside in memory only",
    ForgetsToRecordTakingUp: "a task that was set aside gets a result, and the store is not told",
    ForgetsFailedLookups: "a look-up in the store that failed is not repeated",
    IgnoresFoundResults: "results that the store knows are taken for unknown",
    EndsSweepBeforeCommit: "a sweep is reported as ended before its end is durable",
    SkipsLaterRounds: "the rounds that a search adds are not run",
    LosesParkedRuns: "runs that wait for a baseline are not woken when it is solved",
    LosesParkedRunsOfFailedBaseline: "runs that wait for a baseline are forgotten when it is set aside",
    KeepsRunsBlocked: "runs stay set aside when their baseline is solved after all",
    DropsQueueOfLostWorker: "what a lost worker had queued is leased to nobody else",
    DropsUnclaimedLeases: "a lease that a returning worker does not name is not queued again",
    LeaksLeaseCount: "an ended lease still counts as leased",
    ConfusesHeldPositions: "ending one lease of a worker breaks the place of another",
    IgnoresAdoption: "the walk plans a task although a returning worker holds it",
    CancelForgetsLiveTasks: "tasks dropped by a cancellation still count as running",
    LeavesResultBesideFailure: "a task that was set aside is computed all the same, and stays set aside",
    WorkerNeverResends: "a worker does not send its finished results again after a reconnection",
    WorkerKeepsOldNumber: "a finished result is sent under the attempt number of a forgotten lease",
    WorkerMixesUpAnswers: "a worker takes a slot's answer for the task that was first in line",
    WorkerLosesRecalled: "a task that was recalled is dropped without being handed back",
    WorkerForgetsCells: "tasks that wait for their data are not queued when it is there",
}

impl Bug {
    /// Its name on the command line.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(letter.to_lowercase());
        }
        name
    }

    /// The bug of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    /// Switches a bug on for this thread, and all others off.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
        REACHED.set(0);
    }

    /// How often the planted bug did its work since it was planted.
    pub fn reached() -> u64 {
        REACHED.get()
    }

    /// Whether a bug is switched on.
    pub fn planted(bug: Bug) -> bool {
        let on = PLANTED.get() == Some(bug);
        REACHED.set(REACHED.get() + u64::from(on));
        on
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{plant, planted, reached};

/// Never: this program has no bugs on purpose.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}
