//! The worker: takes tasks from a coordinator and computes them in child processes.
//!
//! | module | what it is |
//! |---|---|
//! | [`session`] | the worker's half of the protocol, a pure state machine |
//! | [`agent`] | carries out what the session asks for: the stream, the slots, the files |
//! | [`slot`] | the child process that computes |
//! | [`frame`] | messages on a pipe |
//! | [`files`] | contents by hash, fetched once |
//! | [`cli`] | the commands |

pub mod agent;
pub mod cli;
pub mod files;
pub mod frame;
pub mod session;
pub mod slot;
