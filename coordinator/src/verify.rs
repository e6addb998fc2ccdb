//! The completeness certificate of a sweep at rest, and the audit.
//!
//! *Completeness*: every planned task is recorded once, or failed, or
//! cancelled (or, in a sweep that is not finished, missing); and the records
//! are those that were acknowledged. The latter is shown by the chain: each
//! commit left a link, SHA-256 over the link before it, the task and the digest
//! of its evidence. The chain is recomputed from the records; where a link does
//! not come out, a record of that commit was changed, and where a number is
//! missing, one was removed. The chain shows changes by accident or by hand; who
//! can rewrite the whole database can rewrite the chain as well: keep `head`
//! elsewhere (it is in run.json) to rule that out.
//!
//! *Audit*: a random sample of the runs is computed again, each in a process
//! of its own (`worker run`), and the encoded evidence is compared bit for bit,
//! that of its baseline too. Runs in a broken link are all computed again, which
//! names the record that was changed. With no mismatch in n, the rate is at most
//! the Clopper–Pearson bound with 95 % confidence.
//!
//! What this module does not do: it chooses no machine. The processes run on
//! this one; how many of the audited results came from another host is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::ids::{BaselineId, TaskId, to_hex};
use common::math::special::binomial_upper;
use common::pb::decode_evidence;
use common::record::Evidence;
use common::rng::{Philox, Purpose};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::at_rest::{AtRest, Plan};
use crate::core::{Opened, SweepState};
use crate::store::{Chain, Store, StoreError, StoredResult};
use crate::sweep::GridSweep;
use crate::workload::Workload;

/// Results that are read at a time.
const PAGE: u32 = 10_000;
/// Records that are named of each kind.
const NAMED: usize = 100;
/// Confidence of the bound on the mismatch rate.
const CONFIDENCE: f64 = 0.95;

/// What the records say of themselves.
#[derive(Debug, Serialize)]
pub struct Completeness {
    /// Distinct tasks of the grid.
    pub planned: u64,
    /// Of them recorded, each once.
    pub recorded: u64,
    /// Set aside after failures.
    pub failed: u64,
    /// Given up by request.
    pub cancelled: u64,
    /// None of these.
    pub missing: u64,
    /// The first 100 of them.
    pub missing_tasks: Vec<String>,
    /// Whether the sweep says that it is finished.
    pub finished: bool,
    /// SHA-256 over the recorded results, as in summary.json.
    pub results_sha256: String,
    /// Records of the whole store, baselines and other sweeps included.
    pub records: u64,
    /// Links that were recomputed.
    pub links: u64,
    /// The last link.
    pub head: String,
    /// Mistakes in the records, in words; none in an honest store.
    pub faults: Vec<String>,
}

impl Completeness {
    /// Whether nothing is wrong; a sweep that is not finished may miss tasks.
    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What was computed again.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// Share of the recorded runs that was drawn.
    pub share: f64,
    /// Seed of the draw.
    pub seed: u64,
    /// Runs computed again because they were drawn.
    pub audited: u64,
    /// Of them, computed on another host than this one.
    pub from_other_hosts: u64,
    /// Of them, with other bits than the record.
    pub mismatches: u64,
    /// `mismatches`/`audited`.
    pub mismatch_rate: f64,
    /// Its one-sided 95 % Clopper–Pearson bound.
    pub mismatch_rate_upper95: f64,
    /// Runs computed again because their link is broken.
    pub suspects: u64,
    /// The first 100 records with other bits, of either kind.
    pub mismatched: Vec<String>,
}

/// A record that the audit may compute again.
#[derive(Clone, Debug)]
struct Auditable {
    position: u64,
    digest: [u8; 32],
    baseline: Option<[u8; 32]>,
    host: String,
}

/// What the records hold, as far as the audit needs it.
#[derive(Debug, Default)]
pub struct Records {
    runs: BTreeMap<TaskId, Auditable>,
    suspects: BTreeSet<TaskId>,
}

/// The recomputed chain, record by record.
struct ChainCheck {
    links: std::vec::IntoIter<Chain>,
    next: Option<Chain>,
    chain: Chain,
    checked: u64,
    /// Records since the last link.
    open: Vec<(u64, TaskId)>,
    suspects: BTreeSet<TaskId>,
    faults: Vec<String>,
    /// Number of the record before.
    number: u64,
}

impl ChainCheck {
    fn new(links: Vec<Chain>) -> Self {
        let mut links = links.into_iter();
        let next = links.next();
        Self {
            links,
            next,
            chain: Chain::default(),
            checked: 0,
            open: Vec::new(),
            suspects: BTreeSet::new(),
            faults: Vec::new(),
            number: 0,
        }
    }

