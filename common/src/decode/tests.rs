use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::arbitrary;
use crate::node::{self, Limits};
use crate::spec::{Activation, Body, DataSpec, Loss, Skip, StartKind};

fn cell(extra: &str) -> String {
    format!(
        r#"{{"data": "diabetes"{}{extra}}}"#,
        if extra.is_empty() { "" } else { ", " }
    )
}

fn mistakes(json: &str) -> Vec<String> {
    let error = decode_cell(json).expect_err(json);
    error
        .diagnostics
        .iter()
        .map(|d| d.message.clone())
        .collect()
}

#[test]
fn the_names_of_the_decoder_are_the_names_of_the_vocabulary() {
    fn check(variants: &Variants, names: impl IntoIterator<Item = &'static str>, extra: &[&str]) {
        let mut expected: Vec<&str> = names.into_iter().collect();
        expected.extend(extra);
        assert_eq!(variants.names(), expected);
    }
    check(&ACTIVATION, Activation::NAMED.map(|(n, _)| n), &["formula"]);
    check(&BODY, Body::NAMED.map(|(n, _)| n), &["table"]);
    check(&SKIP, Skip::NAMED.map(|(n, _)| n), &[]);
    check(&LOSS, Loss::NAMED.map(|(n, _)| n), &[]);
    check(
        &OPTIMIZER,
        crate::spec::Optimizer::NAMED.map(|(n, _)| n),
        &[],
    );
    check(&START, StartKind::ALL.map(StartKind::name), &["point"]);
    for (i, info) in FIELDS.iter().enumerate() {
        assert_eq!(info.field as usize, i, "{} stands elsewhere", info.names[0]);
    }
}

#[test]
fn a_cell_that_says_only_its_data_has_the_defaults() {
    let cell = decode_cell(&cell("")).unwrap();
    assert_eq!(cell.data, DataSpec::Named("diabetes".into()));
    assert_eq!(cell.regularizer.predictor_ridge, 1e-3);
    assert_eq!(cell.budget.evaluations, 200_000);
    assert_eq!(cell.certificate.gradient, 1e-9);
    assert_eq!((cell.model.skip, cell.loss), (Skip::Outer, Loss::Squared));
}

