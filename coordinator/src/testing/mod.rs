//! Stand-ins for tests and simulations: a workload whose tasks are numbers and
//! a store in memory.
//!
//! Compiled for this package's tests and under the feature `testing` only.

mod store;
mod workload;

pub use store::MemoryStore;
pub use workload::{FakeTask, FakeWorkload, compute, task_id};
