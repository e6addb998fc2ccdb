//! The scheduler's rules, one test each, told as stories.

mod delivery;
mod failures;
mod fairness;
mod properties;
mod returning;
mod scene;
mod store;
mod sweeps;
