//! `runs.*`: one row for each planned task, whatever became of it, the same in each format.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::PathBuf;
use std::sync::Arc;

use common::grid::{Folder, Grid};
use common::ids::{TaskId, WorkerId};
use common::pb::encode_evidence;
use common::protocol::{Attempt, FailureKind, Place, Profile};
use common::record::{Attainment, BaselineEvidence, Evidence, Outcome, RunEvidence, Telemetry};
use coordinator::at_rest::{self, Kept};
use coordinator::core::{Opened, Record, SweepState, Ticket};
use coordinator::explain::{self, What};
use coordinator::export::runs::{self, Format};
use coordinator::store::{Identity, SqliteStore, Store, StoredSweep};
use coordinator::submission;
use coordinator::sweep::{Contents, DataTable, GridSweep, KeepMinima};
use coordinator::verify;
use coordinator::workload::{PlannedWork, Workload};
use parquet::basic::{LogicalType, Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

/// Three widths and four seeds; one cell stands twice, and its tasks are equal.
const GRID: &str = "
name: table
data: {generate: teacher, rows: 10, inputs: 2, outputs: 1, width: 2, seed: 0}
axes:
  width: [1, 2, 3]
  activation: [tanh, {formula: \"t + 0\"}]
  seed: {start: 0, count: 4}
include:
  - {width: 3, activation: tanh, seed: 1}
";

fn sweep() -> GridSweep {
    let folder = Folder {
        base: PathBuf::new(),
    };
    let grid = Grid::load("grid", GRID.as_bytes(), &folder).unwrap_or_else(|m| panic!("{m}"));
    let data = DataTable::new(Contents::new());
    GridSweep::new(Arc::new(grid), data, KeepMinima::None)
}

const WORKER: WorkerId = WorkerId([7; 16]);

fn worker() -> Record {
    let profile = Profile {
        name: "w".to_owned(),
        host: "elsewhere".to_owned(),
        program_version: "0.1.0".to_owned(),
        numerics_version: 1,
        numeric_levels: Vec::new(),
        slots: 1,
        threads_per_slot: 1,
        memory_per_slot: None,
    };
    Record::Worker {
        id: WORKER,
        profile: Arc::new(profile),
    }
}

/// A store in which the runs before the 20th position are recorded, in an order of its own.
struct Scene {
    store: SqliteStore,
    stored: StoredSweep,
    /// The task at each position.
    tasks: Vec<TaskId>,
    _folder: tempfile::TempDir,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), &Identity::default()).unwrap();
    let mut sweep = sweep();
    let grid = Arc::clone(sweep.grid());
    let stored = submission::add(&store, &grid, sweep.contents(), 0).await;
    let stored = stored.unwrap();
    let mut records = vec![worker()];
    let result = |task: TaskId, position: u64, evidence: &Evidence| Record::Result {
        task,
        place: Place {
            sweep: stored.number,
            position,
            baseline: matches!(evidence, Evidence::Baseline(_)),
        },
        worker: WORKER,
        attempt: Attempt::new(1, position as u32),
        evidence: Opened::open(encode_evidence(evidence)).unwrap(),
        telemetry: Telemetry {
            seconds: 1.5,
            cpu_seconds: 1.25,
            peak_memory: 1 << 20,
        },
        theta: None,
    };
    let mut tasks = Vec::new();
    let mut solved = std::collections::BTreeSet::new();
    for position in 0..sweep.len() {
        let planned = sweep.task(position);
        if let PlannedWork::Run { baseline, .. } = planned.work
            && solved.insert(TaskId::from(baseline))
        {
            let evidence = Evidence::Baseline(Box::new(BaselineEvidence {
                value: 0.5,
                lower_bound: 0.5,
                status: Attainment::Attained,
                gradient_norm: 0.0,
                minimizer: vec![0.0],
                outputs: 1,
                features: 1,
                rows: 10,
            }));
            records.push(result(baseline.into(), position, &evidence));
        }
        tasks.push(planned.id);
    }
    for position in (0..20_u64).rev() {
        let run = match position {
            3 => RunEvidence {
                value: f64::NAN,
                gradient_norm: f64::INFINITY,
                ..RunEvidence::empty(Outcome::NonFinite)
            },
            4 => RunEvidence {
                value: 0.75,
                min_eigenvalue: Some(-0.0),
                ..RunEvidence::empty(Outcome::CertifiedMinimum)
            },
            n => RunEvidence {
                objective: 0.1 + n as f64 / 3.0,
                value: 0.1 + n as f64 / 1e3,
                norm_w: 1.0,
                norm_wv: Some(1.0),
                ..RunEvidence::empty(Outcome::CertifiedMinimum)
            },
        };
        let task = tasks[position as usize];
        records.push(result(task, position, &Evidence::Run(Box::new(run))));
    }
    let failed = tasks[21];
    let place = Place {
        sweep: stored.number,
        position: 21,
        baseline: false,
    };
    for attempt in [1, 2] {
        records.push(Record::Failure {
            task: failed,
            place,
            worker: WORKER,
            attempt: Attempt::new(1, 100 + attempt),
            kind: FailureKind::Crash,
            message: format!("attempt {attempt}, \"quoted\""),
        });
    }
    records.push(Record::SetAside {
        task: failed,
        place,
    });
    store.persist(Ticket(1), records.into()).await.unwrap();
    Scene {
        store,
        stored,
        tasks,
        _folder: folder,
    }
}

impl Scene {
    async fn export(&self, format: Format) -> Vec<u8> {
        let mut sweep = sweep();
        let written = runs::write(&self.store, &self.stored, &mut sweep, format, Vec::new()).await;
        let (rows, bytes) = written.unwrap();
        assert_eq!(rows, 24);
        bytes
    }
}

type Row = serde_json::Map<String, serde_json::Value>;

fn json_rows(bytes: &[u8]) -> Vec<Row> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[tokio::test]
async fn every_planned_task_has_one_row_in_the_order_of_the_grid() {
    let scene = scene().await;
    let rows = json_rows(&scene.export(Format::JsonLines).await);
    // The included task equals one of the product.
    assert_eq!(scene.tasks.len(), 25);
    assert_eq!(scene.tasks[24], scene.tasks[17]);
    let tasks: Vec<String> = scene.tasks[..24].iter().map(ToString::to_string).collect();
    let found: Vec<&str> = rows.iter().map(|r| r["task"].as_str().unwrap()).collect();
    assert_eq!(found, tasks);
    let statuses: Vec<&str> = rows.iter().map(|r| r["status"].as_str().unwrap()).collect();
    assert!(statuses[..20].iter().all(|s| *s == "recorded"));
    assert_eq!(statuses[20..], ["missing", "failed", "missing", "missing"]);

    let row = &rows[4];
    assert_eq!((&row["width"], &row["seed"]), (&1.into(), &0.into()));
    assert_eq!(row["activation"], r#"{"formula":"t + 0"}"#);
    assert_eq!((&row["cell"], &row["position"]), (&1.into(), &4.into()));
    assert_eq!(row["verdict"], "violation");
    assert_eq!(
        (&row["value"], &row["excess"]),
        (&0.75.into(), &0.25.into())
    );
    assert_eq!(row["baseline_value"], 0.5);
    assert_eq!(row["telemetry_host"], "elsewhere");
    assert_eq!(row["telemetry_seconds"], 1.5);
    assert_eq!(
        (&row["telemetry_epoch"], &row["telemetry_attempt"]),
        (&1.into(), &4.into())
    );
    let failed = &rows[21];
    assert_eq!(failed["value"], serde_json::Value::Null);
    assert_eq!(failed["telemetry_failures"], 2);
    assert_eq!(failed["telemetry_failure_kind"], "crash");
    assert_eq!(failed["telemetry_failure_message"], "attempt 2, \"quoted\"");
}

#[tokio::test]
async fn tasks_of_a_cancelled_sweep_that_never_ran_are_cancelled() {
    let mut scene = scene().await;
    scene.stored.state = SweepState::Cancelled;
    let rows = json_rows(&scene.export(Format::JsonLines).await);
    let of = |status: &str| rows.iter().filter(|r| r["status"] == status).count();
    assert_eq!((of("recorded"), of("failed"), of("cancelled")), (20, 1, 3));
}

#[tokio::test]
async fn runs_have_failed_with_their_baseline_wherever_a_store_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), &Identity::default()).unwrap();
    let mut sweep = sweep();
    let grid = Arc::clone(sweep.grid());
    let stored = submission::add(&store, &grid, sweep.contents(), 0).await;
    let mut stored = stored.unwrap();
    stored.state = SweepState::Finished;
    let PlannedWork::Run { baseline, .. } = sweep.task(0).work else {
        panic!("a grid plans runs");
    };
    // All cells have this one: nothing but it is marked.
    let (task, place) = (
        TaskId::from(baseline),
        Place {
            sweep: stored.number,
            position: 0,
            baseline: true,
        },
    );
    let failure = Record::Failure {
        task,
        place,
        worker: WORKER,
        attempt: Attempt::new(1, 1),
        kind: FailureKind::Crash,
        message: "gone".to_owned(),
    };
    let records = vec![worker(), failure, Record::SetAside { task, place }];
    store.persist(Ticket(1), records.into()).await.unwrap();

    let written = runs::write(&store, &stored, &mut sweep, Format::JsonLines, Vec::new()).await;
    let rows = json_rows(&written.unwrap().1);
    assert_eq!(rows.len(), 24);
    assert!(rows.iter().all(|row| row["status"] == "failed"), "{rows:?}");

    let kept = || Kept {
        stored: stored.clone(),
        grid: Arc::clone(&grid),
        data: DataTable::new(Contents::new()),
    };
    let summary = at_rest::summary(&store, kept()).await.unwrap();
    let totals = &summary.totals;
    assert_eq!((totals.failed, totals.missing), (24, 0));
    assert!(!summary.sweep.partial);

    let (complete, ..) = verify::of_kept(&store, kept(), false).await.unwrap();
    assert_eq!((complete.failed, complete.missing), (24, 0));
    assert!(complete.holds(), "{:?}", complete.faults);

    let nowhere = async |_| std::collections::HashMap::new();
    let told = explain::explain(&store, kept(), &What::Position(3), nowhere).await;
    let state = told.unwrap()["state"].to_string();
    assert!(state.contains("because its baseline failed"), "{state}");
}

