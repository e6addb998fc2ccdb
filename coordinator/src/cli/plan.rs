//! `plan`: what a grid would run, and with `--pilot` what that would cost.

use std::collections::HashSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use common::grid::{Grid, Search};
use common::ids::TaskId;
use common::pb::decode_evidence;
use common::record::Evidence;
use serde_json::{Value, json};

use super::remote::block_on_result;
use super::{block_on, code, fail, print};
use crate::at_rest;
use crate::pace::Estimate;
use crate::pilot::{self, Measured};
use crate::progress::{Display, count, duration};
use crate::run::{Failure, store_failure};
use crate::store::{Address, Store};
use crate::sweep::{CANDIDATES, DataTable, GridSweep, KeepMinima};
use crate::workload::{PlannedWork, Workload};

/// Tasks that are walked to count cells and duplicates.
const WALKED: u64 = 1_000_000;
/// Tasks that are shown.
const SHOWN: u64 = 5;

#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    /// The grid
    #[arg(long, value_name = "FILE")]
    pub(super) grid: PathBuf,
    /// Compute so many tasks, drawn from all over the grid, and price the sweep by them [default
    /// without N: 32]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "32")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pilot: Option<u64>,
    /// Say how long the sweep takes with so many workers of one slot, as fast as this machine's;
    /// several numbers with commas between them [default: the cores of this machine]
    #[arg(long, value_name = "N", value_delimiter = ',', requires = "pilot")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    workers: Vec<u32>,
    /// Say also how many of the tasks this store has already: a folder or postgres://…
    #[arg(long, value_name = "WHERE")]
    store: Option<Address>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn plan(args: &PlanArgs, grid: Arc<Grid>, data: DataTable) -> u8 {
    let mut census = Census::of(Arc::clone(&grid), data.clone());
    if let Some(address) = &args.store {
        let sweep = GridSweep::new(Arc::clone(&grid), data.clone(), KeepMinima::None);
        match block_on_result(stored(address, sweep, census.walked)) {
            Ok(stored) => census.stored = Some(stored),
            Err((code, message)) => return fail(code, &message),
        }
    }
    let measured = match args.pilot {
        None => None,
        Some(count) => {
            if !args.json {
                print(&census.text(&grid));
            }
            let display = if args.json {
                Display::None
            } else {
                Display::Auto
            };
            let mut found = None;
            let code = block_on(async {
                match pilot::run(Arc::clone(&grid), data, count, display).await {
                    Ok(measured) => {
                        found = Some(measured);
                        code::DONE
                    }
                    Err((code, message)) => fail(code, &message),
                }
            });
            if code != code::DONE {
                return code;
            }
            found
        }
    };
    let mut workers = args.workers.clone();
    if workers.is_empty() {
        workers.extend(std::thread::available_parallelism().map(|n| n.get() as u32));
    }
    if args.json {
        let pilot = (measured.as_ref()).map(|measured| price_json(measured, &census, &workers));
        let mut value = census.json(&grid);
        value["pilot"] = pilot.unwrap_or_default();
        print(&format!("{value:#}\n"));
    } else {
        print(&match &measured {
            None => census.text(&grid),
            Some(measured) => price_text(measured, &census, &workers),
        });
    }
    code::DONE
}

/// What a walk through the grid finds.
#[derive(Debug, Default)]
struct Census {
    tasks: u64,
    walked: u64,
    duplicates: u64,
    cells: u64,
    cells_outside: u64,
    baselines: u64,
    most_parameters: u64,
    /// Runs that a search adds; the pilot's are taken to be like them.
    search: u64,
    sample: Vec<(u64, String)>,
    /// If a store was named.
    stored: Option<Stored>,
}

/// What a store has of the tasks that were walked.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    recorded: u64,
    baselines: u64,
}

/// Tasks that a store is asked for at a time.
const PAGE: usize = 8_192;

/// What a store has of the first tasks of a sweep: nothing if there is no store yet.
async fn stored(address: &Address, mut sweep: GridSweep, walked: u64) -> Result<Stored, Failure> {
    let mut found = Stored::default();
    if let Address::Directory(folder) = address
        && !folder.exists()
    {
        return Ok(found);
    }
    let store = at_rest::open_store(address).await?;
    let (mut seen, mut page) = (HashSet::new(), Vec::new());
    for position in 0..walked {
        let planned = sweep.task(position);
        if let PlannedWork::Run { baseline, .. } = planned.work {
            let baseline = TaskId::from(baseline);
            page.extend(seen.insert(baseline).then_some(baseline));
        }
        page.extend(seen.insert(planned.id).then_some(planned.id));
        if page.len() >= PAGE || position + 1 == walked {
            let results = store.results_of(std::mem::take(&mut page)).await;
            for result in results.map_err(|e| store_failure(&e))? {
                match decode_evidence(&result.evidence) {
                    Ok(Evidence::Baseline(_)) => found.baselines += 1,
                    _ => found.recorded += 1,
                }
            }
        }
    }
    store.close().await.map_err(|e| store_failure(&e))?;
    Ok(found)
}

