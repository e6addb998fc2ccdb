//! The worker: computes tasks for a coordinator, or without one. See
//! ARCHITECTURE.md for the map.
//!
//! | module | what it is |
//! |---|---|
//! | [`session`] | the worker's half of the protocol, a pure state machine |
//! | [`agent`] | what the session asks for, done: connection, files, slots |
//! | [`slot`] | the process that computes, one task at a time |
//! | [`room`] | what it may use of its machine |
//! | [`cli`] | what people type |

pub mod agent;
pub mod cli;
pub mod files;
pub mod frame;
pub mod room;
pub mod session;
pub mod slot;
