//! What the programs of the sweep agree on. See ARCHITECTURE.md for the map.

pub mod ids;
pub mod math;
#[cfg(feature = "rpc")]
pub mod pb;
#[cfg(feature = "rpc")]
pub mod protocol;
pub mod record;
pub mod rng;
