//! `diff`: two sweeps, or the values of one axis, pair by pair.

use clap::Args;
use common::pb::wire;
use serde_json::{Map, Value, json};

use super::remote::{Place, Source, block_on_result, finish, reopen};
use super::{code, print};
use crate::client::{Client, failure};
use crate::compare::{self, Comparison, Entry, Interval};
use crate::outcomes::{BadBatch, Batch, Gathered, Outcome, Outcomes};
use crate::progress::count;
use crate::run::{Failure, store_failure};
use crate::store::Store;

#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// Side A: the file of its grid, or the sweep's number, name or first digits of its identity
    a: String,
    /// Side B; without it, the values of --by within A
    b: Option<String>,
    #[command(flatten)]
    source: Source,
    /// The store of side B, if it is another: a folder or postgres://…
    #[arg(long, value_name = "WHERE", requires = "b")]
    store_b: Option<String>,
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
    finish(block_on_result(async {
        print(&diff(args).await?);
        Ok(code::DONE)
    }))
}

/// The name that a specification has for a grid's field.
fn field_name(grid_name: &str) -> String {
    let name = grid_name.strip_prefix("training.").unwrap_or(grid_name);
    name.to_owned()
}

async fn diff(args: &DiffArgs) -> Result<String, Failure> {
    let a = entries(&args.a, &args.source).await?;
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
            let other = args.store_b.as_deref().map(Source::at_rest);
            let b = entries(b, other.as_ref().unwrap_or(&args.source)).await?;
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
async fn entries(sweep: &str, source: &Source) -> Result<Vec<Entry>, Failure> {
    let place = Place::of(source, sweep)?;
    if let Some(client) = place.client().await {
        return live(&place, client?).await;
    }
    let (store, stored) = place.kept().await?;
    let kept = reopen(&store, stored).await?;
    let mut outcomes = Outcomes::of(&store, kept).await?;
    let mut gathered = Gathered::default();
    while let Some(batch) = outcomes.next(&store).await? {
        gathered.add(batch).map_err(unreadable)?;
    }
    store.close().await.map_err(|e| store_failure(&e))?;
    Ok(gathered.entries)
}

/// Those that a live coordinator has.
async fn live(place: &Place, mut client: Client) -> Result<Vec<Entry>, Failure> {
    let sweep = place.remote_number(&mut client).await?;
    let chunks = client.outcomes(wire::SweepRequest { sweep }).await;
    let mut chunks = chunks.map_err(|s| failure(&s))?.into_inner();
    let mut gathered = Gathered::default();
    while let Some(chunk) = chunks.message().await.map_err(|s| failure(&s))? {
        let run = |run: wire::RunOutcome| Outcome {
            cell: run.cell,
            seed: run.seed,
            start: run.start,
            value: run.value,
            certified: run.certified,
            baseline: run.baseline,
        };
        let batch = Batch {
            cells: chunk.cells,
            runs: chunk.runs.into_iter().map(run).collect(),
        };
        gathered.add(batch).map_err(unreadable)?;
    }
    Ok(gathered.entries)
}

fn unreadable(error: BadBatch) -> Failure {
    (code::INTERNAL, error.to_string())
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
