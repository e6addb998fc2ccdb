//! The sweeps of a standing coordinator: those it carries out, and what became
//! of the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use common::grid::Grid;
use common::ids::TaskId;
use common::protocol::SweepNumber;
use common::summary::Summary;
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;

use crate::at_rest::{self, Kept};
use crate::core::{Control, Core, Denied, Done, NewSweep, SweepState, TakeUp, Whereabouts};
use crate::driver::{Ended, Handle, Input};
use crate::export::{self, Account};
use crate::notify::Notices;
use crate::pace::Paces;
use crate::progress::Moment;
use crate::run::{default_folder, host_name};
use crate::store::{Address, Store, StoreError, StoredSweep};
use crate::submission::{self, KeptError};
use crate::sweep::{DataTable, GridSweep, KeepMinima};

/// Time between two looks at how many tasks are done.
const LOOK: Duration = Duration::from_secs(1);

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

/// All sweeps of a store.
#[derive(Debug)]
pub struct Sweeps<S> {
    handle: Handle,
    store: Arc<S>,
    /// Its address: results go to a folder for each sweep in it.
    address: Address,
    keep: KeepMinima,
    /// Who is told when a sweep is over.
    notices: Option<Arc<Notices>>,
    paces: Paces,
    /// How often a sweep was carried out, for the first time or again.
    begun: AtomicU64,
    lives: Mutex<BTreeMap<SweepNumber, Life>>,
    /// Told whenever the files of a sweep that is over are written.
    concluded: Notify,
}

/// Looks at the active sweeps once a second, for as long as somebody has them.
async fn watch<S: Store>(sweeps: Weak<Sweeps<S>>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(sweeps) = sweeps.upgrade() else {
            return;
        };
        let moments = |core: &Core| -> BTreeMap<SweepNumber, Moment> {
            let numbers = core.active().collect::<Vec<_>>();
            let moment = |number| Some((number, Moment::of(core, number)?));
            numbers.into_iter().filter_map(moment).collect()
        };
        let Some(moments) = sweeps.handle.look(moments).await else {
            return;
        };
        let now = Instant::now();
        for (number, moment) in &moments {
            sweeps.paces.saw(now, *number, moment);
        }
        sweeps.paces.keep(|number| moments.contains_key(&number));
    }
}

impl<S: Store> Sweeps<S> {
    /// No sweep yet. Must be called on a runtime: the sweeps' pace is looked at once a second.
    pub fn new(
        handle: Handle,
        store: Arc<S>,
        address: Address,
        keep: KeepMinima,
        notices: Option<Arc<Notices>>,
    ) -> Arc<Self> {
        let sweeps = Arc::new(Self {
            handle,
            store,
            address,
            keep,
            notices,
            paces: Paces::default(),
            begun: AtomicU64::new(0),
            lives: Mutex::new(BTreeMap::new()),
            concluded: Notify::new(),
        });
        tokio::spawn(watch(Arc::downgrade(&sweeps)));
        sweeps
    }

    /// The store.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// How often a sweep was begun or taken up again: while this stays, what is over stays as it is.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// How fast the active ones go.
    pub fn paces(&self) -> &Paces {
        &self.paces
    }

