//! Support for whole-system tests.

pub mod processes;
pub mod python;
pub mod simulation;
