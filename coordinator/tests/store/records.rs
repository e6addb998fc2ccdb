//! Records out of a small world, so that they meet each other.

use std::sync::Arc;

use common::ids::{TaskId, WorkerId};
use common::pb::encode_evidence;
use common::protocol::{Attempt, FailureKind, Place, Profile, SweepNumber};
use common::record::{Evidence, Telemetry};
use coordinator::core::{KeptTheta, Opened, Record, SweepState};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

pub(crate) fn task(n: u8) -> TaskId {
    TaskId(Sha256::digest([n]).into())
}

pub(crate) fn worker(n: u8) -> WorkerId {
    WorkerId([n; 16])
}

pub(crate) fn place(n: u8) -> Place {
    let sweep = SweepNumber(u32::from(n % 2) + 1);
    Place {
        sweep,
        position: u64::from(n),
        baseline: n.is_multiple_of(3),
    }
}

pub(crate) fn evidence(seed: u64) -> Opened {
    Opened::open(encode_evidence(&Evidence::Noop { seed })).expect("encoded just now")
}

pub(crate) fn profile(n: u8) -> Record {
    let profile = Profile {
        name: format!("w{n}"),
        host: "here".into(),
        program_version: "0.1.0".into(),
        numerics_version: 1,
        numeric_levels: Vec::new(),
        slots: u32::from(n) + 1,
        threads_per_slot: 1,
        memory_per_slot: None,
    };
    Record::Worker {
        id: worker(n),
        profile: Arc::new(profile),
    }
}

pub(crate) fn result(n: u8, seed: u64, attempt: u64) -> Record {
    Record::Result {
        task: task(n),
        place: place(n),
        worker: worker(n % 3),
        attempt: Attempt(attempt),
        evidence: evidence(seed),
        telemetry: Telemetry {
            seconds: 0.5,
            cpu_seconds: 0.25,
            peak_memory: 1 << 40,
        },
        theta: n.is_multiple_of(2).then(|| KeptTheta {
            theta: vec![f64::from(n), -0.0, f64::NAN].into(),
            sweeps: vec![SweepNumber(1), SweepNumber(2)],
        }),
    }
}

pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let n = 0..8_u8;
    prop_oneof![
        1 => n.clone().prop_map(profile),
        6 => (n.clone(), 0..2_u64, 1..9_u64).prop_map(|(n, seed, attempt)| result(n, seed, attempt)),
        1 => (n.clone(), 1..9_u64).prop_map(|(n, attempt)| Record::Conflict {
            task: task(n),
            worker: worker(n % 3),
            attempt: Attempt(attempt),
            evidence: evidence(99),
        }),
        4 => (n.clone(), 1..9_u64, 0..8_usize).prop_map(|(n, attempt, kind)| Record::Failure {
            task: task(n),
            place: place(n),
            worker: worker(n % 3),
            attempt: Attempt(attempt),
            kind: FailureKind::ALL[kind],
            message: "it broke\0".into(),
        }),
        2 => n.clone().prop_map(|n| Record::SetAside { task: task(n), place: place(n) }),
        1 => (1..3_u32, prop::collection::vec(n.clone(), 0..3)).prop_map(|(sweep, tasks)| {
            let tasks = tasks.into_iter().map(task).collect();
            Record::TakenUpAgain { sweep: SweepNumber(sweep), tasks }
        }),
        2 => (n.clone(), 0..9_u64).prop_map(|(n, evaluations)| Record::Checkpoint {
            task: task(n),
            state: vec![n; 3].into(),
            evaluations,
        }),
        1 => (1..3_u32, prop::collection::vec(n, 0..3)).prop_map(|(sweep, tasks)| {
            let tasks = tasks.into_iter().map(task).collect();
            Record::ReleaseTheta { sweep: SweepNumber(sweep), tasks }
        }),
        1 => (1..3_u32, 0..4_usize, -2..3_i32).prop_map(|(sweep, state, priority)| {
            Record::Sweep { sweep: SweepNumber(sweep), state: SweepState::ALL[state], priority }
        }),
    ]
}
