//! Results that are read together with those asked for.
//!
//! Identities are random, so asking for one costs a way through the index and another through
//! the table. But who walks a plan again asks in nearly the order in which its results were
//! recorded, and rows lie in that order: a block of them is read at once, and those that were
//! not asked for yet are kept for the questions to come. Results never change, so what is kept
//! is never out of date.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use common::ids::{IdMap, TaskId, WorkerId};
use common::protocol::Attempt;
use common::record::Telemetry;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{Share, StoreError, StoredResult};
use super::reader::{Failed, place, task_id, worker_id};

/// Results of a block.
const BLOCK: i64 = 512;
/// Kept at most, twice.
const KEPT: usize = 2048;
/// What a block may cost, in results found alone: it pays if so many of it are asked for.
const PRICE: i64 = 100;
/// Blocks that may disappoint before results are read alone.
const PATIENCE: i64 = 10;

/// Reads results.
#[derive(Debug)]
pub(super) struct Neighbours {
    young: IdMap<TaskId, StoredResult>,
    old: IdMap<TaskId, StoredResult>,
    /// How well blocks have paid, in results found alone.
    credit: i64,
    workers: HashMap<i64, Worker>,
}

/// What results say of their worker.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    id: WorkerId,
    host: Arc<str>,
    program_version: Arc<str>,
}

impl Worker {
    /// Its share of nothing yet; the first result comes at this time.
    pub(super) fn share(&self, at: u64) -> Share {
        Share {
            worker: self.id,
            host: self.host.to_string(),
            program_version: self.program_version.to_string(),
            results: 0,
            cpu_seconds: 0.0,
            peak_memory: 0,
            first_recorded_at: at,
            last_recorded_at: at,
        }
    }
}

impl Default for Neighbours {
    fn default() -> Self {
        Self {
            young: IdMap::default(),
            old: IdMap::default(),
            credit: PATIENCE * PRICE,
            workers: HashMap::new(),
        }
    }
}

impl Neighbours {
    /// The result of a task.
    pub(super) fn find(
        &mut self,
        connection: &Connection,
        task: &TaskId,
    ) -> Result<Option<StoredResult>, Failed> {
        let kept = self.young.remove(task).or_else(|| self.old.remove(task));
        if kept.is_some() {
            self.credit = (self.credit + 1).min(PATIENCE * PRICE);
            return Ok(kept);
        }
        let number = connection
            .prepare_cached("SELECT result FROM results WHERE task = ?1")?
            .query_row([task.0], |row| row.get::<_, i64>(0))
            .optional()?;
        let Some(number) = number else {
            return Ok(None);
        };
        if self.credit < 0 {
            self.credit += 1;
            return Ok(self.rows(connection, number - 1, 1)?.pop());
        }
        self.credit -= PRICE;
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        let block = self.rows(connection, (number - 1) / BLOCK * BLOCK, BLOCK)?;
        self.young
            .extend(block.into_iter().map(|row| (row.task, row)));
        Ok(self.young.remove(task))
    }

    /// The results from the first after `after`, at most `limit`.
    pub(super) fn rows(
        &mut self,
        connection: &Connection,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredResult>, Failed> {
        let mut statement = connection.prepare_cached(
            "SELECT result, task, sweep, position, baseline, worker, attempt, evidence, seconds, \
             cpu_seconds, peak_memory, recorded_at FROM results WHERE result > ?1 \
             ORDER BY result LIMIT ?2",
        )?;
        let mut rows = statement.query(params![after, limit])?;
        let mut results = Vec::new();
        while let Some(row) = rows.next()? {
            results.push(self.result(connection, row)?);
        }
        Ok(results)
    }

    fn result(&mut self, connection: &Connection, row: &Row<'_>) -> Result<StoredResult, Failed> {
        let worker = self.worker(connection, row.get(5)?)?;
        Ok(StoredResult {
            number: row.get::<_, i64>(0)? as u64,
            task: task_id(row, 1)?,
            place: place(row, 2)?,
            worker: worker.id,
            host: Arc::clone(&worker.host),
            program_version: Arc::clone(&worker.program_version),
            attempt: Attempt(row.get::<_, i64>(6)? as u64),
            evidence: row.get::<_, Vec<u8>>(7)?.into(),
            telemetry: Telemetry {
                seconds: row.get(8)?,
                cpu_seconds: row.get(9)?,
                peak_memory: row.get::<_, i64>(10)? as u64,
            },
            recorded_at: row.get::<_, i64>(11)? as u64,
        })
    }

    /// A worker that results name; what is known of one never changes.
    pub(super) fn worker(
        &mut self,
        connection: &Connection,
        number: i64,
    ) -> Result<&Worker, Failed> {
        match self.workers.entry(number) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let mut statement = connection.prepare_cached(
                    "SELECT id, host, program_version FROM workers WHERE worker = ?1",
                )?;
                let mut rows = statement.query([number])?;
                let Some(row) = rows.next()? else {
                    let what = format!("results of worker {number}, which is not there");
                    return Err(StoreError::Damaged { what }.into());
                };
                Ok(new.insert(Worker {
                    id: worker_id(row, 0)?,
                    host: row.get::<_, String>(1)?.into(),
                    program_version: row.get::<_, String>(2)?.into(),
                }))
            }
        }
    }
}
