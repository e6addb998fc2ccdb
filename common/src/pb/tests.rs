//! Round trips are exact, and what is wrong is named.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::ids::{BaselineId, CellId, TaskId, WorkerId};
use crate::protocol::*;
use crate::record::{
    Attainment, BaselineEvidence, CurvePoint, EigenvalueMethod, Evidence, Outcome as Verdict,
    RunEvidence, Telemetry,
};

fn any_id() -> impl Strategy<Value = LeaseId> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(task, attempt)| LeaseId {
        task: TaskId(task),
        attempt: Attempt(attempt),
    })
}

fn any_place() -> impl Strategy<Value = Place> {
    (any::<u32>(), any::<u64>(), any::<bool>()).prop_map(|(sweep, position, baseline)| Place {
        sweep: SweepNumber(sweep),
        position,
        baseline,
    })
}

/// Every bit pattern, NaNs with payloads included.
fn any_f64() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits)
}

fn any_telemetry() -> impl Strategy<Value = Telemetry> {
    (0.0..1e9, 0.0..1e9, any::<u64>()).prop_map(|(seconds, cpu_seconds, peak_memory)| Telemetry {
        seconds,
        cpu_seconds,
        peak_memory,
    })
}

prop_compose! {
    fn any_run()(
        numbers in prop::collection::vec(any_f64(), 8),
        optional in prop::collection::vec(prop::option::of(any_f64()), 12),
        counts in prop::collection::vec(any::<u64>(), 5),
        small in prop::collection::vec(any::<u32>(), 3),
        verdict in 0..Verdict::ALL.len(),
        method in 0..4_usize,
        curve in prop::collection::vec(any::<(u64, u32, u32)>(), 0..64),
    ) -> RunEvidence {
        let outcome = Verdict::ALL[verdict];
        let certified = outcome == Verdict::CertifiedMinimum;
        let number = |i: usize| if certified { i as f64 } else { numbers[i] };
        RunEvidence {
            outcome,
            objective: number(0),
            value: number(1),
            gradient_norm: number(2),
            min_eigenvalue: optional[0],
            max_eigenvalue: optional[1],
            eigenvalue_method: [
                None,
                Some(EigenvalueMethod::Dense),
                Some(EigenvalueMethod::Cholesky),
                Some(EigenvalueMethod::Lanczos),
            ][method],
            eigenvalue_failure_probability: optional[2],
            norm_a: optional[3],
            norm_b: optional[4],
            gap_bound: optional[5],
            induced_value: optional[6],
            sigma_min_w: optional[7],
            norm_theta: numbers[3],
            norm_u: numbers[4],
            norm_w: numbers[5],
            norm_wv: optional[8],
            newton_step: optional[9],
            kinks: small[0],
            kink_margin: optional[10],
            kink_slack: optional[11],
            kink_cluster: small[1],
            refuted: small[2],
            refuted_excess: optional[5],
            evaluations: counts[0],
            gradients: counts[1],
            products: counts[2],
            hessians: counts[3],
            parameters: counts[4],
            curve: curve
                .into_iter()
                .map(|(evaluations, objective, gradient_norm)| CurvePoint {
                    evaluations,
                    objective: f32::from_bits(objective),
                    gradient_norm: f32::from_bits(gradient_norm),
                })
                .collect(),
        }
    }
}

prop_compose! {
    fn any_baseline()(
        shape in (0..4_u32, 0..5_u32),
        rows in any::<u32>(),
        attained in any::<bool>(),
        value in -1e9..1e9,
        numbers in prop::collection::vec(any_f64(), 22),
    ) -> BaselineEvidence {
        let (outputs, features) = (shape.0 as usize, shape.1 as usize);
        BaselineEvidence {
            value,
            lower_bound: numbers[20],
            status: if attained { Attainment::Attained } else { Attainment::InfimumNotAttained },
            gradient_norm: numbers[21],
            minimizer: numbers[..outputs * features].to_vec(),
            outputs,
            features,
            rows: rows as usize,
        }
    }
}

