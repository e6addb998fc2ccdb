//! `diff`: two sweeps, or the values of one axis, pair by pair.

use std::path::{Path, PathBuf};

use clap::Args;
use common::ids::TaskId;
use common::record::Evidence;
use common::summary::settle;
use serde_json::{Map, Value, json};

use super::{block_on, code, fail, load_grid, print};
use crate::at_rest::{self, AtRest, Plan};
use crate::compare::{self, Comparison, Entry, Interval};
use crate::progress::count;
use crate::run::Failure;
use crate::store::Address;
use crate::sweep::{GridSweep, KeepMinima};

/// Tasks that are looked up at a time.
const PAGE: usize = 2_000;

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The grid of side A
    #[arg(value_name = "A.yaml")]
    a: PathBuf,
    /// The grid of side B; without it, the values of --by within A
    #[arg(value_name = "B.yaml")]
    b: Option<PathBuf>,
    /// The store of side A, and of B
    #[arg(long, value_name = "DIR", default_value = "./sweeps")]
    store: Address,
    /// The store of side B, if it is another
    #[arg(long, value_name = "DIR", requires = "b")]
    store_b: Option<Address>,
    /// Fields to compare, as the grid names them [default: those whose values in A and B have
    /// nothing in common]
    #[arg(
        long,
        value_name = "FIELD",
        value_delimiter = ',',
        required_unless_present = "b"
    )]
    by: Vec<String>,
    /// Seed of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &DiffArgs) -> u8 {
    block_on(async {
        match diff(args).await {
            Ok(text) => {
                print(&text);
                code::DONE
            }
            Err((code, message)) => fail(code, &message),
        }
    })
}

/// The name that a specification has for a grid's field.
fn field_name(grid_name: &str) -> String {
    let name = grid_name.strip_prefix("training.").unwrap_or(grid_name);
    name.to_owned()
}

async fn diff(args: &DiffArgs) -> Result<String, Failure> {
    let a = entries(&args.a, &args.store).await?;
    let by: Vec<String> = args.by.iter().map(|name| field_name(name)).collect();
    for name in &by {
        if name == "seed" || !a.iter().any(|e| e.fields.contains_key(name)) {
            let known: Vec<&str> = a.first().map_or(Vec::new(), |e| {
                e.fields
                    .keys()
                    .map(String::as_str)
                    .filter(|k| *k != "seed")
                    .collect()
            });
            let message = format!("--by: `{name}` is not one of {}", known.join(", "));
            return Err((code::BAD_INPUT, message));
        }
    }
    let (by, found) = match &args.b {
        None => {
            let found = compare::within(&a, &by, args.seed);
            (by, found)
        }
        Some(b) => {
            let store = args.store_b.as_ref().unwrap_or(&args.store);
            let b = entries(b, store).await?;
            let by = if by.is_empty() {
                compare::differing(&a, &b)
            } else {
                by
            };
            let found = compare::between(&a, &b, &by, args.seed);
            (by, found)
        }
    };
    if args.json {
        let text = json!({
            "schema": "diff/1",
            "by": by,
            "seed": args.seed,
            "resamples": compare::RESAMPLES,
            "comparisons": found,
        });
        return Ok(format!("{text:#}\n"));
    }
    Ok(render(&by, &found))
}

