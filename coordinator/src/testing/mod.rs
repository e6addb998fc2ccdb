//! Stand-ins for tests and simulations: a workload whose tasks are numbers, a
//! store in memory, a PostgreSQL server in a temporary folder.
//!
//! Compiled for this package's tests and under the feature `testing` only.

mod postgres;
mod store;
mod workload;

pub use postgres::{PostgresServer, REQUIRE};
pub use store::MemoryStore;
pub use workload::{FakeTask, FakeWorkload, compute, task_id};
