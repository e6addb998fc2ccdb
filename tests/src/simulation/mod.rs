//! A cluster in one thread: the real scheduler and the real worker sessions
//! over a simulated network, store and clock.
//!
//! A [`World`] is drawn from a seed and is the same world each time. Messages
//! travel for a while, connections break and take what is on its way with
//! them, processes die between any two effects and stand still, commits fail
//! or happen unnoticed. After every step the invariants of both state machines
//! are checked, and the promises of the system are checked where they are
//! made:
//!
//! - what is acknowledged is durable ([`check`]),
//! - no attempt is granted twice,
//! - a result is gathered once,
//! - when the trouble is over, every sweep comes to its end, and every task is
//!   recorded once, with the bits of an undisturbed run, or set aside for a
//!   reason.

mod check;
mod coordinator;
mod network;
mod random;
mod scenario;
mod store;
mod worker;
mod world;

pub use random::Dice;
pub use scenario::{Faults, Scenario};
pub use world::{Outcome, Stats, World};

/// Lives the world of a seed to its end.
///
/// # Errors
/// The broken promise in words.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let mut dice = Dice::new(seed);
    let scenario = Scenario::draw(&mut dice);
    World::new(scenario, dice).live()
}
