//! The store's contract, and what is special about the SQLite file.

mod contract;
mod records;
mod sqlite;
