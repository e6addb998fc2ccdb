//! A coordinator started on what an earlier one has recorded.
//!
//! The store is written by one process and read by another, whose memory is then that of a
//! coordinator alone. One run is missing, so that the sweep goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::ids::{IdSet, TaskId, WorkerId};
use common::protocol::{Attempt, Place, Profile};
use common::record::Telemetry;

use super::{Figure, cluster, internal, machine, recorded, store};
use crate::cli::runtime;
use crate::core::{Control, Core, Record, Ticket};
use crate::export::{self, Account};
use crate::progress::Moment;
use crate::run::{Failure, store_failure};
use crate::store::{Address, AnyStore, Identity, Store};
use crate::submission;
use crate::sweep::{GridSweep, KeepMinima};
use crate::workload::{PlannedWork, Workload};

/// Results of one commit.
const COMMIT: usize = 8192;
/// Time between two looks at how far the walk is.
const LOOK: Duration = Duration::from_millis(5);

/// Writes a store in which all runs but the last are recorded.
pub(super) fn prepare(folder: &Path, tasks: u64) -> Result<Vec<Figure>, Failure> {
    runtime().map_err(internal)?.block_on(async {
        let mut sweep = recorded::sweep(tasks)?;
        let opened = AnyStore::open(&Address::Directory(store(folder)), &Identity::default()).await;
        let opened = opened.map_err(|e| store_failure(&e))?;
        let grid = Arc::clone(sweep.grid());
        let stored = submission::add(&opened, &grid, sweep.contents(), 0).await;
        let stored = stored.map_err(|e| store_failure(&e))?;
        let worker = WorkerId([1; WorkerId::BYTES]);
        let profile = Arc::new(Profile {
            name: "bench".to_owned(),
            host: "bench".to_owned(),
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            numerics_version: stored.text.numerics_version,
            numeric_levels: vec![stored.text.numeric_level.clone()],
            slots: 1,
            threads_per_slot: 1,
            memory_per_slot: None,
        });
        let mut records = vec![Record::Worker {
            id: worker,
            profile,
        }];
        let mut baselines = IdSet::default();
        let (mut ticket, mut attempt) = (0, 0);
        let mut result = |task: TaskId, position: u64, baseline: bool| {
            attempt += 1;
            let place = Place {
                sweep: stored.number,
                position,
                baseline,
            };
            let evidence = if baseline {
                recorded::solved()?
            } else {
                recorded::run_at(position)?
            };
            Ok::<_, Failure>(Record::Result {
                task,
                place,
                worker,
                attempt: Attempt::new(1, attempt),
                evidence,
                telemetry: Telemetry::default(),
                theta: None,
            })
        };
        for position in 0..sweep.len() {
            let planned = sweep.task(position);
            if let PlannedWork::Run { baseline, .. } = planned.work
                && baselines.insert(TaskId::from(baseline))
            {
                records.push(result(baseline.into(), position, true)?);
            }
            if position + 1 < sweep.len() {
                records.push(result(planned.id, position, false)?);
            }
            if records.len() >= COMMIT || position + 1 == sweep.len() {
                ticket += 1;
                let batch = std::mem::take(&mut records).into();
                let done = opened.persist(Ticket(ticket), batch).await;
                done.map_err(|e| store_failure(&e))?;
            }
        }
        opened.close().await.map_err(|e| store_failure(&e))?;
        Ok(Vec::new())
    })
}

/// Starts on the store and looks at what it has become.
pub(super) fn measure(folder: &Path) -> Result<Vec<Figure>, Failure> {
    runtime().map_err(internal)?.block_on(async {
        let bytes = machine::bytes_of(&store(folder)).map_err(internal)?;
        let began = Instant::now();
        let ground = cluster::open(folder, 0).await?;
        let opening = began.elapsed().as_secs_f64();
        let sweeps = ground.store.sweeps().await.map_err(|e| store_failure(&e))?;
        let stored = sweeps.into_iter().next();
        let stored = stored.ok_or_else(|| internal("the store has no sweep"))?;
        let (grid, data) = submission::reopen(ground.store.as_ref(), &stored)
            .await
            .map_err(internal)?;
        let tasks = grid.len();
        let workload = GridSweep::new(grid, data, KeepMinima::Worst);
        let (handle, end) = cluster::begin(&ground, &stored, Box::new(workload));
        let number = stored.number;
        let (mut look_ms, mut recorded) = (0.0_f64, 0);
        while recorded + 1 < tasks {
            tokio::time::sleep(LOOK).await;
            let look = handle.look(move |core: &Core| {
                let began = Instant::now();
                let moment = Moment::of(core, number);
                (moment, began.elapsed().as_secs_f64() * 1e3)
            });
            let (moment, took) = look.await.ok_or_else(|| internal("no driver"))?;
            look_ms = look_ms.max(took);
            recorded = moment.map_or(0, |moment| moment.recorded);
        }
        let restarting = began.elapsed().as_secs_f64();
        let memory = machine::peak_memory();
        handle.control(Control::Cancel(number)).await;
        let ended = end.await.map_err(internal)?;
        let sweep = ended.workload.into_any().downcast::<GridSweep>();
        let mut sweep = sweep.map_err(|_| internal("the sweep came back as something else"))?;
        let began = Instant::now();
        let summary = sweep.summary(ended.duplicates);
        std::hint::black_box(summary.to_json());
        let summing = began.elapsed().as_secs_f64();
        let account = Account {
            command: Vec::new(),
            host: String::new(),
            seconds: 0.0,
            finished: false,
        };
        let began = Instant::now();
        let out = folder.join("out");
        export::write_all(
            &out,
            ground.store.as_ref(),
            &stored,
            &mut sweep,
            &summary,
            &account,
        )
        .await
        .map_err(internal)?;
        let writing = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let format = export::runs::Format::Parquet;
        let path = out.join("again.parquet");
        export::write_runs(&path, ground.store.as_ref(), &stored, &mut sweep, format)
            .await
            .map_err(internal)?;
        let exporting = began.elapsed().as_secs_f64();
        ground.close();
        let each = bytes as f64 / tasks as f64;
        Ok(vec![
            Figure::new("restart", restarting, "s").at_most(10.0),
            Figure::new("of which the store's opening", opening, "s"),
            Figure::new("memory of the coordinator", memory, "MB").at_most(150.0),
            Figure::new("memory with the summary", machine::peak_memory(), "MB"),
            Figure::new("summary", summing, "s").at_most(1.0),
            Figure::new("runs.parquet", exporting, "s").at_most(5.0),
            Figure::new("all files of the results", writing, "s"),
            Figure::new("longest look of the display", look_ms, "ms"),
            Figure::new("store of a run", each, "bytes"),
        ])
    })
}