fn any_evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        any_run().prop_map(|run| Evidence::Run(Box::new(run))),
        any_baseline().prop_map(|baseline| Evidence::Baseline(Box::new(baseline))),
        any::<u64>().prop_map(|seed| Evidence::Noop { seed }),
    ]
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from)
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let theta = prop::collection::vec(-1e9..1e9, 0..5);
    prop_oneof![
        (any_bytes(), any_telemetry(), theta).prop_map(|(evidence, telemetry, theta)| {
            Outcome::Result(TaskResult {
                evidence,
                telemetry,
                theta,
            })
        }),
        (0..6_usize, ".{0,20}", any_telemetry()).prop_map(|(kind, message, telemetry)| {
            Outcome::Failure(TaskFailure {
                kind: FailureKind::ALL[kind],
                message,
                telemetry,
            })
        }),
        (prop::option::of(any_bytes()), any::<u64>()).prop_map(|(checkpoint, evaluations)| {
            Outcome::HandBack(HandBack {
                checkpoint,
                evaluations,
            })
        }),
    ]
}

fn any_hello() -> impl Strategy<Value = Hello> {
    let held = (any_id(), any_place(), 0..3_usize).prop_map(|(lease, place, state)| HeldLease {
        lease,
        place,
        state: [HeldState::Queued, HeldState::Running, HeldState::Finished][state],
    });
    let profile = (
        "[a-z]{0,9}",
        prop::collection::vec("[a-z]{0,5}", 0..3),
        1_u32..99,
        any::<u64>(),
    );
    (
        any::<(u32, [u8; 16], u32)>(),
        profile,
        prop::collection::vec(held, 0..5),
    )
        .prop_map(
            |((protocol, worker, version), (name, numeric_levels, slots, memory), held)| Hello {
                protocol,
                worker: WorkerId(worker),
                profile: Profile {
                    name: name.clone(),
                    host: name.clone(),
                    program_version: name,
                    numerics_version: version,
                    numeric_levels,
                    slots,
                    threads_per_slot: slots / 2,
                    memory_per_slot: (memory > 0).then_some(memory),
                },
                held,
            },
        )
}

fn any_worker_message() -> impl Strategy<Value = WorkerMessage> {
    let reports = (any_id(), any_outcome()).prop_map(|(lease, outcome)| Report { lease, outcome });
    let running = prop::collection::vec(any_id(), 0..4);
    prop_oneof![
        any_hello().prop_map(WorkerMessage::Hello),
        any::<u32>().prop_map(|window| WorkerMessage::Credit { window }),
        (running, any::<u64>())
            .prop_map(|(running, memory)| WorkerMessage::Heartbeat(Heartbeat { running, memory })),
        prop::collection::vec(reports, 0..4).prop_map(WorkerMessage::Reports),
        Just(WorkerMessage::Draining),
    ]
}

/// Cells and baselines from a small world, so that they repeat and are
/// forgotten within one session.
fn any_lease() -> impl Strategy<Value = Lease> {
    let cell = |n: u16| {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_le_bytes());
        Arc::new(CellText {
            id: CellId(id),
            json: format!("{{\"depth\":{n}}}"),
        })
    };
    let solved = |n: u16| {
        let mut id = [1; 32];
        id[..2].copy_from_slice(&n.to_le_bytes());
        let evidence = BaselineEvidence {
            value: f64::from(n),
            lower_bound: f64::from(n),
            status: Attainment::Attained,
            gradient_norm: 0.0,
            minimizer: vec![f64::from(n); 2],
            outputs: 1,
            features: 2,
            rows: 7,
        };
        Arc::new(SolvedBaseline {
            id: BaselineId(id),
            evidence,
        })
    };
    let work = prop_oneof![
        6 => (0..700_u16, 0..300_u16, any::<u64>(), 0..2_usize).prop_map(move |(c, b, seed, start)| {
            let start = ["\"standard\"", "\"dead\""][start].into();
            Work::Run { cell: cell(c), seed, start, baseline: solved(b) }
        }),
        1 => (0..700_u16).prop_map(move |c| Work::Baseline { cell: cell(c) }),
        1 => any::<(u64, u64)>().prop_map(|(seed, microseconds)| Work::Noop { seed, microseconds }),
    ];
    (any_id(), any_place(), work, prop::option::of(any_bytes())).prop_map(
        |(id, place, work, checkpoint)| Lease {
            id,
            place,
            work,
            checkpoint,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn evidence_returns_from_its_bytes_bit_for_bit(evidence in any_evidence()) {
        let bytes = encode_evidence(&evidence);
        let back = decode_evidence(&bytes).unwrap();
        prop_assert_eq!(encode_evidence(&back), bytes);
        prop_assert_eq!(format!("{back:?}"), format!("{evidence:?}"));
    }

    #[test]
    fn a_worker_message_returns_as_it_was(message in any_worker_message()) {
        let encoded = wire::WorkerMessage::from(message.clone()).encode_to_vec();
        let decoded = wire::WorkerMessage::decode(encoded.as_slice()).unwrap();
        prop_assert_eq!(WorkerMessage::try_from(decoded).unwrap(), message);
    }

    #[test]
    fn a_session_of_leases_returns_as_it_was(
        batches in prop::collection::vec(prop::collection::vec(any_lease(), 0..300), 1..6),
    ) {
        let (mut encoder, mut decoder) = (LeaseEncoder::default(), LeaseDecoder::default());
        for batch in batches {
            let message = CoordinatorMessage::Leases(batch);
            let encoded = encoder.message(message.clone()).encode_to_vec();
            let decoded = wire::CoordinatorMessage::decode(encoded.as_slice()).unwrap();
            prop_assert_eq!(decoder.message(decoded).unwrap(), message);
        }
    }

    #[test]
    fn no_bytes_make_a_conversion_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = wire::WorkerMessage::decode(bytes.as_slice()) {
            let _ = WorkerMessage::try_from(message);
        }
        if let Ok(message) = wire::CoordinatorMessage::decode(bytes.as_slice()) {
            let _ = LeaseDecoder::default().message(message);
        }
        let _ = decode_evidence(&bytes);
    }
}