    fn record(&mut self, number: u64, task: TaskId, digest: &[u8; 32]) {
        for missing in self.number + 1..number {
            self.faults
                .push(format!("record {missing} has been removed"));
            self.close(missing);
        }
        self.number = number;
        self.chain = self.chain.with(&task, digest);
        self.chain.results = number;
        self.open.push((number, task));
        self.close(number);
    }

    /// Compares with the link that ends at this record, if there is one.
    fn close(&mut self, number: u64) {
        let Some(link) = self.next.filter(|link| link.results == number) else {
            return;
        };
        self.checked += 1;
        if link.head != self.chain.head || self.number < number {
            let among: Vec<String> = self
                .open
                .iter()
                .map(|(number, task)| format!("{number} (task {task})"))
                .collect();
            self.faults.push(format!(
                "the link over the records up to {number} does not come out: of the records of its \
                 commit one was changed or removed; those there are: {}",
                if among.is_empty() {
                    "none".to_owned()
                } else {
                    among.join(", ")
                }
            ));
            self.suspects
                .extend(self.open.iter().map(|(_, task)| *task));
        }
        // What comes later is judged by itself.
        self.chain = link;
        self.open.clear();
        self.next = self.links.next();
    }

    fn end(&mut self) {
        while let Some(link) = self.next {
            for missing in self.number + 1..=link.results {
                self.faults
                    .push(format!("record {missing} has been removed"));
            }
            self.close(link.results);
            self.number = self.number.max(link.results);
        }
        if let Some((number, task)) = self.open.first() {
            self.faults.push(format!(
                "the records from {number} (task {task}) on are in no link of the chain"
            ));
            self.suspects
                .extend(self.open.iter().map(|(_, task)| *task));
        }
    }
}

