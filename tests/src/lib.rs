//! What whole-system tests share. The tests themselves are in `tests/tests`.

pub mod simulation;