#[tokio::test]
async fn the_three_formats_say_the_same_to_the_last_bit() {
    let scene = scene().await;
    let rows = json_rows(&scene.export(Format::JsonLines).await);

    let csv = scene.export(Format::Csv).await;
    let mut csv = csv::Reader::from_reader(csv.as_slice());
    let header = csv.headers().unwrap().clone();
    let lines: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(header.len(), row.len());
        for (name, cell) in header.iter().zip(line) {
            let expected = match &row[name] {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(cell, expected, "{name}");
        }
    }
    assert_eq!(
        &lines[3][header.iter().position(|n| n == "value").unwrap()],
        "NaN"
    );

    let bytes = scene.export(Format::Parquet).await;
    let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let names: Vec<String> = file
        .metadata()
        .file_metadata()
        .schema_descr()
        .columns()
        .iter()
        .map(|c| c.name().to_owned())
        .collect();
    assert_eq!(names, header.iter().collect::<Vec<_>>());
    let records: Vec<_> = file
        .get_row_iter(None)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(&rows) {
        for (name, field) in record.get_column_iter() {
            let found = match field {
                Field::Null => serde_json::Value::Null,
                Field::Bool(b) => (*b).into(),
                Field::Long(n) => (*n).into(),
                Field::ULong(n) => (*n).into(),
                Field::Str(text) => text.clone().into(),
                Field::Double(x) if x.is_nan() => "NaN".into(),
                Field::Double(x) if x.is_infinite() => "Infinity".into(),
                Field::Double(x) => (*x).into(),
                // The other formats have a text.
                Field::TimestampMillis(_) => continue,
                other => panic!("{name}: {other:?}"),
            };
            assert_eq!(found, row[name], "{name}");
        }
    }
}

