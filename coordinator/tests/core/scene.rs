//! A small language for stories about the scheduler: workers come, take tasks,
//! fail, fall silent; the store answers at once, or when it is told to.

use std::collections::BTreeMap;
use std::time::Duration;

use common::ids::{TaskId, WorkerId};
use common::pb::encode_evidence;
use common::protocol::{
    CoordinatorMessage, FailureKind, HandBack, Heartbeat, HeldLease, HeldState, Hello, Lease,
    LeaseId, Outcome, PROTOCOL, Profile, Receipt, ReceiptStatus, Report, SweepNumber, TaskFailure,
    TaskResult, Welcome,
};
use common::record::{Evidence, Telemetry};
use coordinator::core::*;
use coordinator::testing::{FakeWorkload, MemoryStore, compute};
use coordinator::workload::Workload;

pub(crate) struct Scene {
    pub(crate) core: Core,
    pub(crate) store: MemoryStore,
    pub(crate) config: Config,
    now: Timestamp,
    epoch: u32,
    last_session: u64,
    /// Answers of the store are held back.
    pub(crate) store_silent: bool,
    /// The store turns everything down.
    pub(crate) store_broken: bool,
    held_back: Vec<Effect>,
    inbox: BTreeMap<SessionId, Vec<CoordinatorMessage>>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) closed: Vec<(SessionId, CloseReason)>,
    pub(crate) refused: Vec<Refusal>,
    pub(crate) ended: BTreeMap<SweepNumber, (SweepState, FakeWorkload)>,
    pub(crate) answers: BTreeMap<u64, Result<Done, Denied>>,
}