#[test]
fn the_other_coordinator_messages_return_as_they_were() {
    let lease = LeaseId {
        task: TaskId([3; 32]),
        attempt: Attempt::new(2, 7),
    };
    let messages = [
        CoordinatorMessage::Welcome(Welcome {
            protocol: 1,
            epoch: 9,
            lease_ms: 10_000,
            heartbeat_ms: 2_000,
            drop: vec![lease],
            numeric_level: "fma64-1".into(),
        }),
        CoordinatorMessage::Receipts(vec![Receipt {
            lease,
            status: ReceiptStatus::Conflict,
            detail: "other bits".into(),
        }]),
        CoordinatorMessage::Revoke(vec![lease]),
        CoordinatorMessage::Recall(vec![lease]),
        CoordinatorMessage::Drain {
            reason: "done".into(),
            finished: true,
            waits: None,
        },
        CoordinatorMessage::Drain {
            reason: "interrupted".into(),
            finished: false,
            waits: Some(Duration::from_millis(1500)),
        },
    ];
    for message in messages {
        let encoded = LeaseEncoder::default().message(message.clone());
        assert_eq!(LeaseDecoder::default().message(encoded).unwrap(), message);
    }
}

#[test]
fn a_cell_travels_once_until_256_newer_ones_were_sent() {
    let lease = |n: u16| {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_le_bytes());
        Lease {
            id: LeaseId {
                task: TaskId(id),
                attempt: Attempt(1),
            },
            place: Place {
                sweep: SweepNumber(1),
                position: u64::from(n),
                baseline: true,
            },
            work: Work::Baseline {
                cell: Arc::new(CellText {
                    id: CellId(id),
                    json: n.to_string(),
                }),
            },
            checkpoint: None,
        }
    };
    let mut encoder = LeaseEncoder::default();
    let sent = |encoder: &mut LeaseEncoder, n| encoder.encode(vec![lease(n)]).cells.len();
    assert_eq!(sent(&mut encoder, 0), 1);
    assert_eq!(sent(&mut encoder, 0), 0);
    for n in 1..256 {
        sent(&mut encoder, n);
    }
    assert_eq!(sent(&mut encoder, 0), 0, "255 newer ones");
    sent(&mut encoder, 256);
    assert_eq!(sent(&mut encoder, 0), 1, "256 newer ones");
}

fn refusal(message: wire::WorkerMessage) -> String {
    WorkerMessage::try_from(message).unwrap_err().to_string()
}

