//! `verify`: the completeness certificate and the audit of a sweep.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use common::grid::Grid;
use common::pb::wire;
use common::summary::Summary;
use serde_json::{Value, json};

use super::settings::AuditFlags;
use super::{block_on, code, fail, load_grid, print};
use crate::at_rest::{AtRest, Kept};
use crate::audit;
use crate::client::{self, Access, failure};
use crate::export;
use crate::run::{Failure, store_failure};
use crate::store::{Address, Store, StoredSweep};
use crate::sweep::{DataTable, GridSweep, KeepMinima, sweep_id};
use crate::verify::{self, Audit, Completeness, Drawn};

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// The grid
    #[arg(long, value_name = "FILE")]
    grid: PathBuf,
    /// The store of a coordinator that does not run [default: ./sweeps]
    #[arg(
        long,
        value_name = "STORE",
        conflicts_with = "connect",
        env = "SWEEP_STORE",
        hide_env_values = true
    )]
    store: Option<Address>,
    #[command(flatten)]
    access: Access,
    /// Share of the recorded runs that is computed again, 0 to 1; runs of a broken link always are
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    audit: f64,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    workers: AuditFlags,
    /// Folder of the results: its summary is compared, its run.json and its report get the
    /// certificate
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &VerifyArgs) -> u8 {
    block_on(async {
        match verify(args).await {
            Ok((text, good)) => {
                print(&text);
                if good { code::DONE } else { code::INTERNAL }
            }
            Err((code, message)) => fail(code, &message),
        }
    })
}

async fn verify(args: &VerifyArgs) -> Result<(String, bool), Failure> {
    let bad = |message: String| (code::BAD_INPUT, message);
    if !(0.0..=1.0).contains(&args.audit) {
        return Err(bad(format!("--audit: {} is not in 0 to 1", args.audit)));
    }
    let (grid, data) = load_grid(&args.grid).map_err(bad)?;
    let grid = Arc::new(grid);
    if args.audit > 0.0 && !grid.is_reproducible() {
        let message = "runs limited by seconds cannot be computed again: leave --audit out";
        return Err(bad(message.to_owned()));
    }
    let account = match &args.out {
        Some(out) => Some(read_account(out).map_err(bad)?),
        None => None,
    };
    let reproducible = grid.is_reproducible();
    let checked = match &args.access.connect {
        Some(url) => live(url, args, Arc::clone(&grid), data).await?,
        None => at_rest(args, Arc::clone(&grid), data).await?,
    };
    let Checked {
        mut completeness,
        drawn,
        sweep,
        page,
    } = checked;
    if let Some(out) = &args.out {
        let stated = stated_results(out).map_err(bad)?;
        if stated != completeness.results_sha256 {
            completeness.faults.push(format!(
                "summary.json states results_sha256 {stated}, the records have {}",
                completeness.results_sha256
            ));
        }
    }
    let audit = if reproducible {
        let folder = tempfile::tempdir();
        let folder =
            folder.map_err(|e| (code::INTERNAL, format!("no folder for the audit: {e}")))?;
        let settings = args
            .workers
            .settings(folder.path(), args.access.insecure, args.json);
        let settings = settings.map_err(bad)?;
        let positions = drawn.iter().map(|record| record.position).collect();
        let outcome = audit::compute(&settings, sweep, positions).await?;
        Some(Audit::new(args.audit, args.seed, &drawn, &outcome))
    } else {
        None
    };
    let good = completeness.holds()
        && (audit.as_ref()).is_none_or(|a| a.mismatched.is_empty() && a.not_computed == 0);
    let certificate = json!({
        "schema": "verification/1",
        "holds": good,
        "completeness": completeness,
        "audit": audit,
    });
    if let (Some(out), Some(mut account)) = (&args.out, account) {
        let failed = |e: export::ExportError| (code::INTERNAL, e.to_string());
        account["verification"] = certificate.clone();
        export::write(&out.join("run.json"), format!("{account:#}\n").as_bytes())
            .map_err(failed)?;
        if let Some((stored, summary)) = page {
            let report = out.join("report.html");
            export::write_report(&report, &stored, &summary, &account).map_err(failed)?;
        }
    }
    let text = if args.json {
        format!("{certificate:#}\n")
    } else {
        render(&completeness, audit.as_ref(), good)
    };
    Ok((text, good))
}

/// What was found without computing anything.
struct Checked {
    completeness: Completeness,
    drawn: Vec<Drawn>,
    /// What the audit takes its tasks from.
    sweep: GridSweep,
    /// What the report is written anew from.
    page: Option<(StoredSweep, Summary)>,
}

