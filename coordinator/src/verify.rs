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
//! *Audit*: a random sample of the runs is computed again, by other workers than
//! those that recorded them ([`crate::audit`]), and the encoded evidence is
//! compared bit for bit, that of its baseline too. Runs in a broken link are all
//! computed again, which names the record that was changed. With no mismatch in
//! n, the rate is at most the Clopper–Pearson bound with 95 % confidence.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::ids::{BaselineId, TaskId, to_hex};
use common::math::special::binomial_upper;
use common::pb::decode_evidence;
use common::protocol::FailureKind;
use common::record::Evidence;
use common::rng::{Philox, Purpose};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::at_rest::{self, Aside, Kept, Plan};
use crate::audit::Outcome;
use crate::core::{Opened, SweepState};
use crate::run::{Failure, store_failure};
use crate::store::{Chain, Store, StoreError, StoredResult, StoredSweep};
use crate::sweep::{GridSweep, KeepMinima};
use crate::workload::Workload;

/// Results that are read at a time.
const PAGE: u32 = 10_000;
/// Records that are named of each kind.
const NAMED: usize = 100;
/// Confidence of the bound on the mismatch rate.
const CONFIDENCE: f64 = 0.95;

/// What the records say of themselves.
#[derive(Debug, Serialize, Deserialize)]
pub struct Completeness {
    /// Distinct tasks of the grid.
    pub planned: u64,
    /// Tasks of the grid that are equal to others of it.
    pub duplicates: u64,
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
    /// Of them, computed again on another host than the one that recorded them. Always by another
    /// worker.
    pub by_other_hosts: u64,
    /// Of them, not computed again, for the worker failed at it.
    pub not_computed: u64,
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
    baseline: Option<(BaselineId, [u8; 32])>,
    host: String,
}

/// A record that is to be computed again, as it travels from a live coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// Its task.
    pub task: String,
    /// Where the task stands.
    pub position: u64,
    /// SHA-256 of the recorded evidence.
    pub evidence_sha256: String,
    /// The baseline and SHA-256 of its evidence, if that is recorded.
    pub baseline: Option<(String, String)>,
    /// Who computed it.
    pub host: String,
    /// Whether it is computed again because of its link alone.
    pub suspect: bool,
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

