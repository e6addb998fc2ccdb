//! `verify`: the completeness certificate and the audit of a sweep.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::{block_on, code, fail, load_grid, print};
use crate::at_rest::{self, AtRest};
use crate::export;
use crate::local;
use crate::run::{Failure, host_name, store_failure};
use crate::store::{Address, Store};
use crate::sweep::{GridSweep, KeepMinima};
use crate::verify::{self, Audit, AuditPlan, Completeness};

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// The grid
    #[arg(long, value_name = "FILE")]
    grid: PathBuf,
    /// The store
    #[arg(
        long,
        value_name = "STORE",
        default_value = "./sweeps",
        env = "SWEEP_STORE",
        hide_env_values = true
    )]
    store: Address,
    /// Share of the recorded runs that is computed again, 0 to 1; runs of a broken link always are
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    audit: f64,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Processes that compute at a time [default: as many as cores]
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// Folder of the results: its summary is compared, and its run.json gets the certificate
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
    let at_rest = AtRest::open(&args.store, &grid).await?;
    let reproducible = grid.is_reproducible();
    let tasks = grid.len();
    let searches = grid.search().is_some();
    let mut workload = GridSweep::new(grid, data, KeepMinima::None);
    if searches {
        // What the search decided follows from the results: its tasks are planned ones, too.
        at_rest::replay(&at_rest.store, &at_rest.stored, &mut workload).await?;
    }
    let (mut completeness, records) = verify::completeness(&at_rest, &mut workload)
        .await
        .map_err(|e| store_failure(&e))?;
    if let Some(out) = &args.out {
        let stated = stated_results(out).map_err(bad)?;
        if stated != completeness.results_sha256 {
            completeness.faults.push(format!(
                "summary.json states results_sha256 {stated}, the records have {}",
                completeness.results_sha256
            ));
        }
    }
    let how = AuditPlan {
        share: args.audit,
        seed: args.seed,
        grid: args.grid.clone(),
        tasks,
        program: local::program().map_err(bad)?,
        processes: args
            .processes
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1),
        host: host_name(),
    };
    let audit = if reproducible {
        let audit = verify::audit(&records, &how).await;
        Some(audit.map_err(|message| (code::INTERNAL, message))?)
    } else {
        None
    };
    at_rest.store.close().await.map_err(|e| store_failure(&e))?;
    let good = completeness.holds() && audit.as_ref().is_none_or(|a| a.mismatched.is_empty());
    let certificate = json!({
        "schema": "verification/1",
        "holds": good,
        "completeness": completeness,
        "audit": audit,
    });
    if let (Some(out), Some(mut account)) = (&args.out, account) {
        account["verification"] = certificate.clone();
        export::write(&out.join("run.json"), format!("{account:#}\n").as_bytes())
            .map_err(|e| (code::INTERNAL, e.to_string()))?;
    }
    let text = if args.json {
        format!("{certificate:#}\n")
    } else {
        render(&completeness, audit.as_ref(), good)
    };
    Ok((text, good))
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
                "audit: {} runs computed again ({} had come from other hosts), {} with other bits; \
                 rate at most {:.4} with 95 % confidence; {} more under suspicion",
                a.audited, a.from_other_hosts, a.mismatches, a.mismatch_rate_upper95, a.suspects
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
