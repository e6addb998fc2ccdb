//! What is fuzzed: the entrances of the programs for bytes from outside.
//!
//! Each function takes any bytes and may not panic; where something is accepted
//! it also checks what acceptance promises. `tests/fuzz` feeds them with
//! libFuzzer, and a test replays what that has kept (`tests/fuzz/corpus`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::Bytes;
use common::decode::{decode_cell, decode_start};
use common::formula::Formula;
use common::grid::{Grid, Uploaded};
use common::pb::{
    LeaseDecoder, LeaseEncoder, decode_evidence, encode_evidence, hello_of, reports_from_wire, wire,
};
use common::protocol::{LeaseId, WorkerMessage};
use common::record::BaselineEvidence;
use coordinator::explain::What;
use coordinator::submission::Submission;
use engine::task::{Cell, Threads};
use prost::Message;

/// An entrance.
pub type Target = fn(&[u8]);

/// All of them, by the name that `cargo fuzz run` takes.
pub const TARGETS: [(&str, Target); 5] = [
    ("grid", grid),
    ("configuration", configuration),
    ("formula", formula),
    ("point", point),
    ("messages", messages),
];

/// Files that a fuzzed grid may name.
const FILES: [(&str, &str); 2] = [
    ("d.csv", "a,b,y\n1,0,2\n2,1,1\n3,1,5\n4,3,3\n5,2,8\n6,5,4\n"),
    ("z.csv", "u,v\n0,1\n1,1\n2,0\n0,0\n1,2\n3,1\n"),
];

/// A grid file, as `submit` sends it.
pub fn grid(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let refused = Grid::load("grid.yaml", bytes, &Uploaded::default());
        let mistakes = refused.expect_err("a grid that is no text is refused");
        assert!(!mistakes.render(true).is_empty());
        return;
    };
    let submission = Submission {
        name: "grid.yaml".to_owned(),
        text: text.to_owned(),
        files: FILES
            .map(|(name, content)| (name.to_owned(), Bytes::from_static(content.as_bytes())))
            .into(),
    };
    let (grid, _) = match submission.read() {
        Ok(read) => read,
        Err(mistakes) => return assert!(!mistakes.is_empty()),
    };
    assert!(!grid.is_empty(), "a grid that is accepted has a task");
    let last = grid.len() - 1;
    for n in [0, last / 2, last] {
        let task = grid.task(n).expect("a task of that number");
        assert!(grid.find(&task.spec).is_some_and(|found| found <= n));
    }
    assert!(grid.task(grid.len()).is_none());
}

