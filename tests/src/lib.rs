//! Support for whole-system tests.

pub mod fuzzing;
pub mod mounts;
pub mod network;
pub mod processes;
pub mod scene;
pub mod simulation;
