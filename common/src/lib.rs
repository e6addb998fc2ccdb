//! What the programs of the sweep agree on. See ARCHITECTURE.md for the map.

#[cfg(test)]
mod arbitrary;
pub mod canon;
pub mod compact;
pub mod data;
pub mod decode;
pub mod diagnostic;
pub mod formula;
pub mod grid;
pub mod ids;
pub mod layout;
pub mod math;
pub mod node;
#[cfg(feature = "rpc")]
pub mod pb;
#[cfg(feature = "rpc")]
pub mod pem;
pub mod planted;
#[cfg(feature = "rpc")]
pub mod protocol;
pub mod record;
pub mod reference;
pub mod rng;
pub mod secret;
pub mod spec;
pub mod suggest;
pub mod summary;
#[cfg(feature = "traces")]
pub mod traces;
