//! The coordinator: plans sweeps, hands tasks to workers, keeps what they
//! find. See ARCHITECTURE.md for the map.

pub mod admin;
pub mod at_rest;
mod attempts;
pub mod audit;
pub mod bench;
pub mod cli;
pub mod client;
pub mod compare;
pub mod core;
pub mod door;
pub mod driver;
pub mod explain;
pub mod export;
pub mod ground;
pub mod guard;
pub mod http;
pub mod launch;
pub mod leadership;
pub mod local;
pub mod minima;
pub mod notify;
pub mod outcomes;
pub mod pace;
pub mod pilot;
pub mod progress;
pub mod report;
pub mod rpc;
pub mod run;
pub mod serve;
pub mod store;
pub mod submission;
pub mod sweep;
pub mod sweeps;
pub mod table;
pub mod tally;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod verify;
pub(crate) mod when;
pub mod workload;