/// The recorded runs of a sweep.
async fn entries(grid: &Path, store: &Address) -> Result<Vec<Entry>, Failure> {
    let (grid, data) = load_grid(grid).map_err(|message| (code::BAD_INPUT, message))?;
    let grid = std::sync::Arc::new(grid);
    let at_rest = AtRest::open(store, &grid).await?;
    let mut workload = GridSweep::new(grid, data, KeepMinima::None);
    // Results bring the rounds of a search with them.
    at_rest::replay(&at_rest.store, &at_rest.stored, &mut workload).await?;
    let plan = Plan::of(&mut workload);
    let baselines: Vec<TaskId> = plan.baselines.iter().map(|id| TaskId::from(*id)).collect();
    let solved = at_rest.lookup(baselines).await?;
    let solved: std::collections::HashMap<TaskId, f64> = solved
        .results
        .into_iter()
        .filter_map(|(task, opened)| match opened.evidence {
            Evidence::Baseline(baseline) => Some((task, baseline.value)),
            _ => None,
        })
        .collect();
    let mut entries = Vec::new();
    for page in plan.order.chunks(PAGE) {
        let known = at_rest.lookup(page.iter().map(|p| p.1).collect()).await?;
        let results: std::collections::HashMap<TaskId, Evidence> = known
            .results
            .into_iter()
            .map(|(task, opened)| (task, opened.evidence))
            .collect();
        for (position, task, baseline) in page {
            let (Some(Evidence::Run(run)), Some(planned)) =
                (results.get(task), workload.task_at(*position))
            else {
                continue;
            };
            let baseline = solved.get(&TaskId::from(*baseline)).copied();
            let spec = &planned.spec;
            let mut fields =
                compare::flatten(&serde_json::to_value(&spec.cell).unwrap_or_default());
            fields.insert("seed".to_owned(), spec.seed.into());
            fields.insert(
                "start".to_owned(),
                serde_json::to_value(&spec.start).unwrap_or_default(),
            );
            let settled = settle(run.outcome, run.value, baseline.unwrap_or(f64::NAN));
            entries.push(Entry {
                fields,
                value: run.value,
                certified: settled.verdict.is_certified(),
                baseline,
            });
        }
    }
    use crate::store::Store;
    at_rest
        .store
        .close()
        .await
        .map_err(|e| crate::run::store_failure(&e))?;
    Ok(entries)
}

fn render(by: &[String], found: &[Comparison]) -> String {
    if found.is_empty() {
        return "Nothing to compare: the fields have one value only.\n".to_owned();
    }
    // A column is there if some row has something to say in it.
    let baselines_differ = found.iter().any(|c| c.baselines_differ);
    let unpaired = found.iter().any(|c| c.unpaired_a + c.unpaired_b > 0);
    let mut heads = vec!["A", "B", "pairs", "certified both / A / B"];
    heads.extend(unpaired.then_some("unpaired A / B"));
    heads.extend(["B lower", "equal", "B higher", "median B − A", "95 %"]);
    heads.extend(baselines_differ.then_some("median of excess B − A"));
    heads.extend(baselines_differ.then_some("95 %"));
    let rows = found.iter().map(|c| {
        let mut row = vec![shown(&c.a), shown(&c.b), count(c.pairs)];
        row.push(format!(
            "{} / {} / {}",
            c.certified_both, c.certified_a_only, c.certified_b_only
        ));
        if unpaired {
            row.push(format!("{} / {}", c.unpaired_a, c.unpaired_b));
        }
        row.extend([c.b_lower, c.equal, c.b_higher].map(count));
        row.extend(interval(c.difference));
        if baselines_differ {
            row.extend(interval(c.excess_difference));
        }
        row
    });
    let right: Vec<usize> = (2..heads.len()).collect();
    let table = super::told::table(&heads, &right, rows.collect());
    let what = if by.is_empty() {
        "equal tasks".to_owned()
    } else {
        format!("tasks equal in all but {}", by.join(", "))
    };
    let mut text = format!("{table}Pairs: {what}; compared where both are certified.\n");
    if baselines_differ {
        text.push_str("Baselines differ within pairs: compare the excess, not the value.\n");
    }
    text
}

fn shown(value: &Map<String, Value>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (name, value) in value {
        let text = crate::table::shown(value);
        parts.push(if parts.is_empty() && !value.is_number() {
            text
        } else {
            format!("{name} {text}")
        });
    }
    if parts.is_empty() {
        return "–".to_owned();
    }
    parts.join(", ")
}

/// Median, and the ends of its interval.
fn interval(x: Option<Interval>) -> [String; 2] {
    x.map_or(["–".to_owned(), "–".to_owned()], |x| {
        [
            format!("{:+.2e}", x.median),
            format!("{:+.2e} to {:+.2e}", x.lower95, x.upper95),
        ]
    })
}
