//! The worker: computes tasks for a coordinator, or without one. See
//! ARCHITECTURE.md for the map.

pub mod session;
