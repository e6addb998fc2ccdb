//! What can go wrong with a store.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who holds a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process number.
    pub pid: u32,
    /// Host.
    pub host: String,
    /// Where it can be reached, if it can.
    pub listen: Option<String>,
    /// Since when, milliseconds since 1970.
    pub since: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)?;
        match &self.listen {
            Some(listen) => write!(f, ", listening on {listen}"),
            None => Ok(()),
        }
    }
}

/// A store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another coordinator has it.
    #[error("the store {} is in use by a coordinator ({owner}); stop that one, or give this one another --store", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
        /// Who has it.
        owner: Owner,
    },
    /// Written by a newer program.
    #[error("the store {} has schema {found}, this program knows schemas up to {known}; use the newer program, or another --store", path.display())]
    NewerSchema {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A file that is no store is where the store should be.
    #[error("{} exists and is not a store of this program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// On a file system where locks and syncs cannot be relied on.
    #[error("{} lies on {kind}, whose locks do not protect a SQLite file; put --store on a local disk, or use postgres://", path.display())]
    NetworkFileSystem {
        /// The store.
        path: PathBuf,
        /// What kind.
        kind: &'static str,
    },
    /// A file or directory could not be used.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database turned something down.
    #[error("could not {action}: {message}")]
    Database {
        /// What was attempted.
        action: &'static str,
        /// What the database said.
        message: String,
    },
    /// The store holds what nobody can have written.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// A ticket came before its predecessor was durable.
    #[error("ticket {found} was presented while {expected} is not durable")]
    OutOfOrder {
        /// The ticket.
        found: u64,
        /// The one that must come first.
        expected: u64,
    },
    /// Too much is waiting to be written.
    #[error("{waiting} tickets wait to be written already")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// Another coordinator has taken the store over.
    #[error(
        "another coordinator has taken the store over (epoch {by}, this one has {epoch}); nothing \
         more is acknowledged here, and nothing that was acknowledged is lost"
    )]
    Deposed {
        /// The epoch of this coordinator.
        epoch: u32,
        /// That of the one that leads.
        by: u32,
    },
    /// The store has been given up.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The same for another one who waits.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Database { action, message } => Self::Database {
                action,
                message: message.clone(),
            },
            Self::Deposed { epoch, by } => Self::Deposed {
                epoch: *epoch,
                by: *by,
            },
            other => Self::Database {
                action: "write to the store",
                message: other.to_string(),
            },
        }
    }
}