    /// The driver.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    fn lives(&self) -> std::sync::MutexGuard<'_, BTreeMap<SweepNumber, Life>> {
        // No panic elsewhere can leave the map half changed.
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
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
                    self.carry_out(stored, grid, data, TakeUp::Nothing);
                    carried += 1;
                }
                Err(KeptError::Store(error)) => return Err(error),
                Err(error) => tracing::error!(%error, "a sweep is not carried on"),
            }
        }
        Ok(carried)
    }

    /// Adds a grid and carries it out. One that is known goes on as it is; one
    /// that was cancelled is taken up again, once its files are written.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn add(
        self: &Arc<Self>,
        grid: Grid,
        data: DataTable,
        priority: i32,
    ) -> Result<StoredSweep, StoreError> {
        let added = submission::add(self.store.as_ref(), &grid, data.contents(), priority).await?;
        let number = added.number;
        self.concluded(number).await;
        // Meanwhile it may have come to another state.
        let now = self.store.sweeps().await?;
        let now = now.into_iter().find(|stored| stored.number == number);
        let stored = now.unwrap_or(added);
        let carried = self
            .lives()
            .get(&number)
            .is_some_and(|life| matches!(life, Life::Carried));
        if !carried {
            let again = stored.state == SweepState::Cancelled;
            self.carry_out(stored.clone(), Arc::new(grid), data, TakeUp::Nothing);
            if again {
                // Lost only with the driver, at the end of the process.
                let _ = self.handle.control(Control::Resume(number)).await;
            }
        }
        Ok(stored)
    }

    /// Waits while a sweep is over, or about to be, and its files are still to be written.
    async fn concluded(&self, number: SweepNumber) {
        loop {
            // Hears everything from here on.
            let concluded = self.concluded.notified();
            let carried = matches!(self.lives().get(&number), Some(Life::Carried));
            let active = move |core: &Core| {
                let state = core.glance(number).map(|own| own.state);
                matches!(state, Some(SweepState::Running | SweepState::Paused))
            };
            // Without a driver nothing comes to an end any more.
            if !carried || self.handle.look(active).await != Some(false) {
                return;
            }
            concluded.await;
        }
    }

    fn carry_out(
        self: &Arc<Self>,
        stored: StoredSweep,
        grid: Arc<Grid>,
        data: DataTable,
        take_up: TakeUp,
    ) {
        let number = stored.number;
        self.begun.fetch_add(1, Ordering::Relaxed);
        let workload = GridSweep::new(grid, data, self.keep);
        let (ended, end) = oneshot::channel();
        let new = NewSweep {
            number,
            priority: stored.text.priority,
            paused: stored.state == SweepState::Paused,
            take_up,
            workload: Box::new(workload),
        };
        self.lives().insert(number, Life::Carried);
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
            self.lives().remove(&stored.number);
            self.concluded.notify_waiters();
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
        let folder = default_folder(&self.address, &stored);
        let store = self.store.as_ref();
        match export::write_all(&folder, store, &stored, &mut workload, &summary, &account).await {
            Ok(without) => tracing::info!(
                folder = %folder.display(),
                minima_without_parameters = without.len(),
                "a sweep is over"
            ),
            Err(error) => tracing::error!(%error, "the results of a sweep cannot be written"),
        }
        let moment = Box::new(Moment::of_summary(&summary));
        self.lives().insert(stored.number, Life::Over(moment));
        self.concluded.notify_waiters();
        if let Some(notices) = &self.notices {
            notices.sweep_over(&stored, stored.state, &summary).await;
        }
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
            let own = core.glance(number)?;
            Some((own.state, own.priority, Moment::of(core, number)?))
        };
        if let Some(Some((state, priority, mut moment))) = self.handle.look(look).await {
            self.paces.tell(number, &mut moment);
            stored.state = state;
            stored.text.priority = priority;
            return Seen { stored, moment };
        }
        let over = self.lives().get(&number).cloned();
        let moment = match over {
            Some(Life::Over(moment)) => *moment,
            // Over before this process began, or just ending.
            Some(Life::Carried) | None => self.moment_at_rest(&stored).await,
        };
        Seen { stored, moment }
    }

    /// How far a sweep came that is over, from the store; read once in a life of the program. Empty
    /// if the sweep goes on, or cannot be read.
    async fn moment_at_rest(&self, stored: &StoredSweep) -> Moment {
        if matches!(stored.state, SweepState::Running | SweepState::Paused) {
            return Moment::default();
        }
        let store = self.store.as_ref();
        let summary = match submission::reopen(store, stored).await {
            Ok((grid, data)) => {
                let stored = stored.clone();
                let kept = Kept { stored, grid, data };
                let summary = at_rest::summary(store, kept).await;
                summary.map_err(|(_, message)| message)
            }
            Err(error) => Err(error.to_string()),
        };
        match summary {
            Ok(summary) => {
                let moment = Moment::of_summary(&summary);
                // One that was taken up meanwhile stays carried.
                let over = || Life::Over(Box::new(moment.clone()));
                self.lives().entry(stored.number).or_insert_with(over);
                moment
            }
            Err(error) => {
                let sweep = stored.number.0;
                tracing::warn!(sweep, error, "what became of a sweep cannot be read");
                Moment::default()
            }
        }
    }

    /// How far a sweep came that is over in this life of the program.
    pub fn over(&self, number: SweepNumber) -> Option<Moment> {
        match self.lives().get(&number) {
            Some(Life::Over(moment)) => Some(moment.as_ref().clone()),
            Some(Life::Carried) | None => None,
        }
    }

    /// What is recorded of a sweep so far.
    ///
    /// # Errors
    /// As text for people.
    pub async fn summary(&self, number: SweepNumber) -> Result<Option<Summary>, String> {
        let live = self.handle.look(move |core: &Core| {
            let status = core.status();
            let own = status.sweeps.iter().find(|s| s.number == number)?;
            let grid = core
                .workload(number)?
                .as_any()
                .downcast_ref::<GridSweep>()?;
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

    /// Where those of these tasks are that are live.
    pub async fn whereabouts(&self, tasks: Vec<TaskId>) -> HashMap<TaskId, Whereabouts> {
        let look = move |core: &Core| {
            let at = |task: TaskId| Some((task, core.whereabouts(&task)?));
            tasks.into_iter().filter_map(at).collect()
        };
        self.handle.look(look).await.unwrap_or_default()
    }

    /// Changes a sweep. Trying tasks of a sweep again that is over carries it
    /// out again.
    ///
    /// # Errors
    /// What the scheduler says, as text for people.
    pub async fn change(self: &Arc<Self>, control: Control) -> Result<Done, String> {
        if let Control::Retry(number, tasks) = &control {
            let number = *number;
            self.concluded(number).await;
            let over = move |core: &Core| core.workload(number).is_none();
            if self.handle.look(over).await == Some(true)
                && let Some(kept) = self.kept(number).await?
            {
                let take_up = match tasks {
                    None => TakeUp::All,
                    Some(tasks) => TakeUp::These(tasks.iter().copied().collect()),
                };
                return self.retry_over(kept, take_up).await;
            }
        }
        match self.handle.control(control).await {
            Some(Ok(done)) => Ok(done),
            Some(Err(denied)) => Err(denied.to_string()),
            None => Err("the coordinator is ending".to_owned()),
        }
    }

    async fn retry_over(self: &Arc<Self>, kept: Kept, take_up: TakeUp) -> Result<Done, String> {
        let number = kept.stored.number;
        if kept.stored.state == SweepState::Cancelled {
            return Err(Denied::Cancelled(number).to_string());
        }
        let failures = self.store.failures(number).await;
        let failures = failures.map_err(|e| e.to_string())?;
        let taken: BTreeSet<TaskId> = (failures.iter())
            .filter(|f| f.set_aside && take_up.takes(&f.task))
            .map(|f| f.task)
            .collect();
        let tasks = taken.len() as u64;
        if tasks > 0 {
            let mut stored = kept.stored;
            stored.state = SweepState::Running;
            self.carry_out(stored, kept.grid, kept.data, TakeUp::These(taken));
        }
        Ok(Done { tasks })
    }
}
