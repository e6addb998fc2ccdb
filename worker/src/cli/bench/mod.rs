//! `worker bench`: how fast this machine computes.
//!
//! | measurement | what it is |
//! |---|---|
//! | `floor` | peak of the fused multiply-adds, matrix products of a case's shapes, tanh |
//! | `gradient` | objective and gradient, full batch, one thread |
//! | `product` | one Hessian-vector product at a linearised point |
//! | `products` | sixteen of them in one call, per product |
//! | `minimum` | from a standard start to a certified minimum, without regulariser |
//! | `slots` | the same tasks on every slot, one slot against one a core |
//! | `threads` | one gradient on one thread against one a core |
//!
//! What is measured is what tasks run: the engine's own objective and pipeline, and real slot
//! processes. Figures are medians over samples; the minimum and the number of samples stand
//! beside them.

mod cases;
mod clock;
mod evaluate;
mod export;
mod floor;
mod minimum;
mod show;
mod slots;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use common::math::{Isa, NUMERIC_LEVEL};
use serde_json::{Value, json};

pub(super) use cases::Case;
use cases::Ready;
use clock::Times;

use super::args::BenchArgs;
use super::{BadInput, Status, print};
use crate::slot::VERSION;

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Measure {
    /// Peak, matrix products and tanh of this machine.
    Floor,
    /// Objective and gradient.
    Gradient,
    /// One Hessian-vector product.
    Product,
    /// Sixteen Hessian-vector products in one call, per product.
    Products,
    /// Time to a certified minimum.
    Minimum,
    /// One slot process against one a core.
    Slots,
    /// One thread against one a core.
    Threads,
}

/// One line of the table.
#[derive(Clone, Debug)]
struct Row {
    measure: Measure,
    case: Case,
    /// What exactly, where the measurement has several.
    what: String,
    times: Times,
    /// Further figures, by name.
    figures: Vec<(&'static str, f64)>,
}

pub(super) fn main(args: &BenchArgs) -> anyhow::Result<Status> {
    let chosen: &[Case] = if args.case.is_empty() {
        Case::value_variants()
    } else {
        &args.case
    };
    if let Some(folder) = &args.export {
        for case in chosen {
            export::write(folder, &case.ready()?)?;
        }
        return Ok(Status::Done);
    }
    let wanted = |measure| args.measure.is_empty() || args.measure.contains(&measure);
    let budget = Duration::from_secs_f64(args.seconds);
    let cores = cores();
    let mut rows = Vec::new();
    for case in chosen {
        let ready = case.ready()?;
        if std::io::stderr().is_terminal() {
            // Whoever does not hear it loses nothing.
            let _ = writeln!(std::io::stderr(), "measuring {} …", name_of(*case));
        }
        rows.extend(measure(&ready, &wanted, budget, cores)?);
    }
    if rows.is_empty() {
        let nothing = "none of these measurements exists for these cases: products are for S, M \
                       and L, minimum and slots for S and M, threads for L and XL on two cores \
                       or more";
        return Err(BadInput(nothing.to_owned()).into());
    }
    if args.json {
        print(&described(&rows, cores))?;
    } else {
        show::table(&rows, &machine(cores))?;
    }
    Ok(Status::Done)
}

/// All wanted measurements of one case.
fn measure(
    ready: &Ready,
    wanted: &dyn Fn(Measure) -> bool,
    budget: Duration,
    cores: usize,
) -> anyhow::Result<Vec<Row>> {
    let case = ready.case;
    let mut rows = Vec::new();
    let floor = wanted(Measure::Floor).then(|| floor::rows(ready, budget));
    let bound = floor.as_ref().map(|(_, bound)| *bound);
    rows.extend(floor.into_iter().flat_map(|(rows, _)| rows));
    if wanted(Measure::Gradient) {
        rows.push(evaluate::gradient(ready, budget, bound));
    }
    if wanted(Measure::Product) && case.has_products() {
        rows.push(evaluate::products(ready, budget, 1));
    }
    if wanted(Measure::Products) && case.has_products() {
        rows.push(evaluate::products(ready, budget, 16));
    }
    if wanted(Measure::Minimum) && case.has_minima() {
        rows.push(minimum::row(ready)?);
    }
    if wanted(Measure::Slots) && case.has_minima() && cores > 1 {
        rows.extend(slots::rows(ready, cores)?);
    }
    if wanted(Measure::Threads) && case.is_large() && cores > 1 {
        rows.extend(evaluate::threads(ready, budget, cores)?);
    }
    Ok(rows)
}

/// What this process may use: the affinity and the quota of the control group count.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first name that the kernel has for the processor.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn machine(cores: usize) -> String {
    format!(
        "{}, {cores} {}, {}; worker {VERSION}, numeric level {NUMERIC_LEVEL}",
        processor(),
        if cores == 1 { "core" } else { "cores" },
        Isa::current().level(),
    )
}

fn described(rows: &[Row], cores: usize) -> Value {
    let rows: Vec<Value> = rows.iter().map(Row::described).collect();
    json!({
        "schema": "worker-bench/1",
        "processor": processor(),
        "cores": cores,
        "instruction_set": Isa::current().level().to_string(),
        "version": VERSION,
        "numeric_level": NUMERIC_LEVEL,
        "measurements": rows,
    })
}

impl Row {
    fn described(&self) -> Value {
        let mut value = json!({
            "measure": name_of(self.measure),
            "case": name_of(self.case),
            "what": self.what,
            "median": self.times.median(),
            "min": self.times.min(),
            "samples": self.times.samples(),
        });
        for (name, figure) in &self.figures {
            value[*name] = json!(figure);
        }
        value
    }
}

/// What is typed for a value of an option.
fn name_of(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |v| v.get_name().to_owned())
}