#[test]
fn a_wrong_field_is_named_with_its_path_and_value() {
    use wire::worker_message::Kind;
    let message = |kind| wire::WorkerMessage { kind: Some(kind) };
    assert_eq!(
        refusal(wire::WorkerMessage { kind: None }),
        "field `kind` is missing"
    );

    let hello = wire::Hello {
        slots: 1,
        worker_id: vec![1; 15].into(),
        ..Default::default()
    };
    assert_eq!(
        refusal(message(Kind::Hello(hello))),
        "field `hello.worker_id` has 15 bytes instead of 16"
    );

    let hello = wire::Hello {
        worker_id: vec![1; 16].into(),
        ..Default::default()
    };
    assert_eq!(
        refusal(message(Kind::Hello(hello))),
        "field `hello.slots` is 0, which must be at least 1"
    );

    let lease = wire::LeaseId {
        task: vec![0; 32].into(),
        attempt: 1,
    };
    let held = wire::HeldLease {
        lease: Some(lease.clone()),
        place: Some(wire::Place::default()),
        state: 17,
    };
    let hello = wire::Hello {
        slots: 1,
        worker_id: vec![1; 16].into(),
        held: vec![held],
        ..Default::default()
    };
    assert_eq!(
        refusal(message(Kind::Hello(hello))),
        "field `hello.held[0].state` has the unknown value 17"
    );

    let short = wire::LeaseId {
        task: vec![0; 3].into(),
        attempt: 1,
    };
    let reports = vec![
        wire::Report {
            lease: Some(lease),
            outcome: None,
        },
        wire::Report {
            lease: Some(short),
            outcome: None,
        },
    ];
    assert_eq!(
        refusal(message(Kind::Reports(wire::ReportBatch { reports }))),
        "field `reports[1].lease.task` has 3 bytes instead of 32"
    );
}

#[test]
fn a_report_that_makes_no_sense_keeps_its_lease_so_that_it_can_be_answered() {
    let lease = wire::LeaseId {
        task: vec![5; 32].into(),
        attempt: 1,
    };
    let telemetry = wire::Telemetry {
        seconds: f64::NAN,
        ..Default::default()
    };
    let failure = wire::TaskFailure {
        kind: 2,
        telemetry: Some(telemetry),
        ..Default::default()
    };
    let outcome = Some(wire::report::Outcome::Failure(failure));
    let reports = vec![wire::Report {
        lease: Some(lease),
        outcome,
    }];
    let reports = reports_from_wire(wire::ReportBatch { reports }).unwrap();
    let detail =
        "field `failure.telemetry.seconds` is NaN, which must be a finite number of seconds";
    assert_eq!(reports[0].lease.task, TaskId([5; 32]));
    assert_eq!(
        reports[0].outcome,
        Outcome::Malformed {
            detail: detail.into()
        }
    );
}

#[test]
fn a_certified_minimum_without_a_finite_value_is_refused() {
    let run = wire::RunEvidence {
        outcome: wire::Outcome::CertifiedMinimum.into(),
        value: f64::INFINITY,
        ..Default::default()
    };
    let evidence = wire::Evidence {
        kind: Some(wire::evidence::Kind::Run(run)),
    };
    assert_eq!(
        decode_evidence(&evidence.encode_to_vec())
            .unwrap_err()
            .to_string(),
        "field `run.value` is inf, which must be finite at a certified minimum"
    );
}

#[test]
fn the_largest_checkpoint_fits_a_message() {
    let checkpoint = Some(Bytes::from(vec![1; CHECKPOINT_LIMIT]));
    let id = LeaseId {
        task: TaskId([3; 32]),
        attempt: Attempt::new(2, 7),
    };
    let outcome = Outcome::HandBack(HandBack {
        checkpoint: checkpoint.clone(),
        evaluations: u64::MAX,
    });
    let reports = WorkerMessage::Reports(vec![Report { lease: id, outcome }]);
    let reports = wire::WorkerMessage::from(reports);
    assert!(reports.encoded_len() <= MESSAGE_LIMIT);
    let lease = Lease {
        id,
        place: Place {
            sweep: SweepNumber(1),
            position: u64::MAX,
            baseline: false,
        },
        work: Work::Noop {
            seed: u64::MAX,
            microseconds: u64::MAX,
        },
        checkpoint,
    };
    let leases = LeaseEncoder::default().message(CoordinatorMessage::Leases(vec![lease]));
    assert!(leases.encoded_len() <= MESSAGE_LIMIT);
}
