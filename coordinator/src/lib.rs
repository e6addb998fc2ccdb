//! The coordinator: plans sweeps, hands tasks to workers, keeps what they
//! find. See ARCHITECTURE.md for the map.

pub mod core;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workload;
