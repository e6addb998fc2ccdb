//! Recorded runs computed again, by workers that connect.
//!
//! An audit is a small coordinator of its own: a store in a temporary folder,
//! a sweep that lists the runs in question, and workers: processes of this
//! machine, and any that connect from others. They are other workers than those
//! that recorded the runs, and know nothing of the records. What comes out is
//! compared with them, bit for bit, by [`crate::verify`]; the store that is
//! audited is not touched.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::ids::{BaselineId, TaskId};
use common::protocol::FailureKind;
use common::record::{BaselineEvidence, Evidence};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use crate::cli::{Settings, code};
use crate::core::{Core, NewSweep, Opened, TakeUp};
use crate::driver::{self, Ended, Input};
use crate::ground::Ground;
use crate::local;
use crate::run::{self, Failure, store_failure};
use crate::store::{Store, StoreError};
use crate::submission;
use crate::sweep::GridSweep;
use crate::workload::{Planned, Workload};

/// Results that are read at a time.
const PAGE: u32 = 10_000;
/// Time between two looks at the local workers.
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// Some tasks of a sweep, of which nothing is gathered.
#[derive(Debug)]
struct Again {
    sweep: GridSweep,
    positions: Vec<u64>,
    failed: BTreeMap<TaskId, FailureKind>,
}

impl Workload for Again {
    fn len(&self) -> u64 {
        self.positions.len() as u64
    }

    fn task(&mut self, position: u64) -> Planned {
        self.sweep.task(self.positions[position as usize])
    }

    fn baseline_solved(&mut self, _: BaselineId, _: &BaselineEvidence) {}

    fn wants_theta(&self, _: u64, _: &TaskId, _: &Evidence) -> bool {
        false
    }

    fn recorded(&mut self, _: u64, _: &TaskId, _: &Opened) -> Vec<TaskId> {
        Vec::new()
    }

    fn set_aside(&mut self, _: u64, id: &TaskId, kind: FailureKind) {
        self.failed.insert(*id, kind);
    }

    fn taken_up_again(&mut self, _: u64, id: &TaskId) {
        self.failed.remove(id);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What came out of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    /// SHA-256 of its encoded evidence.
    pub digest: [u8; 32],
    /// Where it was computed.
    pub host: String,
}

/// What came out of all of them, baselines included.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By task.
    pub computed: HashMap<TaskId, Computed>,
    /// Tasks that could not be computed.
    pub failed: BTreeMap<TaskId, FailureKind>,
}

/// Computes the tasks at some positions of a sweep. The store of the settings is the audit's own.
///
/// # Errors
/// When nobody computes, or somebody wants the program to end.
pub async fn compute(
    settings: &Settings,
    sweep: GridSweep,
    positions: Vec<u64>,
) -> Result<Outcome, Failure> {
    if positions.is_empty() {
        return Ok(Outcome::default());
    }
    let ground = Ground::open(settings).await?;
    let store = Arc::clone(&ground.store);
    let failed = |error: StoreError| store_failure(&error);
    let grid = Arc::clone(sweep.grid());
    // Workers fetch the files of the grid from this store.
    let stored = submission::add(store.as_ref(), &grid, sweep.contents(), 0)
        .await
        .map_err(failed)?;
    let (notices, mut inbox) = mpsc::unbounded_channel();
    // The log has them.
    tokio::spawn(async move { while inbox.recv().await.is_some() {} });
    let (handle, driver) = driver::start(
        run::config(store.as_ref()),
        Arc::clone(&store),
        notices,
        None,
    );
    ground.stage.lead(handle.clone(), Arc::clone(&store));
    let (ended, end) = oneshot::channel();
    let again = Again {
        sweep,
        positions,
        failed: BTreeMap::new(),
    };
    let new = NewSweep {
        number: stored.number,
        priority: 0,
        paused: false,
        take_up: TakeUp::Nothing,
        workload: Box::new(again),
    };
    handle.send(Input::Sweep { new, ended });
    let local = ground.start_local(settings);
    let outcome = tokio::select! {
        ended = end => ended.map_err(|_| (code::INTERNAL, "the audit was given up".to_owned())),
        () = run::interrupted() => Err((code::INTERRUPTED, "interrupted".to_owned())),
        () = nobody(&handle, local.as_ref()) => {
            let message = "no local worker stays alive; SWEEP_LOG=info shows why";
            Err((code::INTERNAL, message.to_owned()))
        }
    };
    run::dismiss(&handle).await;
    if let Some(local) = local {
        local.stop().await;
    }
    ground.close();
    driver.abort();
    let _ = driver.await;
    let computed = computed(store.as_ref()).await.map_err(failed)?;
    let failed = failures(outcome?);
    Ok(Outcome { computed, failed })
}

fn failures(ended: Ended) -> BTreeMap<TaskId, FailureKind> {
    let again = ended.workload.into_any().downcast::<Again>();
    again.map(|again| again.failed).unwrap_or_default()
}

/// Comes when the local workers cannot live and no other one is there.
async fn nobody(handle: &driver::Handle, local: Option<&local::Running>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if !local.is_some_and(local::Running::is_hopeless) {
            continue;
        }
        let attached = |core: &Core| core.status().workers.iter().any(|w| w.attached);
        if handle.look(attached).await == Some(false) {
            return;
        }
    }
}

/// All results of the audit's store.
async fn computed<S: Store>(store: &S) -> Result<HashMap<TaskId, Computed>, StoreError> {
    let mut computed = HashMap::new();
    let mut after = 0;
    loop {
        let page = store.results(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(computed);
        };
        after = last.number;
        for result in page {
            let found = Computed {
                digest: Sha256::digest(&result.evidence).into(),
                host: result.host.to_string(),
            };
            computed.insert(result.task, found);
        }
    }
}