#[tokio::test]
async fn parquet_columns_have_the_types_of_what_they_hold() {
    let scene = scene().await;
    let bytes = scene.export(Format::Parquet).await;
    let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let typed = |name: &str| {
        let column = schema.columns().iter().find(|c| c.name() == name);
        let column = column.unwrap_or_else(|| panic!("no column {name}"));
        (column.physical_type(), column.logical_type_ref().cloned())
    };
    assert_eq!(typed("width"), (Type::INT64, None));
    assert_eq!(typed("regularizer.predictor_ridge"), (Type::DOUBLE, None));
    assert_eq!(typed("polish"), (Type::BOOLEAN, None));
    let text = (Type::BYTE_ARRAY, Some(LogicalType::String));
    assert_eq!(typed("activation"), text);
    assert_eq!(typed("task"), text);
    assert_eq!(typed("value"), (Type::DOUBLE, None));
    assert_eq!(typed("certified"), (Type::BOOLEAN, None));
    let seed = Some(LogicalType::integer(64, false));
    assert_eq!(typed("seed"), (Type::INT64, seed));
    let (physical, logical) = typed("telemetry_recorded_at");
    assert_eq!(physical, Type::INT64);
    assert!(format!("{logical:?}").contains("Timestamp"), "{logical:?}");
    // What depends on who computed it stands behind everything else.
    let names: Vec<&str> = schema.columns().iter().map(|c| c.name()).collect();
    let first = names
        .iter()
        .position(|n| n.starts_with("telemetry_"))
        .unwrap();
    assert!(names[first..].iter().all(|n| n.starts_with("telemetry_")));
}
