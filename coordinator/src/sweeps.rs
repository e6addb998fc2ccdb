//! The sweeps of a standing coordinator: those it carries out, and what became
//! of the others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use common::grid::Grid;
use common::protocol::SweepNumber;
use common::summary::Summary;
use tokio::sync::oneshot;

use crate::at_rest::{self, Kept};
use crate::core::{Control, Core, Denied, Done, NewSweep, SweepState};
use crate::driver::{Ended, Handle, Input};
use crate::export::{self, Account};
use crate::progress::Moment;
use crate::run::{default_folder, host_name};
use crate::store::{Store, StoreError, StoredSweep};
use crate::submission::{self, KeptError};
use crate::sweep::{DataTable, GridSweep, KeepMinima};

/// A sweep as others see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What is stored of it.
    pub stored: StoredSweep,
    /// How far it is.
    pub moment: Moment,
}

/// Whether a sweep is being carried out.
#[derive(Clone, Debug)]
enum Life {
    Carried,
    /// Over in this life of the program.
    Over(Box<Moment>),
}

#[derive(Debug)]
struct Entry {
    stored: StoredSweep,
    life: Life,
}

/// All sweeps of a store.
#[derive(Debug)]
pub struct Sweeps<S> {
    handle: Handle,
    store: Arc<S>,
    /// Where results go: a folder for each sweep.
    out: PathBuf,
    keep: KeepMinima,
    entries: Mutex<BTreeMap<SweepNumber, Entry>>,
}

impl<S: Store> Sweeps<S> {
    /// No sweep yet.
    pub fn new(handle: Handle, store: Arc<S>, out: PathBuf, keep: KeepMinima) -> Arc<Self> {
        Arc::new(Self {
            handle,
            store,
            out,
            keep,
            entries: Mutex::new(BTreeMap::new()),
        })
    }