/// Reads all records and sets them beside the plan and the chain.
///
/// # Errors
/// When the store cannot be read.
pub async fn completeness(
    at_rest: &AtRest,
    workload: &mut GridSweep,
) -> Result<(Completeness, Records), StoreError> {
    let plan = Plan::of(workload);
    let mut check = ChainCheck::new(at_rest.store.links().await?);
    let mut records = Records::default();
    let mut baselines: HashMap<BaselineId, [u8; 32]> = HashMap::new();
    let mut total = 0;
    let mut after = 0;
    loop {
        let page = at_rest.store.results(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for result in page {
            total += 1;
            take(
                &result,
                &plan,
                workload,
                &mut check,
                &mut records,
                &mut baselines,
            );
        }
    }
    check.end();
    for (_, task, baseline) in &plan.order {
        let known = baselines.get(baseline);
        if let Some(run) = records.runs.get_mut(task) {
            run.baseline = known.copied();
            if known.is_none() {
                let fault = format!("run {task} is recorded, its baseline {baseline} is not");
                check.faults.push(fault);
            }
        }
    }
    for failure in at_rest.store.failures(at_rest.stored.number).await? {
        if failure.set_aside
            && let Some(position) = plan.runs.get(&failure.task)
        {
            workload.set_aside(*position, &failure.task, failure.kind);
        }
    }
    if at_rest.stored.state == SweepState::Cancelled {
        workload.cancel_rest();
    }
    let summary = workload.summary(plan.duplicates);
    let totals = &summary.totals;
    let gone = plan
        .order
        .iter()
        .filter(|(_, task, _)| !records.runs.contains_key(task));
    let missing_tasks: Vec<String> = if totals.missing > 0 {
        gone.take(NAMED)
            .map(|(position, task, _)| format!("{position} ({task})"))
            .collect()
    } else {
        Vec::new()
    };
    let finished = at_rest.stored.state == SweepState::Finished;
    let sum = totals.recorded + totals.failed + totals.cancelled + totals.missing;
    if sum != totals.planned {
        check.faults.push(format!(
            "{} tasks are planned, {sum} are accounted for",
            totals.planned
        ));
    }
    if finished && totals.missing > 0 {
        check.faults.push(format!(
            "the sweep says it is finished, and {} planned tasks have no record: {}",
            totals.missing,
            missing_tasks.join(", ")
        ));
    }
    records.suspects = check.suspects;
    let completeness = Completeness {
        planned: totals.planned,
        recorded: totals.recorded,
        failed: totals.failed,
        cancelled: totals.cancelled,
        missing: totals.missing,
        missing_tasks,
        finished,
        results_sha256: summary.sweep.results_sha256.clone(),
        records: total,
        links: check.checked,
        head: to_hex(&check.chain.head),
        faults: check.faults,
    };
    Ok((completeness, records))
}

/// Takes one record into chain, fold and audit.
fn take(
    result: &StoredResult,
    plan: &Plan,
    workload: &mut GridSweep,
    check: &mut ChainCheck,
    records: &mut Records,
    baselines: &mut HashMap<BaselineId, [u8; 32]>,
) {
    let digest: [u8; 32] = Sha256::digest(&result.evidence).into();
    let task = result.task;
    check.record(result.number, task, &digest);
    let as_baseline = BaselineId(task.0);
    let position = plan.runs.get(&task);
    if position.is_none() && !plan.baselines.contains(&as_baseline) {
        return;
    }
    let evidence = match decode_evidence(&result.evidence) {
        Ok(evidence) => evidence,
        Err(error) => {
            let number = result.number;
            check.faults.push(format!(
                "record {number} (task {task}) cannot be read: {error}"
            ));
            return;
        }
    };
    let opened = Opened {
        bytes: result.evidence.clone(),
        digest,
        evidence,
    };
    match (position, &opened.evidence) {
        (Some(position), Evidence::Run(_)) => {
            let run = Auditable {
                position: *position,
                digest,
                baseline: None,
                host: result.host.clone(),
            };
            if records.runs.insert(task, run).is_some() {
                check
                    .faults
                    .push(format!("task {task} is recorded more than once"));
            }
            workload.recorded(*position, &task, &opened);
        }
        (None, Evidence::Baseline(baseline)) => {
            baselines.insert(as_baseline, digest);
            workload.baseline_solved(as_baseline, baseline);
        }
        _ => check
            .faults
            .push(format!("task {task} is recorded as something else")),
    }
}

/// How an audit is done.
#[derive(Clone, Debug)]
pub struct AuditPlan {
    /// Share of the recorded runs, in [0, 1].
    pub share: f64,
    /// Seed of the draw.
    pub seed: u64,
    /// The grid file.
    pub grid: PathBuf,
    /// Tasks that the grid lists. Those of its search have no number that `worker run` knows
    /// and are not drawn; `worker run --minimum` computes one of them again.
    pub tasks: u64,
    /// The `worker` program.
    pub program: PathBuf,
    /// Processes at a time.
    pub processes: usize,
    /// This host.
    pub host: String,
}

/// Computes a random sample again, and every suspect.
///
/// # Errors
/// When a process cannot be started, or does not give its result.
pub async fn audit(records: &Records, how: &AuditPlan) -> Result<Audit, String> {
    let drawn = sample(records, how);
    let suspects: BTreeSet<&TaskId> = records
        .suspects
        .iter()
        .filter(|task| records.runs.contains_key(task))
        .collect();
    let folder = tempfile::tempdir().map_err(|e| format!("no folder for the audit: {e}"))?;
    let turns = Arc::new(Semaphore::new(how.processes.max(1)));
    let mut running = tokio::task::JoinSet::new();
    for task in drawn.iter().chain(&suspects).collect::<BTreeSet<_>>() {
        let (task, run) = (**task, records.runs[*task].clone());
        let (how, turns) = (how.clone(), Arc::clone(&turns));
        let file = folder.path().join(format!("{task}.json"));
        running.spawn(async move {
            let _turn = turns.acquire().await;
            again(&how, &task, &run, &file)
                .await
                .map(|same| (task, same))
        });
    }
    let mut different: BTreeMap<TaskId, String> = BTreeMap::new();
    while let Some(done) = running.join_next().await {
        let (task, same) = done.map_err(|e| e.to_string())??;
        if let Some(what) = same {
            different.insert(task, what);
        }
    }
    let audited = drawn.len() as u64;
    let mismatches = drawn.iter().filter(|t| different.contains_key(t)).count() as u64;
    let other = |task: &&&TaskId| records.runs[**task].host != how.host;
    Ok(Audit {
        share: how.share,
        seed: how.seed,
        audited,
        from_other_hosts: drawn.iter().filter(other).count() as u64,
        mismatches,
        mismatch_rate: if audited == 0 {
            0.0
        } else {
            mismatches as f64 / audited as f64
        },
        mismatch_rate_upper95: binomial_upper(mismatches, audited, CONFIDENCE),
        suspects: suspects.len() as u64,
        mismatched: different
            .iter()
            .take(NAMED)
            .map(|(task, what)| format!("task {task}: {what}"))
            .collect(),
    })
}

/// The runs with the smallest draws: a sample without replacement, the share
/// rounded up.
fn sample<'r>(records: &'r Records, how: &AuditPlan) -> BTreeSet<&'r TaskId> {
    let rng = Philox::new(how.seed);
    let mut draws: Vec<(u64, &TaskId)> = records
        .runs
        .iter()
        .filter(|(_, run)| run.position < how.tasks)
        .map(|(task, run)| {
            let (high, low) = ((run.position >> 32) as u32, run.position as u32);
            (rng.words(Purpose::Audit, 0, high, low)[0], task)
        })
        .collect();
    draws.sort_unstable();
    let count = (how.share * draws.len() as f64).ceil() as usize;
    draws.iter().take(count).map(|(_, task)| *task).collect()
}

