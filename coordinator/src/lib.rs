//! The coordinator: plans sweeps, hands tasks to workers, keeps what they
//! find. See ARCHITECTURE.md for the map.

pub mod cli;
pub mod core;
pub mod driver;
pub mod export;
pub mod leadership;
pub mod local;
pub mod progress;
pub mod rpc;
pub mod run;
pub mod store;
pub mod sweep;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workload;