/// In a store that no coordinator has.
async fn at_rest(args: &VerifyArgs, grid: Arc<Grid>, data: DataTable) -> Result<Checked, Failure> {
    let address = match &args.store {
        Some(address) => address.clone(),
        None => Address::Directory("./sweeps".into()),
    };
    let AtRest { store, stored } = AtRest::open(&address, &grid).await?;
    let kept = Kept {
        stored: stored.clone(),
        grid,
        data,
    };
    let (completeness, records, sweep) = verify::of_kept(&store, kept, false).await?;
    store.close().await.map_err(|e| store_failure(&e))?;
    Ok(Checked {
        page: Some((stored, sweep.summary(completeness.duplicates))),
        drawn: records.draw(args.audit, args.seed, u64::MAX),
        completeness,
        sweep,
    })
}

/// In the store of a live coordinator, which does the reading.
async fn live(
    url: &str,
    args: &VerifyArgs,
    grid: Arc<Grid>,
    data: DataTable,
) -> Result<Checked, Failure> {
    #[derive(serde::Deserialize)]
    struct Reply {
        completeness: Completeness,
        drawn: Vec<Drawn>,
    }
    let mut client = client::connect(url, &args.access).await?;
    let reply = client.list(wire::ListRequest {}).await;
    let sweeps = reply.map_err(|s| failure(&s))?.into_inner().sweeps;
    let id = sweep_id(&grid);
    let Some(own) = sweeps.into_iter().find(|s| s.id == id) else {
        let message = format!("the coordinator at {url} has no sweep of this grid");
        return Err((code::BAD_INPUT, message));
    };
    let request = wire::VerifyRequest {
        sweep: own.sweep,
        share: args.audit,
        seed: args.seed,
    };
    let reply = client.verify(request).await.map_err(|s| failure(&s))?;
    let reply: Reply = serde_json::from_slice(&reply.into_inner().json)
        .map_err(|e| (code::INTERNAL, format!("the answer cannot be read: {e}")))?;
    if let Some(wrong) = reply.drawn.iter().find(|d| d.position >= grid.len()) {
        let message = format!(
            "the coordinator names a task {} that no grid has",
            wrong.position
        );
        return Err((code::INTERNAL, message));
    }
    Ok(Checked {
        completeness: reply.completeness,
        drawn: reply.drawn,
        sweep: GridSweep::new(grid, data, KeepMinima::None),
        page: None,
    })
}

fn read(path: &Path) -> Result<Value, String> {
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn read_account(out: &Path) -> Result<Value, String> {
    let account = read(&out.join("run.json"))?;
    if account.is_object() {
        Ok(account)
    } else {
        Err(format!("{}/run.json is no account", out.display()))
    }
}

/// results_sha256 of a folder's summary.
fn stated_results(out: &Path) -> Result<String, String> {
    let summary = read(&out.join("summary.json"))?;
    let stated = summary["sweep"]["results_sha256"].as_str();
    stated.map(str::to_owned).ok_or_else(|| {
        let out = out.display();
        format!("{out}/summary.json has no results_sha256")
    })
}

fn render(c: &Completeness, audit: Option<&Audit>, good: bool) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} planned = {} recorded once + {} failed + {} cancelled + {} missing{}",
        c.planned,
        c.recorded,
        c.failed,
        c.cancelled,
        c.missing,
        if c.finished {
            ""
        } else {
            " (the sweep is not finished)"
        },
    );
    let _ = writeln!(
        text,
        "chain: {} links over {} records, head {}",
        c.links, c.records, c.head
    );
    let _ = writeln!(text, "results_sha256: {}", c.results_sha256);
    match audit {
        Some(a) if a.audited + a.suspects > 0 => {
            let _ = writeln!(
                text,
                "audit: {} runs computed again by other workers ({} on another host than before), {} \
                 with other bits, {} not computed; rate at most {:.4} with 95 % confidence; {} more \
                 under suspicion",
                a.audited,
                a.by_other_hosts,
                a.mismatches,
                a.not_computed,
                a.mismatch_rate_upper95,
                a.suspects
            );
        }
        Some(_) => text.push_str("audit: none (--audit SHARE computes a share again)\n"),
        None => text.push_str("audit: none, runs limited by seconds cannot be computed again\n"),
    }
    for fault in &c.faults {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    for mismatch in audit.map_or(&[][..], |a| &a.mismatched) {
        let _ = writeln!(text, "MISMATCH: {mismatch}");
    }
    text.push_str(if good {
        "The certificate holds.\n"
    } else {
        "The certificate does NOT hold.\n"
    });
    text
}