    /// The store.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// The driver.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<SweepNumber, Entry>> {
        // No panic elsewhere can leave the map half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries on with every sweep of the store that is not over; returns how
    /// many. What cannot be carried on is logged and left as it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn carry_on(self: &Arc<Self>) -> Result<usize, StoreError> {
        let mut carried = 0;
        for stored in self.store.sweeps().await? {
            if !matches!(stored.state, SweepState::Running | SweepState::Paused) {
                continue;
            }
            match submission::reopen(self.store.as_ref(), &stored).await {
                Ok((grid, data)) => {
                    self.carry_out(stored, grid, data);
                    carried += 1;
                }
                Err(KeptError::Store(error)) => return Err(error),
                Err(error) => tracing::error!(%error, "a sweep is not carried on"),
            }
        }
        Ok(carried)
    }

    /// Adds a grid and carries it out. One that is known goes on as it is; one
    /// that was cancelled is taken up again.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn add(
        self: &Arc<Self>,
        grid: Grid,
        data: DataTable,
        priority: i32,
    ) -> Result<StoredSweep, StoreError> {
        let stored = submission::add(self.store.as_ref(), &grid, data.contents(), priority).await?;
        let number = stored.number;
        let carried = self
            .entries()
            .get(&number)
            .is_some_and(|e| matches!(e.life, Life::Carried));
        if !carried {
            let again = stored.state == SweepState::Cancelled;
            self.carry_out(stored.clone(), Arc::new(grid), data);
            if again {
                // Lost only with the driver, at the end of the process.
                let _ = self.handle.control(Control::Resume(number)).await;
            }
        }
        Ok(stored)
    }

    fn carry_out(self: &Arc<Self>, stored: StoredSweep, grid: Arc<Grid>, data: DataTable) {
        let number = stored.number;
        let workload = GridSweep::new(grid, data, self.keep);
        let (ended, end) = oneshot::channel();
        let new = NewSweep {
            number,
            priority: stored.text.priority,
            paused: stored.state == SweepState::Paused,
            workload: Box::new(workload),
        };
        self.entries().insert(
            number,
            Entry {
                stored: stored.clone(),
                life: Life::Carried,
            },
        );
        self.handle.send(Input::Sweep { new, ended });
        let sweeps = Arc::clone(self);
        let began = Instant::now();
        tokio::spawn(async move {
            if let Ok(ended) = end.await {
                sweeps.conclude(stored, ended, began).await;
            }
        });
    }

    /// Writes the files of a sweep that is over.
    async fn conclude(&self, mut stored: StoredSweep, ended: Ended, began: Instant) {
        let Ok(mut workload) = ended.workload.into_any().downcast::<GridSweep>() else {
            tracing::error!("a sweep came back as something else");
            return;
        };
        if ended.state == SweepState::Cancelled {
            workload.cancel_rest();
        }
        stored.state = ended.state;
        let summary = workload.summary(ended.duplicates);
        let account = Account {
            command: std::env::args().collect(),
            host: host_name(),
            seconds: began.elapsed().as_secs_f64(),
            finished: ended.state == SweepState::Finished,
        };
        let folder = default_folder(&self.out, &stored);
        let store = self.store.as_ref();
        match export::write_all(&folder, store, &stored, &workload, &summary, &account).await {
            Ok(()) => tracing::info!(folder = %folder.display(), "a sweep is over"),
            Err(error) => tracing::error!(%error, "the results of a sweep cannot be written"),
        }
        let moment = Box::new(Moment::of_summary(&summary));
        self.entries().insert(
            stored.number,
            Entry {
                stored,
                life: Life::Over(moment),
            },
        );
    }

    /// Every sweep, in the order of their numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn all(&self) -> Result<Vec<Seen>, StoreError> {
        let mut all = Vec::new();
        for stored in self.store.sweeps().await? {
            all.push(self.seen(stored).await);
        }
        Ok(all)
    }

    /// One sweep; `None` if there is none of that number.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn one(&self, number: SweepNumber) -> Result<Option<Seen>, StoreError> {
        let sweeps = self.store.sweeps().await?;
        match sweeps.into_iter().find(|s| s.number == number) {
            Some(stored) => Ok(Some(self.seen(stored).await)),
            None => Ok(None),
        }
    }

    async fn seen(&self, mut stored: StoredSweep) -> Seen {
        let number = stored.number;
        let look = move |core: &Core| {
            let status = core.status();
            let own = status.sweeps.into_iter().find(|s| s.number == number)?;
            Some((own.state, own.priority, Moment::of(core, number)?))
        };
        if let Some(Some((state, priority, moment))) = self.handle.look(look).await {
            stored.state = state;
            stored.text.priority = priority;
            return Seen { stored, moment };
        }
        let over = self.entries().get(&number).map(|e| e.life.clone());
        let moment = match over {
            Some(Life::Over(moment)) => *moment,
            // Over before this process began, or just ending.
            Some(Life::Carried) | None => Moment::default(),
        };
        Seen { stored, moment }
    }

    /// What is recorded of a sweep so far.
    ///
    /// # Errors
    /// As text for people.
    pub async fn summary(&self, number: SweepNumber) -> Result<Option<Summary>, String> {
        let live = self.handle.look(move |core: &Core| {
            let status = core.status();
            let own = status.sweeps.iter().find(|s| s.number == number)?;
            let grid = core.workload(number)?.as_any().downcast_ref::<GridSweep>()?;
            Some(grid.summary(own.duplicates))
        });
        if let Some(Some(summary)) = live.await {
            return Ok(Some(summary));
        }
        let Some(kept) = self.kept(number).await? else {
            return Ok(None);
        };
        at_rest::summary(self.store.as_ref(), kept)
            .await
            .map(Some)
            .map_err(|(_, message)| message)
    }

    /// A sweep with its grid, from the store.
    ///
    /// # Errors
    /// As text for people.
    pub async fn kept(&self, number: SweepNumber) -> Result<Option<Kept>, String> {
        let sweeps = self.store.sweeps().await.map_err(|e| e.to_string())?;
        let Some(stored) = sweeps.into_iter().find(|s| s.number == number) else {
            return Ok(None);
        };
        let (grid, data) = submission::reopen(self.store.as_ref(), &stored)
            .await
            .map_err(|e| e.to_string())?;
        Ok(Some(Kept { stored, grid, data }))
    }

    /// Changes a sweep. Trying tasks of a sweep again that is over carries it
    /// out again.
    ///
    /// # Errors
    /// What the scheduler says, as text for people.
    pub async fn change(self: &Arc<Self>, control: Control) -> Result<Done, String> {
        if let Control::Retry(number, _) = &control {
            let number = *number;
            let carried = |core: &Core| core.workload(number).is_some();
            if self.handle.look(carried).await == Some(false)
                && let Some(kept) = self.kept(number).await?
            {
                return self.retry_over(kept, control).await;
            }
        }
        self.control(control).await
    }

    async fn control(&self, control: Control) -> Result<Done, String> {
        match self.handle.control(control).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(denied)) => Err(denied.to_string()),
            None => Err("the coordinator is ending".to_owned()),
        }
    }

    async fn retry_over(
        self: &Arc<Self>,
        kept: Kept,
        control: Control,
    ) -> Result<Done, String> {
        if kept.stored.state == SweepState::Cancelled {
            return Err(Denied::Cancelled(kept.stored.number).to_string());
        }
        let Control::Retry(number, tasks) = control else {
            return self.control(control).await;
        };
        let records = at_rest::forget(self.store.as_ref(), number, tasks).await?;
        if records.is_empty() {
            return Ok(Done { tasks: 0 });
        }
        let mut stored = kept.stored;
        // Paused until the failures are forgotten, so that the walk does not meet them first.
        stored.state = SweepState::Running;
        let tasks = records.len() as u64;
        self.handle.persist_taken_up_again(number, records).await?;
        self.carry_out(stored, kept.grid, kept.data);
        Ok(Done { tasks })
    }
}
