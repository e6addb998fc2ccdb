//! Support for whole-system tests.

pub mod processes;
pub mod simulation;
