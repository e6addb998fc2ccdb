//! `coordinator bench`: what the control plane costs, measured on this machine.
//!
//! Everything is the real thing: the scheduler, the doors, gRPC, the worker program, the SQLite
//! store with a full sync for each commit. Only the tasks do nothing, so what is left is the price
//! of handing them out and keeping their results.
//!
//! | case | what is measured |
//! |---|---|
//! | `plan` | identities of a grid's tasks; the acceptance of a grid of 10⁹ |
//! | `summary` | the fold of recorded runs, in memory, and the summary from it |
//! | `noop` | tasks that do nothing, through two worker processes |
//! | `restart` | a coordinator started on a store in which all runs but one are recorded |
//! | `dashboard` | what the pages cost on such a store: time and bytes of each answer |
//! | `first` | from the command to the first result |
//! | `sleep` | one-second tasks on 16 slots, beside the ideal |
//! | `load` | a thousand workers on a thousand connections |
//!
//! Each case runs in a process of its own, so that its memory is its own.

mod cluster;
mod dashboard;
mod first;
mod machine;
mod noop;
mod plan;
mod recorded;
mod restart;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use machine::Machine;

use crate::run::Failure;

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Identities of a grid's tasks; a grid of 10⁹ accepted
    Plan,
    /// The fold of recorded runs and its summary
    Summary,
    /// Tasks that do nothing, through worker processes
    Noop,
    /// A start on a store with recorded runs
    Restart,
    /// The dashboard's pages on such a store
    Dashboard,
    /// From the command to the first result
    First,
    /// One-second tasks, beside the ideal
    Sleep,
    /// A thousand workers
    Load,
}

impl Case {
    /// All cases, the long ones last.
    pub const ALL: [Self; 8] = [
        Self::Plan,
        Self::Summary,
        Self::Noop,
        Self::Restart,
        Self::Dashboard,
        Self::First,
        Self::Sleep,
        Self::Load,
    ];

    /// Tasks, unless other numbers are asked for.
    pub fn tasks(self) -> u64 {
        match self {
            Self::Plan
            | Self::Summary
            | Self::Noop
            | Self::Restart
            | Self::Dashboard
            | Self::Load => 1_000_000,
            Self::First => 128,
            Self::Sleep => 2_000,
        }
    }

    /// Whether a second process looks at what the first one has left.
    pub fn has_two_halves(self) -> bool {
        matches!(
            self,
            Self::Noop | Self::Sleep | Self::Load | Self::Restart | Self::Dashboard
        )
    }

    /// Workers, unless other numbers are asked for.
    pub fn workers(self) -> u32 {
        match self {
            Self::Plan | Self::Summary | Self::Restart | Self::Dashboard => 0,
            Self::Noop | Self::First => 2,
            Self::Sleep => 16,
            Self::Load => 1000,
        }
    }
}

/// What is to be measured, and how large.
#[derive(Clone, Debug)]
pub struct Order {
    /// What.
    pub case: Case,
    /// Tasks.
    pub tasks: u64,
    /// Workers.
    pub workers: u32,
    /// A folder on the disk that is to be measured; what lies in it is lost.
    pub folder: PathBuf,
    /// The second half: the folder is as the process before has left it.
    pub prepared: bool,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of what.
    pub what: String,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// What it may be at most, at the default size.
    pub bar: Option<f64>,
}

impl Figure {
    fn new(what: &str, value: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            value,
            unit: unit.to_owned(),
            bar: None,
        }
    }

    fn at_most(self, bar: f64) -> Self {
        Self {
            bar: Some(bar),
            ..self
        }
    }
}

/// What came out of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub case: Case,
    /// Tasks.
    pub tasks: u64,
    /// Workers.
    pub workers: u32,
    /// The numbers.
    pub figures: Vec<Figure>,
}

/// Carries a case out.
///
/// # Errors
/// What went wrong, and the exit code that fits: also when a result was lost or counted twice.
pub fn measure(order: &Order) -> Result<Measured, Failure> {
    let figures = match order.case {
        Case::Plan => plan::measure(order.tasks),
        Case::Summary => recorded::measure(order.tasks),
        Case::Noop | Case::Sleep | Case::Load if order.prepared => noop::check(order),
        Case::Noop | Case::Sleep | Case::Load => noop::measure(order),
        Case::Restart if order.prepared => restart::measure(&order.folder),
        Case::Dashboard if order.prepared => dashboard::measure(&order.folder),
        Case::Restart | Case::Dashboard => restart::prepare(&order.folder, order.tasks),
        Case::First => first::measure(&order.folder, order.workers),
    }?;
    Ok(Measured {
        case: order.case,
        tasks: order.tasks,
        workers: order.workers,
        figures,
    })
}

fn internal(error: impl std::fmt::Display) -> Failure {
    (crate::cli::code::INTERNAL, error.to_string())
}

/// The folder of the store of a case.
fn store(folder: &Path) -> PathBuf {
    folder.join("store")
}
