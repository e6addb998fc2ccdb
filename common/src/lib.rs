//! What the programs of the sweep agree on. See ARCHITECTURE.md for the map.

pub mod formula;
pub mod ids;
pub mod math;
#[cfg(feature = "rpc")]
pub mod pb;
#[cfg(feature = "rpc")]
pub mod protocol;
pub mod record;
pub mod rng;
pub mod spec;
pub mod suggest;
pub mod summary;