/// A file of `--config`, of either program.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // The coordinator's values name files and hosts, which are not looked at here.
    let _ = coordinator::cli::check_configuration("coordinator.yaml", text);
    let (flags, nothing) = (worker::cli::Flags::default(), BTreeMap::new());
    let room = worker::room::Room {
        cores: 2,
        memory: Some(1 << 30),
    };
    let resolve =
        |text: &str| worker::cli::resolve(Some(("worker.yaml", text)), &nothing, &flags, room);
    match resolve(text) {
        Ok(settings) => {
            let origins = vec!["somewhere".to_owned(); 64];
            let printed = settings.to_yaml(&origins);
            let again = resolve(&printed).expect("what is printed can be read");
            assert_eq!(again.to_yaml(&origins), printed);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An activation's formula.
pub fn formula(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let formula = match Formula::parse(text) {
        Ok(formula) => formula,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let again = Formula::parse(&formula.to_string()).expect("what is shown can be read");
    assert_eq!(again, formula, "and is the same formula");
    for t in [0.0, -1.5, 1e-300, 1e300, f64::INFINITY, f64::NAN] {
        let _ = formula.jet_at(t);
    }
    for side in formula.one_sided_jets() {
        let _ = format!("{side:?}");
    }
}

/// A file of `worker evaluate`.
pub fn point(bytes: &[u8]) {
    match worker::cli::evaluate(Path::new("point.json"), bytes.to_vec()) {
        Ok(answer) => assert!(answer.is_object()),
        Err(error) => assert!(
            worker::cli::is_bad_input(&error),
            "the input is to blame, not the program: {error:#}"
        ),
    }
}

/// A message of the protocol; the first byte says which.
pub fn messages(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    match kind % 10 {
        0 => worker_message(body),
        1 => coordinator_message(&body),
        2 => evidence(&body),
        3 => slot_request(&body),
        4 => slot_response(&body),
        5 => submit(body),
        6 => change(body),
        7 => explain(body),
        8 => checkpoint(&body),
        _ => others(&body),
    }
}

fn worker_message(body: Bytes) {
    let Ok(message) = wire::WorkerMessage::decode(body) else {
        return;
    };
    let _ = hello_of(message.clone()).map_err(|e| e.to_string());
    match WorkerMessage::try_from(message) {
        Ok(message) => {
            let sent = wire::WorkerMessage::from(message).encode_to_vec();
            let received = wire::WorkerMessage::decode(&*sent).expect("it was encoded here");
            let again = WorkerMessage::try_from(received).expect("what is accepted can be sent on");
            assert_eq!(wire::WorkerMessage::from(again).encode_to_vec(), sent);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Two messages in a row: the second one may refer to the first.
fn coordinator_message(body: &[u8]) {
    let mut decoder = LeaseDecoder::default();
    let mut encoder = LeaseEncoder::default();
    let (first, second) = body.split_at(body.len() / 2);
    for part in [body, first, second] {
        let Ok(message) = wire::CoordinatorMessage::decode(part) else {
            continue;
        };
        match decoder.message(message) {
            Ok(message) => {
                let _ = encoder.message(message).encode_to_vec();
            }
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
}

fn evidence(body: &[u8]) {
    if let Ok(evidence) = decode_evidence(body) {
        let sent = encode_evidence(&evidence);
        let again = decode_evidence(&sent).expect("what is accepted can be sent on");
        assert_eq!(encode_evidence(&again), sent);
    }
}

fn slot_request(mut body: &[u8]) {
    let mut decoder = LeaseDecoder::default();
    while let Ok(Some(request)) = worker::frame::read::<wire::SlotRequest>(&mut body) {
        match request.kind {
            Some(wire::slot_request::Kind::Assign(batch)) => {
                if decoder.decode(batch).is_err() {
                    return;
                }
            }
            Some(wire::slot_request::Kind::Stop(stop)) => {
                for id in stop.leases {
                    let _ = LeaseId::try_from(id);
                }
            }
            None => return,
        }
    }
}

fn slot_response(mut body: &[u8]) {
    while let Ok(Some(response)) = worker::frame::read::<wire::SlotResponse>(&mut body) {
        if let Some(wire::slot_response::Kind::Reports(batch)) = response.kind {
            let _ = reports_from_wire(batch);
        }
    }
}

fn submit(body: Bytes) {
    if let Ok(request) = wire::SubmitRequest::decode(body) {
        for file in &request.files {
            let _ = common::ids::BlobId::try_from(file.sha256.as_ref());
        }
        grid(request.grid.as_bytes());
    }
}

fn change(body: Bytes) {
    if let Ok(request) = wire::ChangeRequest::decode(body)
        && let Some(wire::change_request::Change::Retry(retry)) = request.change
    {
        for task in &retry.tasks {
            let _ = common::ids::TaskId::try_from(task.as_ref());
        }
    }
}

fn explain(body: Bytes) {
    if let Ok(request) = wire::ExplainRequest::decode(body) {
        let _ = request.what.parse::<What>();
    }
}

/// Messages without a conversion of their own.
fn others(body: &[u8]) {
    let _ = wire::FetchBlobRequest::decode(body);
    let _ = wire::BlobChunk::decode(body);
    let _ = wire::UploadChunk::decode(body);
    let _ = wire::MissingRequest::decode(body);
    let _ = wire::SweepRequest::decode(body);
    let _ = wire::ListReply::decode(body);
}

/// Where a task continues that another worker has begun: a checkpoint goes
/// from worker to worker.
fn checkpoint(body: &[u8]) {
    const CELL: &str = r#"{"data": "linnerud", "depth": 1, "width": 2, "activation": "tanh"}"#;
    static READY: LazyLock<Mutex<(Cell, BaselineEvidence)>> = LazyLock::new(|| {
        let spec = decode_cell(CELL).expect("a cell of the repository's own");
        let cell = Cell::new(spec, |_| None).expect("its data are shipped");
        let baseline = cell.baseline();
        Mutex::new((cell, baseline))
    });
    let ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    let start = decode_start("\"standard\"").expect("a start of the contract");
    let mut run = ready
        .0
        .run(&start, 0, &ready.1, |_| None, Threads::ONE)
        .expect("a run of it");
    if run.restore(body).is_ok() {
        let kept = run.checkpoint();
        run.restore(&kept)
            .expect("what was accepted is accepted again");
    }
}