#[test]
fn every_notation_of_a_value_is_read() {
    for (json, same) in [
        (
            r#""activation": {"leaky_relu": 0.01}"#,
            r#""activation": "leaky_relu""#,
        ),
        (r#""loss": {"huber": 1}"#, r#""loss": "huber""#),
        (r#""freeze": null"#, r#""freeze": "none""#),
        (
            r#""regularizer": {"body_decay": 2}"#,
            r#""body_decay": 2.0"#,
        ),
        (
            r#""regularizer": {"body_decay": 2}"#,
            r#""regularizer.body_decay": 2.0"#,
        ),
        (
            r#""budget": {"evaluations": 1e3}"#,
            r#""training.budget.evaluations": 1000"#,
        ),
        (
            r#""activation": {"formula": 2}"#,
            r#""activation": {"formula": "2.0"}"#,
        ),
    ] {
        assert_eq!(
            decode_cell(&cell(json)).unwrap(),
            decode_cell(&cell(same)).unwrap(),
            "{json}"
        );
    }
    let start = decode_start(r#"{"standard": {"scale": 3}}"#).unwrap();
    assert_eq!(
        start,
        crate::spec::Start::Drawn {
            kind: StartKind::Standard,
            scale: 3.0
        }
    );
    assert_eq!(
        decode_start(r#"{"dead": {}}"#).unwrap(),
        decode_start(r#""dead""#).unwrap()
    );
    let named = decode_cell(r#"{"data": {"name": "iris"}}"#).unwrap();
    assert_eq!(named.data, DataSpec::Named("iris".into()));
}

#[test]
fn all_mistakes_of_a_text_are_found_at_once() {
    let found = mistakes(&cell(
        r#""activaton": "tanh", "activation": "tanhh", "width": -3, "depth": "deep", "polish": "yes",
           "loss": {"squared": 2}, "regularizer": {"ridge": 1, "head_decay": -1e-9}, "skip": null,
           "seed": 3, "features": {"polynomial": 0}, "image": [8, 8], "budget": 5,
           "certificate": {"gradient": 0}, "start": "standard""#,
    ));
    assert_eq!(
        found,
        [
            "unknown field `activaton`",
            "unknown field `ridge`",
            "`budget` must be a map, found the number 5",
            "unknown activation `tanhh`",
            "`width` must be at least 1, found -3",
            "`depth` must be a whole number, found the text `deep`",
            "`polish` must be `true` or `false`, found the text `yes`",
            "loss `squared` takes no value",
            "`regularizer.head_decay` must be at least 0, found -0.000000001",
            "skip is missing its name",
            "`seed` is not part of a cell",
            "the degree must be at least 1, found 0",
            "`image` must be a list `[height, width, channels]`, found a list",
            "`certificate.gradient` must be greater than 0, found 0",
            "`start` is not part of a cell",
        ]
    );
}

#[test]
fn a_bad_formula_is_shown_where_it_is_bad() {
    for (text, at) in [
        (
            r#"{"data": "iris", "activation": {"formula": "2 * tan(t)"}}"#,
            "tan",
        ),
        (
            r#"{"data": "iris", "activation": {"formula": "2 \u002a tan(t)"}}"#,
            r#""2 \u002a tan(t)""#,
        ),
    ] {
        let error = decode_cell(text).unwrap_err();
        let mistake = error.diagnostics.iter().next().unwrap();
        assert_eq!(mistake.message, "in the formula: unknown name `tan`");
        assert_eq!(&text[mistake.span.range()], at);
    }
}

#[test]
fn data_sets_are_checked_in_every_form() {
    let found = |data: &str| mistakes(&format!(r#"{{"data": {data}}}"#));
    assert_eq!(found(r#""diabets""#), ["unknown data set `diabets`"]);
    assert_eq!(
        found(r#""my/file.csv""#),
        ["unknown data set `my/file.csv`"]
    );
    assert_eq!(
        found(r#"{"file": "x.csv"}"#),
        ["the file `x.csv` has no `sha256`"]
    );
    assert_eq!(
        found(r#"{"file": "x.csv", "sha256": "12"}"#),
        ["`sha256` is no SHA-256: an identity has 64 hexadecimal digits, this one has 2"]
    );
    assert_eq!(
        found(r#"{"file": "x", "generate": "linear"}"#),
        ["a data set has one of file, generate"]
    );
    assert_eq!(
        found(r#"{"generate": "linear", "row": 3, "degree": 2}"#),
        [
            "unknown key `row` in this generator",
            "unknown key `degree` in this generator",
            "generated data need `rows`",
            "generated data need `inputs`",
        ]
    );
    assert_eq!(
        found(r#"{"generate": "spirals", "rows": 10, "inputs": 3}"#),
        ["the generator `spirals` has 2 inputs, found 3"]
    );
    assert_eq!(
        found(r#"{"generate": "teacher", "rows": 10, "inputs": 3, "body": "aggregated"}"#),
        [
            "a teacher of body `aggregated` needs `bottleneck`",
            "a teacher of body `aggregated` needs `cardinality`",
        ]
    );
}

#[test]
fn combinations_that_no_engine_runs_are_refused() {
    for (fields, message) in [
        (
            r#""body": "bottleneck""#,
            "body `bottleneck` needs `bottleneck`",
        ),
        (
            r#""body": "bottleneck", "bottleneck": 8, "width": 8"#,
            "`bottleneck` must be smaller than `width`, found 8 with width 8",
        ),
        (
            r#""body": "aggregated", "bottleneck": 2"#,
            "body `aggregated` needs `cardinality`",
        ),
        (
            r#""body": "conv""#,
            "body `conv` needs images, and the rows of `diabetes` are none",
        ),
    ] {
        assert_eq!(mistakes(&cell(fields)), [message]);
    }
    assert!(decode_cell(&cell(r#""body": "conv", "skip": "chain""#)).is_ok());
    let digits = decode_cell(r#"{"data": "digits", "body": "conv"}"#).unwrap();
    assert_eq!(digits.model.image, Some([8, 8, 1]));
}

struct OneFile;

impl Files for OneFile {
    fn hash(&mut self, path: &str) -> Result<BlobId, String> {
        if path == "there.csv" {
            Ok(BlobId([7; 32]))
        } else {
            Err("there is no such file".into())
        }
    }
}

#[test]
fn a_grids_files_are_hashed_and_a_given_hash_must_be_theirs() {
    let decode = |text: &str| {
        let mut found = Diagnostics::new();
        let node = node::parse(text, Limits::GRID, &mut found).unwrap();
        let mut files = OneFile;
        let setting = Decoder::grid(&mut found, &mut files).setting(Field::Data, &node);
        let messages: Vec<String> = found.iter().map(|d| d.message.clone()).collect();
        (setting, messages)
    };
    let (setting, messages) = decode("{file: there.csv, targets: y}");
    assert!(messages.is_empty());
    let Some(Setting::Data(data)) = setting else {
        panic!("no data")
    };
    let DataSpec::File(file) = Arc::unwrap_or_clone(data) else {
        panic!("no file")
    };
    assert_eq!(file.file.sha256, "07".repeat(32));
    let (_, messages) = decode("{file: gone.csv}");
    assert_eq!(messages, ["cannot read `gone.csv`: there is no such file"]);
    let (_, messages) = decode(&format!(
        "{{file: there.csv, sha256: '{}'}}",
        "08".repeat(32)
    ));
    assert_eq!(
        messages,
        ["`there.csv` has another content than `sha256` says"]
    );
}

proptest! {
    #[test]
    fn what_a_program_writes_another_reads_back(task in arbitrary::task()) {
        let json = serde_json::to_string(&task).unwrap();
        let read = decode_task(&json).map_err(|e| TestCaseError::fail(format!("{e}\n{json}")))?;
        prop_assert_eq!(&read, &task);
        let cell = decode_cell(&serde_json::to_string(&task.cell).unwrap());
        prop_assert_eq!(cell.unwrap(), task.cell);
        let start = decode_start(&serde_json::to_string(&task.start).unwrap());
        prop_assert_eq!(start.unwrap(), task.start);
    }

    #[test]
    fn damaged_specifications_are_refused_or_read_without_a_panic(
        task in arbitrary::task(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut bytes = serde_json::to_vec(&task).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = decode_task(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
