//! Support for whole-system tests.

pub mod fuzzing;
pub mod mounts;
pub mod network;
pub mod processes;
pub mod python;
pub mod scene;
pub mod simulation;
pub mod strangers;
pub mod web;