pub(crate) const SWEEP: SweepNumber = SweepNumber(1);

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let now = Timestamp(1_000_000);
        Self {
            core: Core::new(config.clone(), 1, now),
            store: MemoryStore::default(),
            config,
            now,
            epoch: 1,
            last_session: 0,
            store_silent: false,
            store_broken: false,
            held_back: Vec::new(),
            inbox: BTreeMap::new(),
            notices: Vec::new(),
            closed: Vec::new(),
            refused: Vec::new(),
            ended: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// Kills the coordinator and starts another one on the same store.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.core = Core::new(self.config.clone(), self.epoch, self.now);
        self.held_back.clear();
        self.inbox.clear();
    }

    pub(crate) fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut effects = Vec::new();
            self.core.step(self.now, event, &mut effects);
            self.core
                .check_invariants()
                .expect("the invariants hold after every step");
            for effect in effects {
                events.extend(self.carry_out(effect));
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Persist { .. } | Effect::Lookup { .. } if self.store_silent => {
                self.held_back.push(effect);
            }
            Effect::Persist { ticket, records } => return Some(self.persist(ticket, &records)),
            Effect::Lookup { ticket, lookup } => {
                let known = self.store.lookup(&lookup);
                return Some(Event::Found { ticket, known });
            }
            Effect::Send { session, message } => {
                self.inbox.entry(session).or_default().push(message);
            }
            Effect::Refuse { refusal, .. } => self.refused.push(refusal),
            Effect::Close { session, reason } => self.closed.push((session, reason)),
            Effect::SweepEnded {
                sweep,
                state,
                workload,
                ..
            } => {
                let workload = *workload
                    .into_any()
                    .downcast::<FakeWorkload>()
                    .expect("a fake workload");
                self.ended.insert(sweep, (state, workload));
            }
            Effect::Answer { request, result } => {
                self.answers.insert(request, result);
            }
            Effect::Notice(notice) => self.notices.push(notice),
        }
        None
    }

    fn persist(&mut self, ticket: Ticket, records: &[Record]) -> Event {
        if self.store_broken {
            return Event::PersistFailed {
                ticket,
                error: "no space left".into(),
            };
        }
        Event::Persisted {
            ticket,
            exceptions: self.store.persist(records),
        }
    }

    /// The store answers what was held back, and from now on at once.
    pub(crate) fn store_speaks(&mut self) {
        self.store_silent = false;
        for effect in std::mem::take(&mut self.held_back) {
            if let Some(event) = self.carry_out(effect) {
                self.step(event);
            }
        }
    }

    pub(crate) fn sweep(&mut self, workload: FakeWorkload) {
        self.sweep_as(SWEEP, 0, workload);
    }

    pub(crate) fn sweep_as(&mut self, number: SweepNumber, priority: i32, workload: FakeWorkload) {
        let workload = Box::new(workload);
        self.step(Event::Sweep(NewSweep {
            number,
            priority,
            paused: false,
            take_up: TakeUp::Nothing,
            workload,
        }));
    }

    pub(crate) fn control(&mut self, request: u64, control: Control) {
        self.step(Event::Control { request, control });
    }

    /// Lets time pass, with a tick every 50 ms.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now.after(duration);
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(50)).min(end);
            self.step(Event::Tick);
        }
    }

    /// Lets time pass while these workers give signs of life.
    pub(crate) fn pass_with(&mut self, duration: Duration, alive: &[SessionId]) {
        let end = self.now.after(duration);
        while self.now < end {
            for session in alive {
                let heartbeat = Heartbeat::default();
                self.step(Event::Heartbeat {
                    session: *session,
                    heartbeat,
                });
            }
            self.pass(Duration::from_millis(500));
        }
    }

    pub(crate) fn hello(worker: u8, slots: u32, held: Vec<HeldLease>) -> Hello {
        Hello {
            protocol: PROTOCOL,
            worker: WorkerId([worker; 16]),
            profile: Profile {
                name: format!("w{worker}"),
                host: "here".into(),
                program_version: "0.1.0".into(),
                numerics_version: 1,
                numeric_levels: vec!["fma64-1".into()],
                slots,
                threads_per_slot: 1,
                memory_per_slot: None,
            },
            held,
        }
    }

    /// A worker comes and says how many tasks it wants.
    pub(crate) fn join(&mut self, worker: u8, slots: u32, window: u32) -> SessionId {
        self.rejoin(worker, slots, window, Vec::new())
    }

    pub(crate) fn rejoin(
        &mut self,
        worker: u8,
        slots: u32,
        window: u32,
        held: Vec<HeldLease>,
    ) -> SessionId {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let hello = Self::hello(worker, slots, held);
        self.step(Event::Hello { session, hello });
        self.step(Event::Credit { session, window });
        session
    }

    pub(crate) fn disconnect(&mut self, session: SessionId) {
        self.step(Event::Closed { session });
    }

    /// What was sent in a session since the last look, kept if `take` says no.
    fn take<T>(
        &mut self,
        session: SessionId,
        take: impl Fn(CoordinatorMessage) -> Result<Vec<T>, CoordinatorMessage>,
    ) -> Vec<T> {
        let mut taken = Vec::new();
        let mut kept = Vec::new();
        for message in self.inbox.remove(&session).unwrap_or_default() {
            match take(message) {
                Ok(mut items) => taken.append(&mut items),
                Err(message) => kept.push(message),
            }
        }
        self.inbox.insert(session, kept);
        taken
    }

    pub(crate) fn leases(&mut self, session: SessionId) -> Vec<Lease> {
        self.take(session, |message| match message {
            CoordinatorMessage::Leases(leases) => Ok(leases),
            other => Err(other),
        })
    }

    /// Leases as they came in messages.
    pub(crate) fn batches(&mut self, session: SessionId) -> Vec<Vec<Lease>> {
        self.take(session, |message| match message {
            CoordinatorMessage::Leases(leases) => Ok(vec![leases]),
            other => Err(other),
        })
    }

    pub(crate) fn lease(&mut self, session: SessionId) -> Lease {
        let mut leases = self.leases(session);
        assert_eq!(leases.len(), 1, "one lease was expected");
        leases.remove(0)
    }

    pub(crate) fn receipts(&mut self, session: SessionId) -> Vec<Receipt> {
        self.take(session, |message| match message {
            CoordinatorMessage::Receipts(receipts) => Ok(receipts),
            other => Err(other),
        })
    }

    pub(crate) fn statuses(&mut self, session: SessionId) -> Vec<ReceiptStatus> {
        self.receipts(session)
            .into_iter()
            .map(|receipt| receipt.status)
            .collect()
    }

    pub(crate) fn revoked(&mut self, session: SessionId) -> Vec<LeaseId> {
        self.take(session, |message| match message {
            CoordinatorMessage::Revoke(leases) => Ok(leases),
            other => Err(other),
        })
    }

    pub(crate) fn recalled(&mut self, session: SessionId) -> Vec<LeaseId> {
        self.take(session, |message| match message {
            CoordinatorMessage::Recall(leases) => Ok(leases),
            other => Err(other),
        })
    }

    /// What workers were told of a stop: whether for good, and how long the
    /// coordinator waits.
    pub(crate) fn drains(&mut self, session: SessionId) -> Vec<(bool, Option<Duration>)> {
        self.take(session, |message| match message {
            CoordinatorMessage::Drain {
                finished, waits, ..
            } => Ok(vec![(finished, waits)]),
            other => Err(other),
        })
    }

    pub(crate) fn welcome(&mut self, session: SessionId) -> Welcome {
        let mut welcomes = self.take(session, |message| match message {
            CoordinatorMessage::Welcome(welcome) => Ok(vec![welcome]),
            other => Err(other),
        });
        assert_eq!(welcomes.len(), 1);
        welcomes.remove(0)
    }

    pub(crate) fn reports(&mut self, session: SessionId, reports: Vec<Report>) {
        let reports = reports.into_iter().map(Incoming::from).collect();
        self.step(Event::Reports { session, reports });
    }

    /// The honest result of each lease.
    pub(crate) fn finish(&mut self, session: SessionId, leases: &[Lease]) {
        self.reports(session, leases.iter().map(result_of).collect());
    }

    pub(crate) fn fail(&mut self, session: SessionId, lease: &Lease, kind: FailureKind) {
        let message = "it broke".to_owned();
        let telemetry = Telemetry::default();
        let outcome = Outcome::Failure(TaskFailure {
            kind,
            message,
            telemetry,
        });
        self.reports(
            session,
            vec![Report {
                lease: lease.id,
                outcome,
            }],
        );
    }

    pub(crate) fn hand_back(
        &mut self,
        session: SessionId,
        lease: LeaseId,
        checkpoint: Option<&[u8]>,
    ) {
        let checkpoint = checkpoint.map(|bytes| bytes.to_vec().into());
        let outcome = Outcome::HandBack(HandBack {
            checkpoint,
            evaluations: 7,
        });
        self.reports(session, vec![Report { lease, outcome }]);
    }

    pub(crate) fn running(&mut self, session: SessionId, leases: &[Lease]) {
        let running = leases.iter().map(|lease| lease.id).collect();
        let heartbeat = Heartbeat { running, memory: 0 };
        self.step(Event::Heartbeat { session, heartbeat });
    }

    /// Takes and finishes whatever is leased until nothing more comes.
    pub(crate) fn work_off(&mut self, sessions: &[SessionId]) {
        loop {
            let mut any = false;
            for session in sessions {
                let leases = self.leases(*session);
                any |= !leases.is_empty();
                self.finish(*session, &leases);
            }
            if !any {
                return;
            }
        }
    }

    /// The sweep's end: its state and what was gathered.
    pub(crate) fn end_of(&mut self, sweep: SweepNumber) -> (SweepState, FakeWorkload) {
        self.pass(Duration::from_millis(100));
        self.ended.remove(&sweep).expect("the sweep has ended")
    }

    pub(crate) fn status(&self, sweep: SweepNumber) -> SweepStatus {
        let status = self.core.status();
        status
            .sweeps
            .into_iter()
            .find(|status| status.number == sweep)
            .expect("an active sweep")
    }
}

pub(crate) fn result_of(lease: &Lease) -> Report {
    result_with(lease, compute(&lease.id.task, &lease.work))
}

pub(crate) fn result_with(lease: &Lease, evidence: Evidence) -> Report {
    let telemetry = Telemetry {
        seconds: 1.0,
        ..Telemetry::default()
    };
    let evidence = encode_evidence(&evidence);
    let outcome = Outcome::Result(TaskResult {
        evidence,
        telemetry,
        theta: vec![1.0],
    });
    Report {
        lease: lease.id,
        outcome,
    }
}

pub(crate) fn held(lease: &Lease, state: HeldState) -> HeldLease {
    HeldLease {
        lease: lease.id,
        place: lease.place,
        state,
    }
}

pub(crate) fn tasks(leases: &[Lease]) -> Vec<TaskId> {
    leases.iter().map(|lease| lease.id.task).collect()
}

/// The workload of an active sweep as what it is.
pub(crate) fn fake(core: &Core, sweep: SweepNumber) -> &FakeWorkload {
    let workload: &dyn Workload = core.workload(sweep).expect("an active sweep");
    workload.as_any().downcast_ref().expect("a fake workload")
}
