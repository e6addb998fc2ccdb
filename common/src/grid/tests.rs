use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::canon::{CellIdentity, DataIdentity, StartIdentity, task_id};
use crate::decode::{FIELDS, Shape};
use crate::ids;
use crate::spec::{Activation, Body, DataSpec, Optimizer, Start, StartKind};

const CONTRACT: &str = include_str!("../../tests/grids/contract.yaml");

fn load(text: &str) -> Result<Grid, Mistakes> {
    Grid::load("grid.yaml", text.as_bytes(), &Uploaded::default())
}

fn grid(text: &str) -> Grid {
    load(text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The values of one field over all tasks.
fn column<T>(grid: &Grid, value: impl Fn(&TaskSpec) -> T) -> Vec<T> {
    grid.tasks(0).map(|t| value(&t.spec)).collect()
}

fn depths(text: &str) -> Vec<usize> {
    column(&grid(text), |t| t.cell.model.depth)
}

fn ridges(text: &str) -> Vec<f64> {
    column(&grid(text), |t| t.cell.regularizer.predictor_ridge)
}

fn messages(text: &str) -> Vec<String> {
    let mistakes = load(text).expect_err(text);
    mistakes
        .diagnostics
        .iter()
        .map(|d| d.message.clone())
        .collect()
}

#[test]
fn the_contracts_grid_is_its_product_less_the_excluded_plus_the_included() {
    let grid = grid(CONTRACT);
    assert_eq!(grid.name(), "depth-on-diabetes");
    assert_eq!((grid.len(), grid.excluded()), (4 * 3 * 16 - 16 + 1, 16));
    let first = grid.task(0).unwrap().spec;
    assert_eq!((first.cell.model.depth, first.seed), (1, 0));
    assert_eq!(first.cell.model.activation, Activation::Tanh);
    let second = grid.task(1).unwrap().spec;
    assert_eq!(second.seed, 1, "the last axis is the fastest");
    assert_eq!(
        grid.task(16).unwrap().spec.cell.model.activation,
        Activation::Softplus
    );
    let last = grid.task(grid.len() - 1).unwrap().spec;
    assert_eq!((last.cell.model.depth, last.seed), (16, 0));
    assert_eq!(grid.task(grid.len()), None);
    assert!(grid.is_reproducible() && grid.search().is_none() && grid.files().is_empty());
    let axes: Vec<_> = grid.axes().map(|a| (a.name, a.len)).collect();
    assert_eq!(axes, [("depth", 4), ("activation", 3), ("seed", 16)]);
}

#[test]
fn a_thousand_million_tasks_are_a_number_and_a_rule() {
    let grid = grid(
        "data: iris\naxes: {depth: [1, 2, 3, 4, 5], width: [2, 4], seed: {start: 7, count: 100000000}}\n\
         exclude: [{depth: 3, seed: 99}, {width: 2, depth: 1}]",
    );
    assert_eq!(grid.len(), 1_000_000_000 - 2 - 100_000_000);
    let task = grid.task(grid.len() - 1).unwrap();
    assert_eq!(
        (task.spec.cell.model.depth, task.spec.seed),
        (5, 100_000_006)
    );
    assert_eq!(grid.find(&task.spec), Some(grid.len() - 1));
    let near: Vec<u64> = grid
        .tasks(300_000_090)
        .take(4)
        .map(|t| t.spec.seed)
        .collect();
    assert_eq!(near, [97, 98, 100, 101]);
}

#[test]
fn lists_and_rules_give_the_values_the_contract_says() {
    let with = |axis: &str| format!("data: iris\naxes: {{depth: {axis}}}");
    assert_eq!(depths(&with("[3, 1]")), [3, 1]);
    assert_eq!(depths(&with("{start: 2, count: 3}")), [2, 3, 4]);
    assert_eq!(depths(&with("{from: 1, to: 7, step: 3}")), [1, 4, 7]);
    assert_eq!(
        depths(&with("{from: 1, to: 6, step: 4}")),
        [1, 5],
        "5 is below 6 + 2, 9 is not"
    );
    assert_eq!(
        depths(&with("{from: 1, to: 7, step: 4}")),
        [1, 5, 9],
        "9 is 7 + 2"
    );
    assert_eq!(
        depths(&with("{log: {from: 1, to: 64, count: 7}}")),
        [1, 2, 4, 8, 16, 32, 64]
    );

    let with = |axis: &str| format!("data: iris\naxes: {{predictor_ridge: {axis}}}");
    assert_eq!(
        ridges(&with("{from: 0, to: 1, step: 0.25}")),
        [0.0, 0.25, 0.5, 0.75, 1.0]
    );
    assert_eq!(ridges(&with("{from: 0.5, to: 0.5, step: 1}")), [0.5]);
    assert_eq!(
        ridges(&with("{log: {from: 1e-4, to: 1, count: 5}}")),
        [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    );
    let thirds = ridges(&with("{log: {from: 0.1234567890123456, to: 10, count: 3}}"));
    assert_eq!(
        (thirds[0], thirds[2]),
        (0.1234567890123456, 10.0),
        "the ends are exact"
    );
    assert_eq!(
        thirds[1], 1.11111110611,
        "√(0.1234567890123456·10) to 12 digits"
    );
    let falling = ridges(&with("{log: {from: 1, to: 1e-2, count: 3}}"));
    assert_eq!(falling, [1.0, 0.1, 0.01]);
}

#[test]
fn names_have_their_short_and_their_long_form() {
    let text = |training: &str| format!("data: iris\naxes: {{seed: [0]}}\n{training}");
    let same = |a: &str, b: &str| {
        let (a, b) = (grid(&text(a)), grid(&text(b)));
        assert_eq!(a.task(0), b.task(0));
        assert_eq!(a.sha256(), b.sha256());
    };
    same("training: {start: dead}", "fixed: {start: dead}");
    same("training: {start: dead}", "fixed: {training.start: dead}");
    same(
        "training: {budget: {seconds: 3}}",
        "fixed: {budget.seconds: 3}",
    );
    same(
        "fixed: {predictor_ridge: 1}",
        "fixed: {regularizer: {predictor_ridge: 1.0}}",
    );
    same(
        "certificate: {gradient: 1e-6}",
        "fixed: {certificate.gradient: 1e-6}",
    );
    let by_axis = |axis: &str| {
        grid(&format!("data: iris\naxes: {{{axis}}}"))
            .task(0)
            .unwrap()
            .spec
    };
    assert_eq!(
        by_axis("optimizer: [adam]"),
        by_axis("training.optimizer: [adam]")
    );
    assert_eq!(
        by_axis("budget: [{seconds: 2}]"),
        by_axis("training.budget.seconds: [2]")
    );
    assert_eq!(
        by_axis("regularizer: [{body_decay: 2}]"),
        by_axis("body_decay: [2]")
    );
}

#[test]
fn an_axis_of_maps_sets_several_fields_at_once() {
    let grid = grid(
        "data: iris\naxes:\n  regularizer:\n  - {predictor_ridge: 0}\n  - {predictor_ridge: 1, head_decay: 2}\n",
    );
    let values = column(&grid, |t| t.cell.regularizer);
    assert_eq!(values.len(), 2);
    assert_eq!(
        (values[0].predictor_ridge, values[0].head_decay),
        (0.0, 0.0)
    );
    assert_eq!(
        (values[1].predictor_ridge, values[1].head_decay),
        (1.0, 2.0)
    );
    assert_eq!(values[0].body_decay, 1e-3);
}

#[test]
fn every_field_can_be_an_axis_and_fixed() {
    for info in FIELDS {
        let value = match info.shape {
            Shape::Flag => "false",
            Shape::Whole { .. } => "3",
            Shape::Real { .. } => "0.5",
            Shape::Own => match info.field {
                Field::Data => "{generate: spirals, rows: 9}",
                Field::Features => "{polynomial: 2}",
                Field::Body => "residual",
                Field::Activation => "{formula: t*t}",
                Field::Skip => "none",
                Field::Freeze => "body",
                Field::Image => "[2, 2, 1]",
                Field::Loss => "{huber: 0.5}",
                Field::Optimizer => "gd",
                _ => "{large: {scale: 2}}",
            },
        };
        for name in info.names {
            let data = if info.field == Field::Data {
                ""
            } else {
                "data: iris\n"
            };
            let axis = grid(&format!("{data}axes: {{{name}: [{value}]}}"));
            let fixed = grid(&format!("{data}fixed: {{{name}: {value}}}"));
            let task = axis.task(0).unwrap();
            let mut same = fixed.task(0).unwrap();
            // What seconds limit belongs to one grid.
            Arc::make_mut(&mut same.spec.cell).sweep = task.spec.cell.sweep;
            assert_eq!(task, same, "{name}");
            let plain = grid("data: iris").task(0).unwrap();
            assert_ne!(task.spec, plain.spec, "{name} has no effect");
        }
    }
}

#[test]
fn zipped_axes_advance_together_where_the_first_stands() {
    let grid = grid(
        "data: iris\naxes: {depth: [1, 2], seed: [7, 8], width: [3, 4]}\nzip: [[width, depth]]",
    );
    let tasks = column(&grid, |t| (t.cell.model.depth, t.seed, t.cell.model.width));
    assert_eq!(tasks, [(1, 7, 3), (1, 8, 3), (2, 7, 4), (2, 8, 4)]);
    let mut factors: Vec<_> = grid.factors().collect();
    factors
        .iter_mut()
        .for_each(|(names, _)| names.sort_unstable());
    assert_eq!(factors, [(vec!["depth", "width"], 2), (vec!["seed"], 2)]);
}

#[test]
fn exclusions_take_values_lists_of_values_and_fixed_fields() {
    let base =
        "data: iris\naxes: {depth: [1, 2, 3], seed: {start: 0, count: 10}}\nfixed: {loss: huber}\n";
    let count = |exclude: &str| grid(&format!("{base}exclude: {exclude}")).len();
    assert_eq!(count("[]"), 30);
    assert_eq!(count("[{depth: 2}]"), 20);
    assert_eq!(count("[{depth: [2, 3], seed: [0, 4]}]"), 26);
    assert_eq!(count("[{depth: 2, seed: {start: 0, count: 4}}]"), 26);
    assert_eq!(count("[{depth: 2}, {seed: 3}]"), 18);
    assert_eq!(count("[{depth: 2, loss: huber}]"), 20);
    let zipped = "data: iris\naxes: {depth: [1, 2], width: [3, 4]}\nzip: [[depth, width]]\n";
    assert_eq!(
        grid(&format!("{zipped}exclude: [{{depth: 1, width: 3}}]")).len(),
        1
    );
    assert_eq!(
        messages(&format!("{zipped}exclude: [{{depth: 1, width: 4}}]")),
        ["this excludes nothing: these values never stand together"]
    );
}

#[test]
fn included_tasks_come_last_and_may_be_products_themselves() {
    let grid = grid(
        "data: iris\naxes: {depth: [1, 2], seed: [0]}\n\
         include: [{depth: 9, seed: 5}, {seed: {start: 1, count: 2}, depth: [7, 8]}]",
    );
    let tasks = column(&grid, |t| (t.cell.model.depth, t.seed));
    assert_eq!(
        tasks,
        [(1, 0), (2, 0), (9, 5), (7, 1), (8, 1), (7, 2), (8, 2)]
    );
    let mut cursor = Cursor::default();
    for task in grid.tasks(0) {
        assert_eq!(grid.task(task.position).as_ref(), Some(&task));
        let spot = grid.spot(task.position).unwrap();
        assert_eq!(grid.spot_from(task.position, &mut cursor), Some(spot));
        assert_eq!((spot.cell, spot.start), (task.cell, &task.spec.start));
        if reads_seed(&task.spec.cell, &task.spec.start) {
            assert_eq!(spot.seed, task.spec.seed);
        }
        assert_eq!(grid.find(&task.spec), Some(task.position));
    }
}

#[test]
fn tasks_of_a_cell_share_it_whichever_axis_is_faster() {
    for axes in [
        "{depth: [1, 2], seed: [0, 1, 2]}",
        "{seed: [0, 1, 2], depth: [1, 2]}",
    ] {
        let grid = grid(&format!("data: iris\naxes: {axes}"));
        let cells: Vec<Arc<CellSpec>> = grid.tasks(0).map(|t| t.spec.cell).collect();
        let distinct: HashSet<*const CellSpec> = cells.iter().map(Arc::as_ptr).collect();
        assert_eq!(distinct.len(), 2, "{axes}");
        let (a, b) = (grid.task(0).unwrap(), grid.task(0).unwrap());
        assert!(Arc::ptr_eq(&a.spec.cell, &b.spec.cell));
        let indices: HashSet<CellIndex> = grid.tasks(0).map(|t| t.cell).collect();
        assert_eq!(indices.len(), 2);
    }
}

#[test]
fn tasks_that_draw_nothing_have_no_seed() {
    let mut files = Uploaded::default();
    files
        .contents
        .insert("p.json".into(), Arc::from(&b"{}"[..]));
    let text = "data: iris\naxes: {seed: [3, 4], start: [standard, {point: p.json}]}";
    let grid = Grid::load("g", text.as_bytes(), &files).unwrap();
    assert_eq!(column(&grid, |t| t.seed), [3, 0, 4, 0]);
    assert_eq!(
        grid.find(&grid.task(3).unwrap().spec),
        Some(1),
        "equal tasks are found once"
    );
    assert_eq!(grid.files().len(), 1);
    let empty: [u8; 32] = sha2_of(b"{}");
    assert_eq!(grid.files()[0].id, BlobId(empty));
    let Start::Point(file) = grid.task(1).unwrap().spec.start else {
        panic!("a drawn start")
    };
    assert_eq!(file.sha256, ids::to_hex(&empty));
}

fn sha2_of(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

#[test]
fn files_on_this_machine_are_found_beside_the_grid() {
    let base = std::env::temp_dir().join(format!("common-grid-{}", std::process::id()));
    std::fs::create_dir_all(&base).unwrap();
    std::fs::write(base.join("d.csv"), "a,b\n1,2\n").unwrap();
    let folder = Folder { base: base.clone() };
    let there = Grid::load("g", b"data: {file: d.csv}", &folder);
    let gone = Grid::load("g", b"data: {file: e.csv}", &folder);
    std::fs::remove_dir_all(&base).unwrap();
    assert_eq!(there.unwrap().files()[0].path, "d.csv");
    assert!(
        gone.unwrap_err()
            .to_string()
            .contains("cannot read `e.csv`: there is no such file")
    );
}

#[test]
fn zipping_an_axis_with_mistakes_is_no_second_mistake() {
    let text = "data: iris\naxes: {width: [two], depth: [1], seed: [0]}\nzip: [[width, depth]]";
    let found = messages(text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`width`"), "{found:?}");
    let text = "data: iris\naxes: {width: [two], depth: [1]}\nzip: [[width, dept]]";
    let found = messages(text);
    assert_eq!(found[1..], ["unknown axis `dept`"]);
}

#[test]
fn what_seconds_limit_belongs_to_one_grid() {
    let id = |text: &str, n: u64| {
        let data = DataIdentity {
            arrays: [7; 32],
            image: None,
        };
        let grid = grid(text);
        let walked = grid.tasks(n).next().unwrap().spec;
        assert_eq!(grid.task(n).unwrap().spec, walked);
        assert_eq!(grid.find(&walked), Some(n));
        task_id(&walked, &data).unwrap()
    };
    let limited = |name: &str, width: &str| {
        format!(
            "name: {name}\ndata: iris\naxes: {{width: {width}, seed: [0, 1]}}\n\
             training: {{budget: {{evaluations: 5000, seconds: 5}}}}"
        )
    };
    // The same grid goes on, whatever it is called.
    assert_eq!(id(&limited("a", "[2]"), 1), id(&limited("b", "[2]"), 1));
    assert_ne!(id(&limited("a", "[2]"), 1), id(&limited("a", "[2, 3]"), 1));
    // What nothing but evaluations limits is shared, also beside what seconds limit.
    let mixed = |seconds: &str| {
        format!(
            "data: iris\naxes: {{budget.seconds: {seconds}, seed: [0, 1]}}\nfixed: {{width: 2}}"
        )
    };
    assert_eq!(id(&mixed("[null]"), 1), id(&mixed("[null, 5]"), 1));
    assert_ne!(id(&mixed("[null, 5]"), 3), id(&mixed("[null, 5, 6]"), 3));
}

#[test]
fn the_sweeps_own_settings_are_read() {
    let grid = grid(
        "data: iris\ncertificate: {min_certified: 2, min_share: 0.25, gradient: 1e-6}\n\
         search: {worst: {runs: 100, round: 10}}\ntraining: {budget: {seconds: 1.5}}",
    );
    assert_eq!(
        (grid.rules().min_certified, grid.rules().min_share),
        (2, 0.25)
    );
    let search = Search {
        runs: 100,
        round: 10,
        seed: 0,
    };
    assert_eq!(grid.search(), Some(search));
    assert!(!grid.is_reproducible());
    assert_eq!(grid.task(0).unwrap().spec.cell.certificate.gradient, 1e-6);
    assert_eq!(grid.task(0).unwrap().spec.cell.optimizer, Optimizer::Auto);
    assert_eq!(
        messages("data: iris\nsearch: {worst: {}}"),
        ["`worst` has no `runs`: how many to add"]
    );
    assert_eq!(
        messages("data: iris\nversion: 2"),
        ["`version` must be at most 1, found 2"]
    );
}

#[test]
fn a_grid_is_known_by_what_it_says_not_by_how() {
    let hash = |text: &str| grid(text).sha256();
    let base =
        hash("data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}");
    for same in [
        "name: other\ndata: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}",
        "# words\nfixed:\n  loss: {huber: 1}\n  width: 8\naxes:\n  depth: [1, 2]\n  seed: {count: 3}\ndata: {name: iris}",
        "{\"data\": \"iris\", \"axes\": {\"depth\": [1, 2], \"seed\": {\"start\": 0, \"count\": 3}}, \"fixed\": {\"loss\": \"huber\"}}",
    ] {
        assert_eq!(hash(same), base, "{same}");
    }
    for other in [
        "data: wine\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}",
        "data: iris\naxes: {depth: [2, 1], seed: {start: 0, count: 3}}\nfixed: {loss: huber}",
        "data: iris\naxes: {seed: {start: 0, count: 3}, depth: [1, 2]}\nfixed: {loss: huber}",
        "data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 4}}\nfixed: {loss: huber}",
        "data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}",
        "data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}\nexclude: [{depth: 1}]",
        "data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}\ninclude: [{depth: 3, seed: 0}]",
        "data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}\nsearch: {worst: {runs: 1}}",
        "data: iris\naxes: {depth: [1, 2], seed: {start: 0, count: 3}}\nfixed: {loss: huber}\ncertificate: {min_share: 0}",
    ] {
        assert_ne!(hash(other), base, "{other}");
    }
}

#[test]
fn rules_are_checked_where_a_task_stands_and_only_there() {
    let base = "data: iris\naxes: {body: [mlp, bottleneck], bottleneck: [2, 8], width: [4, 16]}\n";
    assert_eq!(
        messages(base),
        ["`bottleneck` must be smaller than `width`, found 8 with width 4"]
    );
    let excluded = format!("{base}exclude: [{{body: bottleneck, bottleneck: 8, width: 4}}]");
    assert_eq!(grid(&excluded).len(), 7);
    let included = format!("{excluded}\ninclude: [{{body: aggregated, bottleneck: 2, width: 4}}]");
    assert_eq!(
        messages(&included),
        ["body `aggregated` needs `cardinality`"]
    );
    let long = "data: iris\naxes: {width: {start: 1, count: 1000000}, seed: [0]}\n\
                fixed: {body: bottleneck, bottleneck: 4}";
    let found = messages(long);
    assert_eq!(
        found[0],
        "`bottleneck` must be smaller than `width`, found 4 with width 1"
    );
    let digits = grid("data: digits\nfixed: {body: conv}").task(0).unwrap();
    assert_eq!(digits.spec.cell.model.image, Some([8, 8, 1]));
}

#[test]
fn data_are_asked_about_once_for_each_combination_that_decides() {
    let text = "axes:\n  data: [iris, wine]\n  loss: [squared, poisson]\n  depth: [1, 2]\n  seed: {count: 1000}\n\
                exclude: [{data: wine, loss: poisson}]\n";
    let grid = grid(text);
    let mut asked = Vec::new();
    let facts = grid.check_data(|cell| {
        asked.push((cell.data.clone(), cell.loss.name()));
        Ok(asked.len())
    });
    let named = |name: &str| DataSpec::Named(name.into());
    let expected = [
        (named("iris"), "squared"),
        (named("iris"), "poisson"),
        (named("wine"), "squared"),
    ];
    assert_eq!(asked, expected);
    assert_eq!(facts.unwrap().len(), 3);
    let mistakes = grid
        .check_data(|cell| match cell.loss.name() {
            "poisson" => Err("`poisson` needs targets of at least 0".to_string()),
            _ => Ok(()),
        })
        .unwrap_err();
    insta::assert_snapshot!(mistakes, @r"
    error: `poisson` needs targets of at least 0
     --> grid.yaml:2:10
      |
    2 |   data: [iris, wine]
      |          ^^^^
    3 |   loss: [squared, poisson]
      |                   ------- `loss` is poisson here
    ");
}

#[test]
fn identities_of_a_grids_tasks_are_those_of_their_specifications() {
    let grid = grid(CONTRACT);
    let data = DataIdentity {
        arrays: [1; 32],
        image: None,
    };
    let mut seen = HashSet::new();
    for task in grid.tasks(0) {
        let cell = CellIdentity::new(&task.spec.cell, &data).unwrap();
        let start = StartIdentity::new(&task.spec.start).unwrap();
        let id = cell.task(&start, task.spec.seed);
        assert_eq!(task_id(&task.spec, &data), Ok(id));
        assert!(seen.insert(id), "task {} equals another", task.position);
    }
}

fn as_json(node: &crate::node::Node) -> serde_json::Value {
    use crate::node::Value;
    match &node.value {
        Value::Null | Value::Invalid => serde_json::Value::Null,
        Value::Bool(x) => (*x).into(),
        Value::Int(x) => u64::try_from(*x).map_or_else(|_| (*x as i64).into(), Into::into),
        Value::Float(x) => (*x).into(),
        Value::Str(x) => x.clone().into(),
        Value::Seq(list) => list.iter().map(as_json).collect(),
        Value::Map(map) => {
            let entries = map.iter().map(|e| (e.key.clone(), as_json(&e.value)));
            serde_json::Value::Object(entries.collect())
        }
    }
}

fn parsed(text: &str) -> serde_json::Value {
    let mut found = Diagnostics::new();
    as_json(&crate::node::parse(text, crate::node::Limits::GRID, &mut found).unwrap())
}

static VALIDATOR: std::sync::LazyLock<jsonschema::Validator> =
    std::sync::LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

#[test]
fn the_schema_accepts_what_the_decoder_accepts_and_sees_plain_mistakes() {
    for good in [
        CONTRACT,
        "data: {file: x.csv, targets: y, mask: [m]}",
        "axes: {data: [{generate: teacher, rows: 3, inputs: 2, body: preact}], training.start: [dead, {small: {scale: 2}}]}",
        "data: iris\naxes: {predictor_ridge: {log: {from: 1, to: 2, count: 3}}, budget: [{seconds: null}]}",
        "data: iris\nexclude: [{depth: [1, 2], regularizer: {body_decay: 0}}]\nfixed: {image: [1, 2, 3], freeze: null}",
        "data: {generate: sawtooth, rows: 3, folds: 2}\nsearch: {worst: {runs: 3}}",
    ] {
        let errors: Vec<String> = VALIDATOR
            .iter_errors(&parsed(good))
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{good}: {errors:?}");
    }
    for bad in [
        "data: diabets",
        "axes: {activaton: [tanh]}",
        "axes: {depth: 3}",
        "axes: {depth: [0]}",
        "axes: {depth: []}",
        "axes: {polish: {from: 0, to: 1, step: 1}}",
        "fixed: {activation: {tanh: 1}}",
        "fixed: {regularizer: {ridge: 1}}",
        "certificate: {min_share: 2}",
        "training: {depth: 2}",
        "zip: [depth, width]",
    ] {
        assert!(!VALIDATOR.is_valid(&parsed(bad)), "{bad}");
    }
}

/// A random grid of three axes, as text and as what it should list.
#[derive(Debug, Clone)]
struct Small {
    depths: Vec<u64>,
    widths: Vec<u64>,
    seeds: u64,
    excluded: Vec<(Option<u64>, Option<u64>, Option<u64>)>,
}

impl Small {
    fn text(&self) -> String {
        let mut text = format!(
            "data: iris\naxes:\n  depth: {:?}\n  seed: {{start: 5, count: {}}}\n  width: {:?}\nexclude:\n",
            self.depths, self.seeds, self.widths
        );
        for (depth, seed, width) in &self.excluded {
            let parts = [("depth", depth), ("seed", seed), ("width", width)];
            let parts = parts
                .iter()
                .filter_map(|(k, v)| v.map(|v| format!("{k}: {v}")));
            text.push_str(&format!("- {{{}}}\n", parts.collect::<Vec<_>>().join(", ")));
        }
        text
    }

    fn listed(&self) -> Vec<(u64, u64, u64)> {
        let mut out = Vec::new();
        for &d in &self.depths {
            for s in 5..5 + self.seeds {
                for &w in &self.widths {
                    let hits = |(a, b, c): &(Option<u64>, Option<u64>, Option<u64>)| {
                        a.is_none_or(|a| a == d)
                            && b.is_none_or(|b| b == s)
                            && c.is_none_or(|c| c == w)
                    };
                    if !self.excluded.iter().any(hits) {
                        out.push((d, s, w));
                    }
                }
            }
        }
        out
    }
}

fn small() -> impl Strategy<Value = Small> {
    let distinct =
        || prop::collection::hash_set(1u64..9, 1..4).prop_map(|s| s.into_iter().collect());
    (distinct(), distinct(), 1u64..5).prop_flat_map(
        |(depths, widths, seeds): (Vec<u64>, Vec<u64>, u64)| {
            let rule = (
                prop::option::of(prop::sample::select(depths.clone())),
                prop::option::of(5..5 + seeds),
                prop::option::of(prop::sample::select(widths.clone())),
            )
                .prop_filter("names something", |(a, b, c)| {
                    a.is_some() || b.is_some() || c.is_some()
                });
            prop::collection::vec(rule, 0..4).prop_map(move |excluded| Small {
                depths: depths.clone(),
                widths: widths.clone(),
                seeds,
                excluded,
            })
        },
    )
}

proptest! {
    #[test]
    fn a_grid_lists_what_its_text_says(small in small(), from in 0usize..40) {
        let listed = small.listed();
        if listed.is_empty() {
            prop_assert_eq!(messages(&small.text()), ["every combination of the axes is excluded"]);
            return Ok(());
        }
        let grid = grid(&small.text());
        let values = |t: &GridTask| {
            let model = &t.spec.cell.model;
            (model.depth as u64, t.spec.seed, model.width as u64)
        };
        let tasks: Vec<GridTask> = grid.tasks(0).collect();
        prop_assert_eq!(tasks.iter().map(values).collect::<Vec<_>>(), listed);
        prop_assert_eq!(grid.len(), tasks.len() as u64);
        for task in &tasks {
            let again = grid.task(task.position);
            prop_assert_eq!(again.as_ref(), Some(task));
            prop_assert_eq!(grid.find(&task.spec), Some(task.position));
        }
        let rest: Vec<GridTask> = grid.tasks(from as u64).collect();
        prop_assert_eq!(&rest[..], tasks.get(from..).unwrap_or_default());
    }

    #[test]
    fn any_cell_can_be_written_as_a_grid(mut cell in crate::arbitrary::cell()) {
        cell.sweep = None;
        let names_files = matches!(cell.data, DataSpec::File(_))
            || matches!(cell.model.body, Body::Table(_));
        prop_assume!(!names_files);
        let mut fields = serde_json::to_value(&cell).unwrap();
        let data = fields.as_object_mut().unwrap().remove("data").unwrap();
        let text = serde_json::json!({"data": data, "fixed": fields}).to_string();
        let grid = load(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        cell.sweep = cell.budget.seconds.map(|_| grid.sha256());
        prop_assert_eq!(&*grid.task(0).unwrap().spec.cell, &cell);
        let errors: Vec<String> = VALIDATOR
            .iter_errors(&serde_json::from_str(&text).unwrap())
            .map(|e| e.to_string())
            .collect();
        prop_assert!(errors.is_empty(), "{:?}", errors);
    }

    #[test]
    fn a_damaged_grid_is_read_or_refused_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = CONTRACT.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let end = cut.index(bytes.len() * 4).min(bytes.len());
        match Grid::load("g", &bytes[..end], &Uploaded::default()) {
            Ok(grid) => prop_assert!(grid.task(0).is_some()),
            Err(mistakes) => prop_assert!(!mistakes.to_string().is_empty()),
        }
    }
}

#[test]
fn starts_are_axes_with_a_scale_each() {
    let grid = grid("data: iris\naxes: {start: [standard, {standard: {scale: 3}}, dead]}");
    let drawn = |kind, scale| Start::Drawn { kind, scale };
    assert_eq!(
        column(&grid, |t| t.start.clone()),
        [
            drawn(StartKind::Standard, 1.0),
            drawn(StartKind::Standard, 3.0),
            drawn(StartKind::Dead, 1.0)
        ]
    );
}
