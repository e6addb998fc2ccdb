//! What the programs of the sweep agree on. See ARCHITECTURE.md for the map.

pub mod ids;
pub mod math;
pub mod record;
pub mod rng;
