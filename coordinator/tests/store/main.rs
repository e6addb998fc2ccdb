//! The store's contract on both kinds, what is special about each, and disks that fail.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod contract;
mod disk;
mod postgres;
mod records;
mod sqlite;