impl Census {
    fn of(grid: Arc<Grid>, mut data: DataTable) -> Self {
        let mut census = Self {
            tasks: grid.len(),
            walked: grid.len().min(WALKED),
            search: grid.search().map_or(0, |search| search.runs),
            ..Self::default()
        };
        let step = (grid.len() / SHOWN).max(1);
        for n in (0..grid.len()).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            census.sample.extend(Some(n).zip(shown(&grid, n)));
        }
        let mut sweep = GridSweep::new(Arc::clone(&grid), data.clone(), KeepMinima::None);
        let (mut tasks, mut cells, mut baselines) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        for position in 0..census.walked {
            let planned = sweep.task(position);
            census.duplicates += u64::from(!tasks.insert(planned.id));
            let PlannedWork::Run { cell, baseline, .. } = planned.work else {
                continue;
            };
            baselines.insert(baseline);
            if cells.insert(cell.id)
                && let Some(task) = grid.task(position)
                && let Ok(facts) = data.facts(&task.spec.cell)
            {
                census.most_parameters = census.most_parameters.max(facts.parameters as u64);
            }
        }
        census.cells = cells.len() as u64;
        census.cells_outside = sweep.cells_outside() as u64;
        census.baselines = baselines.len() as u64;
        census
    }

    /// Tasks that differ from each other, as far as is known.
    fn different(&self) -> u64 {
        self.tasks - self.duplicates
    }

    fn text(&self, grid: &Grid) -> String {
        let mut text = String::new();
        let mut say = |name: &str, what: String| {
            let _ = writeln!(text, "{name:<11} {what}");
        };
        let more = if self.walked == self.tasks {
            ""
        } else {
            " (in the first million tasks)"
        };
        say("sweep", grid.name().to_owned());
        say("tasks", count(self.tasks));
        let factors = grid.factors().map(|(names, len)| match names.as_slice() {
            [name] => format!("{name} {len}"),
            // These advance together.
            names => format!("({}) {len}", names.join(", ")),
        });
        say("axes", factors.collect::<Vec<_>>().join(" × "));
        if grid.excluded() > 0 {
            say(
                "excluded",
                format!("{} combinations", count(grid.excluded())),
            );
        }
        if self.duplicates > 0 {
            let same = "are the same as earlier ones and run once with them";
            say(
                "duplicates",
                format!("{} {same}{more}", count(self.duplicates)),
            );
        }
        if let Some(stored) = self.stored {
            let new = self.walked - self.duplicates - stored.recorded;
            let (recorded, new) = (count(stored.recorded), count(new));
            say(
                "stored",
                format!("{recorded}, which leaves {new} to compute{more}"),
            );
        }
        let outside = match self.cells_outside {
            0 => ", all inside the theorem's assumptions".to_owned(),
            n if n == self.cells => ", all outside the theorem's assumptions".to_owned(),
            n => format!(", {} of them outside the theorem's assumptions", count(n)),
        };
        say("cells", format!("{}{more}{outside}", count(self.cells)));
        say("baselines", count(self.baselines));
        let most = count(self.most_parameters);
        say("parameters", format!("at most {most} in one network"));
        if let Some(search) = grid.search() {
            say("search", search_plan(search));
        }
        for (i, (n, task)) in self.sample.iter().enumerate() {
            let name = if i == 0 { "sample" } else { "" };
            say(name, format!("{n}: {task}"));
        }
        text
    }

    fn json(&self, grid: &Grid) -> Value {
        let stored = self.stored.map(|stored| {
            json!({
                "recorded": stored.recorded,
                "new": self.walked - self.duplicates - stored.recorded,
                "baselines": stored.baselines,
            })
        });
        let axes = grid
            .axes()
            .map(|a| json!({"name": a.name, "values": a.len}));
        let sample = (self.sample.iter()).map(|(n, task)| json!({"position": n, "task": task}));
        json!({
            "schema": "plan/1",
            "name": grid.name(),
            "tasks": self.tasks,
            "walked": self.walked,
            "duplicates": self.duplicates,
            "excluded": grid.excluded(),
            "cells": self.cells,
            "cells_outside_assumptions": self.cells_outside,
            "baselines": self.baselines,
            "most_parameters": self.most_parameters,
            "search_runs": self.search,
            "axes": axes.collect::<Vec<_>>(),
            "sample": sample.collect::<Vec<_>>(),
            "stored": stored,
        })
    }
}