/// Reads all records and sets them beside the plan and the chain. In a `live` store records come
/// while they are read: those behind the last link at the beginning are left out.
///
/// # Errors
/// When the store cannot be read.
pub async fn completeness<S: Store>(
    store: &S,
    stored: &StoredSweep,
    workload: &mut GridSweep,
    live: bool,
) -> Result<(Completeness, Records), StoreError> {
    let plan = Plan::of(workload);
    let links = store.links().await?;
    let last_link = links.last().map_or(0, |link| link.results);
    let end = if live { last_link } else { u64::MAX };
    let mut check = ChainCheck::new(links);
    let mut records = Records::default();
    let mut baselines: HashMap<BaselineId, [u8; 32]> = HashMap::new();
    let mut total = 0;
    let mut after = 0;
    loop {
        let page = store.results(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.number;
        for result in page.into_iter().filter(|result| result.number <= end) {
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
            run.baseline = known.map(|digest| (*baseline, *digest));
            if known.is_none() {
                let fault = format!("run {task} is recorded, its baseline {baseline} is not");
                check.faults.push(fault);
            }
        }
    }
    let mut aside = Aside::default();
    for failure in store.failures(stored.number).await? {
        if failure.set_aside && !baselines.contains_key(&BaselineId(failure.task.0)) {
            aside.insert(failure.task);
        }
    }
    for (position, task, baseline) in &plan.order {
        if !records.runs.contains_key(task) && aside.has_failed(task, baseline) {
            workload.set_aside(*position, task, FailureKind::Crash);
        }
    }
    if stored.state == SweepState::Cancelled {
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
    let finished = stored.state == SweepState::Finished;
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
        duplicates: plan.duplicates,
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

/// The same of a sweep with its grid; also the sweep, with what its search decided.
///
/// # Errors
/// When the store cannot be read.
pub async fn of_kept<S: Store>(
    store: &S,
    kept: Kept,
    live: bool,
) -> Result<(Completeness, Records, GridSweep), Failure> {
    let searches = kept.grid.search().is_some();
    let mut sweep = GridSweep::new(kept.grid, kept.data, KeepMinima::None);
    if searches {
        // What the search decided follows from the results: its tasks are planned ones, too.
        at_rest::replay(store, &kept.stored, &mut sweep).await?;
    }
    let found = completeness(store, &kept.stored, &mut sweep, live).await;
    let (completeness, records) = found.map_err(|e| store_failure(&e))?;
    Ok((completeness, records, sweep))
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
                host: result.host.to_string(),
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

impl Records {
    /// A random share of the recorded runs, and every suspect; tasks from position `before` on
    /// are not drawn.
    pub fn draw(&self, share: f64, seed: u64, before: u64) -> Vec<Drawn> {
        let drawn = sample(self, share, seed, before);
        let suspects = self.suspects.iter().filter(|task| !drawn.contains(task));
        let all = drawn.iter().map(|task| (*task, false));
        let all = all.chain(suspects.map(|task| (task, true)));
        let known = all.filter_map(|(task, suspect)| {
            let run = self.runs.get(task).filter(|run| run.position < before)?;
            let baseline = run.baseline.as_ref();
            Some(Drawn {
                task: task.to_string(),
                position: run.position,
                evidence_sha256: to_hex(&run.digest),
                baseline: baseline.map(|(id, digest)| (id.to_string(), to_hex(digest))),
                host: run.host.clone(),
                suspect,
            })
        });
        known.collect()
    }
}

impl Audit {
    /// Sets what was computed again beside what is recorded.
    pub fn new(share: f64, seed: u64, drawn: &[Drawn], outcome: &Outcome) -> Self {
        let mut mismatched = Vec::new();
        let (mut audited, mut mismatches, mut by_other_hosts) = (0, 0, 0);
        // Who fails at a task does not speak for it.
        let (mut not_computed, mut doubtful) = (0, 0);
        for record in drawn {
            let found = compare(record, outcome);
            audited += u64::from(!record.suspect);
            match found {
                Found::Failed => {
                    not_computed += 1;
                    doubtful += u64::from(!record.suspect);
                }
                Found::Equal { elsewhere } => {
                    by_other_hosts += u64::from(elsewhere && !record.suspect);
                }
                Found::Different { elsewhere, what } => {
                    by_other_hosts += u64::from(elsewhere && !record.suspect);
                    mismatches += u64::from(!record.suspect);
                    mismatched.push(format!("task {}: {what}", record.task));
                }
            }
        }
        mismatched.sort_unstable();
        mismatched.truncate(NAMED);
        Self {
            share,
            seed,
            audited,
            by_other_hosts,
            not_computed,
            mismatches,
            mismatch_rate: if audited == 0 {
                0.0
            } else {
                mismatches as f64 / audited as f64
            },
            mismatch_rate_upper95: binomial_upper(mismatches + doubtful, audited, CONFIDENCE),
            suspects: drawn.iter().filter(|record| record.suspect).count() as u64,
            mismatched,
        }
    }
}

/// What became of a record that was to be computed again.
enum Found {
    Equal { elsewhere: bool },
    Different { elsewhere: bool, what: &'static str },
    Failed,
}

fn compare(record: &Drawn, outcome: &Outcome) -> Found {
    let of = |id: &str| {
        let id: Option<TaskId> = id.parse().ok();
        id.and_then(|id| outcome.computed.get(&id))
    };
    let failed = || {
        let id: Option<TaskId> = record.task.parse().ok();
        id.is_some_and(|id| outcome.failed.contains_key(&id))
    };
    let Some(run) = of(&record.task) else {
        if failed() {
            return Found::Failed;
        }
        // The task of its position is another one than when it was recorded.
        let what = "it is another task now";
        return Found::Different {
            elsewhere: false,
            what,
        };
    };
    let elsewhere = run.host != record.host;
    if to_hex(&run.digest) != record.evidence_sha256 {
        let what = "its evidence comes out with other bits";
        return Found::Different { elsewhere, what };
    }
    if let Some((id, digest)) = &record.baseline
        && of(id).is_none_or(|found| to_hex(&found.digest) != *digest)
    {
        let what = "its baseline comes out with other bits";
        return Found::Different { elsewhere, what };
    }
    Found::Equal { elsewhere }
}

/// The runs with the smallest draws: a sample without replacement, the share
/// rounded up.
fn sample(records: &Records, share: f64, seed: u64, before: u64) -> BTreeSet<&TaskId> {
    let rng = Philox::new(seed);
    let mut draws: Vec<(u64, &TaskId)> = records
        .runs
        .iter()
        .filter(|(_, run)| run.position < before)
        .map(|(task, run)| {
            let (high, low) = ((run.position >> 32) as u32, run.position as u32);
            (rng.words(Purpose::Audit, 0, high, low)[0], task)
        })
        .collect();
    draws.sort_unstable();
    let count = (share * draws.len() as f64).ceil() as usize;
    draws.iter().take(count).map(|(_, task)| *task).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Computed;

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
        let drawn = |share, seed| records.draw(share, seed, u64::MAX);
        assert_eq!(drawn(0.0, 0).len(), 0);
        assert_eq!(drawn(0.101, 0).len(), 21);
        assert_eq!(drawn(1.0, 0).len(), 200);
        assert_eq!(drawn(0.1, 1), drawn(0.1, 1));
        assert_ne!(drawn(0.1, 1), drawn(0.1, 2));
        assert_eq!(records.draw(1.0, 0, 50).len(), 50);
    }

    #[test]
    fn what_comes_out_otherwise_or_not_at_all_is_told_apart() {
        let digest = |n: u8| [n; 32];
        let record = |n: u8, suspect| Drawn {
            task: task(n).to_string(),
            position: u64::from(n),
            evidence_sha256: to_hex(&digest(n)),
            baseline: Some((BaselineId([9; 32]).to_string(), to_hex(&digest(90)))),
            host: "there".to_owned(),
            suspect,
        };
        let computed = |n: u8, host: &str| Computed {
            digest: digest(n),
            host: host.to_owned(),
        };
        let mut outcome = Outcome::default();
        outcome.computed.insert(task(9), computed(90, "here"));
        outcome.computed.insert(task(1), computed(1, "here"));
        outcome.computed.insert(task(2), computed(99, "there"));
        outcome.computed.insert(task(4), computed(98, "here"));
        outcome.failed.insert(task(3), FailureKind::Crash);
        let drawn: Vec<Drawn> = (1..=3).map(|n| record(n, false)).collect();
        let drawn = [drawn, vec![record(4, true)]].concat();
        let audit = Audit::new(0.5, 0, &drawn, &outcome);
        assert_eq!((audit.audited, audit.suspects), (3, 1));
        assert_eq!((audit.mismatches, audit.not_computed), (1, 1));
        assert_eq!(audit.by_other_hosts, 1);
        assert_eq!(audit.mismatched.len(), 2, "{:?}", audit.mismatched);
        // 1 − 0.05^(1/3) would be the bound without any; two of three count here.
        assert!(audit.mismatch_rate_upper95 > 0.8);
        outcome.computed.insert(task(9), computed(91, "here"));
        let audit = Audit::new(0.5, 0, &drawn[..1], &outcome);
        assert!(audit.mismatched[0].contains("baseline"), "{audit:?}");
    }
}
