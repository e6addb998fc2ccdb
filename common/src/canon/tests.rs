use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::arbitrary;
use crate::decode::{decode_cell, decode_task};
use crate::spec::{DataSpec, StartKind};

const DATA: DataHash = [5; 32];

fn cell(extra: &str) -> Arc<CellSpec> {
    decode_cell(&format!("{{data: diabetes, {extra}}}")).unwrap()
}

fn same(a: &str, b: &str) -> bool {
    cell_id(&cell(a), &DATA) == cell_id(&cell(b), &DATA)
}

#[test]
fn identities_keep_their_bytes() {
    // A change here is a change of every recorded identity: it needs a new
    // `NUMERICS_VERSION` and a line in the change log, or is a mistake.
    let cell = cell(r#"activation: {formula: "t * tanh(-t)^2"}, loss: huber, depth: 4"#);
    let task = TaskSpec::new(Arc::clone(&cell), 7, Start::STANDARD);
    let ids = [
        task_id(&task, &DATA).to_string(),
        cell_id(&cell, &DATA).to_string(),
        baseline_id(&cell, &DATA).to_string(),
    ];
    insta::assert_snapshot!(ids.join("\n"), @r"
    f314bc165dca03d5ca6b6a45a718492d3a3aa566bda93d6d01826d4dc0a3a1c6
    d748e702586ce880c9447f541db408e2983afb8e72189aefe6264e10c4cb8435
    331bf1bf28e589b8a38af2e3e266b4521a66bfc7ed5c4c1ec46f9f0e8047194d
    ");
}

#[test]
fn every_kind_of_value_has_the_documented_bytes() {
    let map = BTreeMap::from([("b", Canonical::Null), ("a", Canonical::Whole(258))]);
    let value = Canonical::List(vec![
        Canonical::Flag(true),
        Canonical::Real(-0.0),
        Canonical::text("é"),
        Canonical::Bytes(vec![9]),
        Canonical::Map(map),
    ]);
    let expected: &[u8] = &[
        7, 0, 0, 0, 5, //
        2, //
        4, 0, 0, 0, 0, 0, 0, 0, 0, //
        5, 0, 0, 0, 2, 0xc3, 0xa9, //
        6, 0, 0, 0, 1, 9, //
        8, 0, 0, 0, 2, //
        0, 0, 0, 1, b'a', 3, 0, 0, 0, 0, 0, 0, 1, 2, //
        0, 0, 0, 1, b'b', 0,
    ];
    assert_eq!(value.to_bytes(), expected);
    let nan = f64::from_bits(0xfff8_0000_0000_0001);
    assert_eq!(
        Canonical::Real(nan).digest(),
        Canonical::Real(f64::NAN).digest()
    );
}

#[test]
fn the_notation_of_a_cell_does_not_enter_its_identity() {
    assert!(same("depth: 1, loss: squared", ""));
    assert!(same(
        "predictor_ridge: 1e-3",
        "regularizer: {predictor_ridge: 0.001}"
    ));
    assert!(same("head_decay: -0.0", "head_decay: 0"));
    assert!(same(
        "activation: leaky_relu",
        "activation: {leaky_relu: 0.01}"
    ));
    assert!(same(
        r#"activation: {formula: "t + pi"}"#,
        r#"activation: {formula: "(t)+3.141592653589793"}"#
    ));
    assert!(!same(
        r#"activation: {formula: "t + 1"}"#,
        r#"activation: {formula: "1 + t"}"#
    ));
}

#[test]
fn fields_that_are_not_read_do_not_enter() {
    let table = format!(
        "body: {{table: {{path: z.npy, sha256: '{}'}}}}",
        "ab".repeat(32)
    );
    let renamed = table.replace("z.npy", "other.npy");
    let other = table.replace("abab", "acac");
    assert!(same(&table, &renamed));
    assert!(!same(&table, &other));
    for field in [
        "depth: 5",
        "width: 5",
        "activation: relu",
        "freeze: body",
        "body_decay: 5",
        "bottleneck: 3",
    ] {
        assert!(
            same(&table, &format!("{table}, {field}")),
            "a table reads {field}"
        );
        assert!(
            field.starts_with("bottleneck") || !same("", field),
            "an mlp does not read {field}"
        );
        assert!(
            field.starts_with("bottleneck")
                || !same(
                    &format!("{table}, skip: chain"),
                    &format!("{table}, skip: chain, {field}")
                ),
            "a chain does not read {field}"
        );
    }
    assert!(same("skip: chain", "skip: chain, body: preact"));
    assert!(!same("skip: none", "skip: none, body: preact"));
    assert!(same("", "image: [1, 2, 3]"));
    assert!(same("cardinality: 2", "cardinality: 3"));
    assert!(!same(
        "body: aggregated, bottleneck: 2, cardinality: 2",
        "body: aggregated, bottleneck: 2, cardinality: 3"
    ));
    assert!(same("certificate: {kink_margin: 1}", ""));
    assert!(!same(
        "activation: relu, certificate: {kink_margin: 1}",
        "activation: relu"
    ));
    assert!(same(
        r#"activation: {formula: "t / (1 + abs(t))"}, certificate: {kink_margin: 1}"#,
        r#"activation: {formula: "t / (1 + abs(t))"}"#
    ));
    assert!(!same("skip: none, intercept: false", "skip: none"));
}

#[test]
fn every_other_field_makes_another_cell() {
    for field in [
        "standardize: false",
        "features: {polynomial: 2}",
        "intercept: false",
        "body: residual",
        "depth: 2",
        "width: 2",
        "activation: sin",
        "skip: none",
        "skip: chain",
        "freeze: body",
        "loss: log_cosh",
        "loss: huber",
        "predictor_ridge: 1",
        "body_decay: 1",
        "head_decay: 1",
        "optimizer: adam",
        "polish: false",
        "budget: {evaluations: 1}",
        "budget: {seconds: 1}",
        "certificate: {gradient: 1}",
        "certificate: {curvature: 1}",
    ] {
        assert!(!same("", field), "{field} does not enter");
    }
    assert_ne!(cell_id(&cell(""), &[1; 32]), cell_id(&cell(""), &[2; 32]));
}

#[test]
fn data_enter_by_content_not_by_name() {
    let mut renamed = CellSpec::clone(&cell(""));
    renamed.data = DataSpec::Named("a copy of diabetes".into());
    assert_eq!(cell_id(&renamed, &DATA), cell_id(&cell(""), &DATA));
    assert_eq!(baseline_id(&renamed, &DATA), baseline_id(&cell(""), &DATA));
}

#[test]
fn seed_and_start_make_another_task_unless_nothing_is_drawn() {
    let point = Start::Point(crate::spec::FileRef {
        path: "p.json".into(),
        sha256: "ab".repeat(32),
    });
    let id = |extra: &str, seed, start: &Start| {
        CellHasher::new(&cell(extra), &DATA).task_id(seed, start)
    };
    assert_ne!(id("", 1, &Start::STANDARD), id("", 2, &Start::STANDARD));
    assert_eq!(id("", 1, &point), id("", 2, &point));
    assert_ne!(
        id("optimizer: sgd", 1, &point),
        id("optimizer: sgd", 2, &point)
    );
    let dead = |scale| Start::Drawn {
        kind: StartKind::Dead,
        scale,
    };
    assert_ne!(id("", 1, &Start::STANDARD), id("", 1, &dead(1.0)));
    assert_ne!(id("", 1, &dead(1.0)), id("", 1, &dead(2.0)));
    let task = TaskSpec::new(cell(""), 9, point);
    assert_eq!(task.seed, 0, "what is not read is not kept");
}

#[test]
fn baselines_are_shared_by_cells_that_differ_in_what_a_baseline_does_not_read() {
    let id = |extra: &str| baseline_id(&cell(extra), &DATA);
    for same in [
        "depth: 9",
        "body: preact",
        "activation: relu",
        "skip: none",
        "optimizer: gd",
        "body_decay: 3",
    ] {
        assert_eq!(id(""), id(same), "{same}");
    }
    assert_eq!(
        id("predictor_ridge: 0.5, head_decay: 0.25"),
        id("predictor_ridge: 0.75")
    );
    for other in [
        "loss: huber",
        "intercept: false",
        "features: {polynomial: 2}",
        "standardize: false",
        "predictor_ridge: 1",
    ] {
        assert_ne!(id(""), id(other), "{other}");
    }
}

#[test]
fn task_cell_and_baseline_of_equal_content_have_different_identities() {
    let spec = cell("");
    let task = task_id(&TaskSpec::new(Arc::clone(&spec), 0, Start::STANDARD), &DATA);
    let (cell, baseline) = (cell_id(&spec, &DATA), baseline_id(&spec, &DATA));
    assert!(task.0 != cell.0 && cell.0 != baseline.0 && task.0 != baseline.0);
}

proptest! {
    #[test]
    fn identity_survives_the_wire(task in arbitrary::task()) {
        let read = decode_task(&serde_json::to_string(&task).unwrap()).unwrap();
        prop_assert_eq!(task_id(&read, &DATA), task_id(&task, &DATA));
        prop_assert_eq!(baseline_id(&read.cell, &DATA), baseline_id(&task.cell, &DATA));
    }

    #[test]
    fn the_fast_path_hashes_the_documented_bytes(task in arbitrary::task()) {
        let mut bytes = Canonical::Map(cell_map("run", &task.cell, &DATA)).to_bytes();
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let drawn = task.start.is_random() || task.cell.optimizer == Optimizer::Sgd;
        if drawn { Canonical::Whole(task.seed) } else { Canonical::Null }.encode(&mut bytes);
        setting(&Setting::Start(task.start.clone())).encode(&mut bytes);
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        prop_assert_eq!(task_id(&task, &DATA), TaskId(expected));
    }

    #[test]
    fn different_cells_have_different_identities(
        cells in prop::collection::vec(arbitrary::cell(), 2..6),
    ) {
        let mut seen: HashMap<CellId, Vec<u8>> = HashMap::new();
        for cell in &cells {
            let bytes = Canonical::Map(cell_map("cell", cell, &DATA)).to_bytes();
            if let Some(other) = seen.insert(cell_id(cell, &DATA), bytes.clone()) {
                prop_assert_eq!(other, bytes);
            }
        }
    }
}