/// A task by the fields in which the grid's tasks differ.
fn shown(grid: &Grid, n: u64) -> Option<String> {
    let task = grid.task(n)?;
    let varies = |name: &str| {
        let mut fields = grid.axes().flat_map(|axis| axis.fields);
        fields.any(|field| field.name() == name)
    };
    let mut fields: Vec<String> = common::canon::describe(&task.spec.cell)
        .iter()
        .filter(|(name, _)| varies(name))
        .map(|(name, value)| format!("{name} {}", crate::table::shown(value)))
        .collect();
    fields.push(format!("seed {}", task.spec.seed));
    fields.push(format!("start {}", task.spec.start));
    Some(fields.join(", "))
}

/// What the search will add, as far as can be said before any result.
fn search_plan(search: Search) -> String {
    let (fresh, refine) = CANDIDATES;
    let rounds = search.runs.div_ceil(search.round);
    let (runs, round) = (search.runs, search.round.min(search.runs));
    format!(
        "{runs} runs more after these, in {rounds} rounds of at most {round}, seed {}; for each \
         cell {fresh} starts and {refine} ways to go on from its worst minima",
        search.seed
    )
}

/// `3 h (2 h 10 min to 4 h 20 min)`.
fn with_interval(estimate: Estimate) -> String {
    let interval = estimate.interval.map_or(String::new(), |(low, high)| {
        format!(" ({} to {})", duration(low), duration(high))
    });
    format!("{}{interval}", duration(estimate.seconds))
}

fn price_text(m: &Measured, census: &Census, workers: &[u32]) -> String {
    let mut text = String::new();
    let many = |n: u64| if n == 1 { "" } else { "s" };
    let _ = writeln!(
        text,
        "pilot       {} task{} in {} on {} local worker{}: {} certified{}",
        m.runs.count(),
        many(m.runs.count()),
        duration(m.seconds),
        m.workers,
        many(m.workers.into()),
        m.certified,
        match m.failed {
            0 => String::new(),
            n => format!(", {n} FAILED"),
        },
    );
    let Some(price) = m.price(census.different() + census.search, census.baselines) else {
        text.push_str("            no run was measured: there is no price\n");
        return text;
    };
    let _ = writeln!(
        text,
        "a task      {:.3} s on average, {:.3} s at most, {} MiB of memory",
        m.runs.total() / m.runs.count() as f64,
        m.runs.longest(),
        m.peak_memory.div_ceil(1 << 20),
    );
    let (unit, name) = match price.cpu.seconds {
        0.0..120.0 => (1.0, "CPU-seconds"),
        120.0..7_200.0 => (60.0, "CPU-minutes"),
        _ => (3_600.0, "CPU-hours"),
    };
    let digits = |seconds: f64| format!("{:.1}", seconds / unit);
    let interval = price.cpu.interval.map_or(String::new(), |(low, high)| {
        format!(" (95 %: {} to {})", digits(low), digits(high))
    });
    let cpu = digits(price.cpu.seconds);
    let _ = writeln!(text, "the sweep   {cpu} {name}{interval}");
    for workers in workers {
        let wall = with_interval(m.wall(&price, *workers));
        let plural = many((*workers).into());
        let _ = writeln!(
            text,
            "            {wall} on {workers} worker{plural} like these"
        );
    }
    text
}

fn price_json(m: &Measured, census: &Census, workers: &[u32]) -> Value {
    let estimate = |e: Estimate| {
        json!({
            "seconds": e.seconds,
            "low95": e.interval.map(|i| i.0),
            "high95": e.interval.map(|i| i.1),
        })
    };
    let price = m.price(census.different() + census.search, census.baselines);
    let wall = price.iter().flat_map(|price| {
        (workers.iter()).map(|n| json!({"workers": n, "wall": estimate(m.wall(price, *n))}))
    });
    json!({
        "tasks": m.runs.count(),
        "workers": m.workers,
        "seconds": m.seconds,
        "certified": m.certified,
        "failed": m.failed,
        "mean_task_seconds": m.runs.total() / m.runs.count().max(1) as f64,
        "longest_task_seconds": m.runs.longest(),
        "peak_memory": m.peak_memory,
        "cpu": price.map(|price| estimate(price.cpu)),
        "wall": wall.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use common::grid::Uploaded;

    use super::*;

    #[test]
    fn a_task_is_shown_by_the_fields_in_which_tasks_differ() {
        let sample = |text: &str| {
            let grid = Grid::load("grid", text.as_bytes(), &Uploaded::default()).unwrap();
            shown(&grid, 1).unwrap()
        };
        assert_eq!(
            sample("data: iris\naxes: {seed: [0, 4]}"),
            "seed 4, start standard"
        );
        assert_eq!(
            sample("data: iris\naxes: {regularizer: [{body_decay: 2}, {body_decay: 3}]}"),
            "regularizer.body_decay 3.0, seed 0, start standard"
        );
        assert_eq!(
            sample("data: iris\naxes: {predictor_ridge: [2, 3], width: [5]}"),
            "width 5, regularizer.predictor_ridge 3.0, seed 0, start standard"
        );
    }
}
