//! The store's contract, and what is special about the SQLite file.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod contract;
mod records;
mod sqlite;
