//! `summary.csv`: one row for each cell, for spreadsheets and data frames.

use serde::Serialize;
use serde_json::Value;

use super::output::{CellSummary, Number, RunSummary, Sorted, Summary};
use super::{FoundBy, Verdict};

/// Fixed columns, after those of the cells' own fields.
const COLUMNS: [&str; 45] = [
    "assumptions_broken",
    "notes",
    "verdict",
    "runs",
    "certified_minimum",
    "violation",
    "saddle",
    "kink",
    "diverging",
    "budget_exhausted",
    "non_finite",
    "failed",
    "cancelled",
    "at_baseline",
    "trivial",
    "search_runs",
    "baseline_value",
    "baseline_lower_bound",
    "baseline_status",
    "value_min",
    "value_q25",
    "value_median",
    "value_q75",
    "value_max",
    "median_improvement",
    "worst_task",
    "worst_seed",
    "worst_start",
    "worst_found_by",
    "worst_value",
    "worst_excess",
    "worst_induced_gap",
    "worst_gradient_norm",
    "worst_min_eigenvalue",
    "worst_max_eigenvalue",
    "worst_eigenvalue_method",
    "worst_nontrivial_task",
    "worst_nontrivial_excess",
    "worst_uncertified_task",
    "worst_uncertified_verdict",
    "worst_uncertified_value",
    "worst_uncertified_excess",
    "best_task",
    "best_value",
    "best_excess",
];

impl Summary {
    /// The text of `summary.csv`: a header and one row for each cell, in the
    /// order of the grid. What is null in JSON is empty; a field of the cells
    /// that has the name of a fixed column is written as `cell.NAME`.
    pub fn to_csv(&self) -> String {
        let mut fields: Vec<&str> = Vec::new();
        for cell in &self.cells {
            for (name, _) in &cell.cell.0 {
                if !fields.contains(&name.as_str()) {
                    fields.push(name);
                }
            }
        }
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        let header = fields.iter().map(|name| {
            if COLUMNS.contains(name) {
                format!("cell.{name}")
            } else {
                (*name).to_owned()
            }
        });
        let written = "writing to memory cannot fail, and all rows have one length";
        writer
            .write_record(header.chain(COLUMNS.map(str::to_owned)))
            .expect(written);
        for cell in &self.cells {
            let own = fields.iter().map(|field| {
                let found = cell.cell.0.iter().find(|(name, _)| name == field);
                found.map_or_else(String::new, |(_, value)| plain(value))
            });
            writer.write_record(own.chain(row(cell))).expect(written);
        }
        let bytes = writer.into_inner().expect("flushing to memory cannot fail");
        String::from_utf8(bytes).expect("only strings were written")
    }
}

/// The fixed columns of one cell.
fn row(cell: &CellSummary) -> [String; COLUMNS.len()] {
    let worst = cell.worst.as_ref();
    let nontrivial = cell.worst_nontrivial.as_ref();
    let uncertified = cell.worst_uncertified.as_ref();
    let best = cell.best.as_ref();
    let quantile = |pick: fn(&super::Quantiles) -> Number| number(cell.values.as_ref().map(pick));
    let v = &cell.verdicts;
    [
        cell.assumptions_broken.join("; "),
        cell.notes.join("; "),
        cell.verdict.name().to_owned(),
        cell.runs.to_string(),
        v.certified_minimum.to_string(),
        v.violation.to_string(),
        v.saddle.to_string(),
        v.kink.to_string(),
        v.diverging.to_string(),
        v.budget_exhausted.to_string(),
        v.non_finite.to_string(),
        cell.failed.to_string(),
        cell.cancelled.to_string(),
        cell.at_baseline.map_or_else(String::new, |n| n.to_string()),
        cell.trivial.to_string(),
        cell.search.map_or(0, |s| s.runs).to_string(),
        number(cell.baseline.map(|b| b.value)),
        number(cell.baseline.map(|b| b.lower_bound)),
        cell.baseline.map_or_else(String::new, |b| word(&b.status)),
        quantile(|q| q.min),
        quantile(|q| q.q25),
        quantile(|q| q.median),
        quantile(|q| q.q75),
        quantile(|q| q.max),
        number(cell.median_improvement),
        task(worst),
        worst.map_or_else(String::new, |r| r.seed.to_string()),
        worst.map_or_else(String::new, |r| r.start.clone()),
        worst.map_or_else(String::new, |r| found_by(r.found_by).to_owned()),
        number(worst.map(|r| r.value)),
        number(worst.and_then(|r| r.excess)),
        number(worst.and_then(|r| r.induced_gap)),
        number(worst.map(|r| r.gradient_norm)),
        number(worst.and_then(|r| r.min_eigenvalue)),
        number(worst.and_then(|r| r.max_eigenvalue)),
        worst
            .and_then(|r| r.eigenvalue_method)
            .map_or_else(String::new, |m| word(&m)),
        task(nontrivial),
        number(nontrivial.and_then(|r| r.excess)),
        task(uncertified),
        uncertified.map_or_else(String::new, |r| Verdict::name(r.verdict).to_owned()),
        number(uncertified.map(|r| r.value)),
        number(uncertified.and_then(|r| r.excess)),
        task(best),
        number(best.map(|r| r.value)),
        number(best.and_then(|r| r.excess)),
    ]
}

fn task(run: Option<&RunSummary>) -> String {
    run.map_or_else(String::new, |r| r.task.to_string())
}

fn found_by(who: FoundBy) -> &'static str {
    match who {
        FoundBy::Grid => "grid",
        FoundBy::Search => "search",
    }
}

/// As in JSON, without the quotes of what is not finite.
fn number(value: Option<Number>) -> String {
    match value {
        None => String::new(),
        Some(x) => x.non_finite().map_or_else(|| word(&x), str::to_owned),
    }
}

/// A field's value as tables write it: text as it is, everything else as compact JSON.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => word(&Sorted(other)),
    }
}

/// The JSON form of something without a failing part, quotes of a string removed.
fn word(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("plain values have a JSON form");
    match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) => inner.to_owned(),
        None => text,
    }
}