/// Computes a task again; what differs, if something does.
async fn again(
    how: &AuditPlan,
    task: &TaskId,
    run: &Auditable,
    file: &Path,
) -> Result<Option<String>, String> {
    let output = Command::new(&how.program)
        .args(["run", "--task", &run.position.to_string(), "--grid"])
        .arg(&how.grid)
        .arg("--record")
        .arg(file)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| format!("{}: {e}", how.program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("task {task} cannot be computed again: {text}"));
    }
    let text = tokio::fs::read(file)
        .await
        .map_err(|e| format!("the record of task {task}: {e}"))?;
    let record: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    if record["task"] != task.to_string() {
        return Ok(Some("it is another task now".to_owned()));
    }
    let digest = |key: &str| {
        let hex = record[key].as_str().unwrap_or_default();
        bytes_of(hex).map(|bytes| <[u8; 32]>::from(Sha256::digest(bytes)))
    };
    if digest("evidence") != Some(run.digest) {
        return Ok(Some("its evidence comes out with other bits".to_owned()));
    }
    if run.baseline.is_some() && digest("baseline_evidence") != run.baseline {
        return Ok(Some("its baseline comes out with other bits".to_owned()));
    }
    Ok(None)
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |d: u8| char::from(d).to_digit(16);
    pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: u8) -> TaskId {
        TaskId([n; 32])
    }

    /// Number, task and digest.
    type Numbered = (u64, TaskId, [u8; 32]);

    /// Records 1 to 6 in commits of two.
    fn story() -> (Vec<Numbered>, Vec<Chain>) {
        let records: Vec<_> = (1..=6).map(|n| (n, task(n as u8), [n as u8; 32])).collect();
        let mut chain = Chain::default();
        let mut links = Vec::new();
        for (number, task, digest) in &records {
            chain = chain.with(task, digest);
            if number % 2 == 0 {
                links.push(chain);
            }
        }
        (records, links)
    }

    fn faults(records: &[Numbered], links: Vec<Chain>) -> (Vec<String>, Vec<TaskId>) {
        let mut check = ChainCheck::new(links);
        for (number, task, digest) in records {
            check.record(*number, *task, digest);
        }
        check.end();
        (check.faults, check.suspects.into_iter().collect())
    }

    #[test]
    fn an_honest_chain_comes_out() {
        let (records, links) = story();
        assert_eq!(faults(&records, links), (vec![], vec![]));
    }

    #[test]
    fn a_changed_record_breaks_its_own_link_and_no_other() {
        let (mut records, links) = story();
        records[2].2 = [99; 32];
        let (faults, suspects) = faults(&records, links);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("up to 4"), "{faults:?}");
        assert_eq!(suspects, [task(3), task(4)]);
    }

    #[test]
    fn a_removed_record_is_named_wherever_it_stood() {
        for gone in 0..6 {
            let (mut records, links) = story();
            records.remove(gone);
            let (faults, _) = faults(&records, links);
            let named = format!("record {} has been removed", gone + 1);
            assert!(faults.contains(&named), "{gone}: {faults:?}");
            let broken = faults.iter().filter(|f| f.contains("does not come out"));
            assert_eq!(broken.count(), 1, "{gone}: {faults:?}");
        }
    }

    #[test]
    fn an_added_record_is_in_no_link() {
        let (mut records, links) = story();
        records.push((7, task(7), [7; 32]));
        let (faults, suspects) = faults(&records, links);
        assert!(faults[0].contains("in no link"), "{faults:?}");
        assert_eq!(suspects, [task(7)]);
    }

    #[test]
    fn the_sample_has_the_size_of_the_share_and_follows_its_seed() {
        let mut records = Records::default();
        for n in 0..200u8 {
            let run = Auditable {
                position: u64::from(n),
                digest: [n; 32],
                baseline: None,
                host: String::new(),
            };
            records.runs.insert(task(n), run);
        }
        let plan = |share, seed| AuditPlan {
            share,
            seed,
            grid: PathBuf::new(),
            tasks: u64::MAX,
            program: PathBuf::new(),
            processes: 1,
            host: String::new(),
        };
        assert_eq!(sample(&records, &plan(0.0, 0)).len(), 0);
        assert_eq!(sample(&records, &plan(0.101, 0)).len(), 21);
        assert_eq!(sample(&records, &plan(1.0, 0)).len(), 200);
        let drawn = sample(&records, &plan(0.1, 1));
        assert_eq!(drawn, sample(&records, &plan(0.1, 1)));
        assert_ne!(drawn, sample(&records, &plan(0.1, 2)));
    }

    #[test]
    fn hexadecimal_is_read_back() {
        assert_eq!(bytes_of("00ff1a"), Some(vec![0, 255, 26]));
        assert_eq!(bytes_of("0"), None);
        assert_eq!(bytes_of("0g"), None);
    }
}
