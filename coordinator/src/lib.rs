//! The coordinator: plans sweeps, hands tasks to workers, keeps what they
//! find. See ARCHITECTURE.md for the map.

pub mod core;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workload;
