//! What people see when a grid is wrong: reviewed as they are printed.

use common::grid::{Grid, Uploaded};

fn report(text: &str) -> String {
    match Grid::load("grid.yaml", text.as_bytes(), &Uploaded::default()) {
        Ok(_) => panic!("this grid was accepted:\n{text}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

macro_rules! shown {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(report($text));
        }
    )*};
}

shown! {
    a_misspelt_field_and_its_misspelt_value: "\
data: diabetes
axes:
  activaton: [tanhh]
";
    values_of_wrong_types: "\
data: diabetes
axes:
  depth: [1, two, 3.5]
  standardize: [yes]
fixed:
  width: [8]
  regularizer: 1e-3
  loss: {squared: 1}
";
    an_axis_without_values: "\
data: diabetes
axes:
  depth: []
  width: 8
";
    an_unknown_activation: "\
data: diabetes
fixed: {activation: swish}
";
    a_key_that_stands_twice: "\
data: diabetes
fixed:
  depth: 2
  width: 3
  depth: 4
";
    an_alias_bomb: "\
a0: &a0 [x, x, x, x, x, x, x, x, x, x]
a1: &a1 [*a0, *a0, *a0, *a0, *a0, *a0, *a0, *a0, *a0, *a0]
a2: &a2 [*a1, *a1, *a1, *a1, *a1, *a1, *a1, *a1, *a1, *a1]
a3: &a3 [*a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2]
a4: &a4 [*a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3]
a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
";
    a_field_that_is_an_axis_and_fixed: "\
data: diabetes
axes:
  depth: [1, 2]
  start: [standard, dead]
fixed: {depth: 4}
training: {start: small}
";
    exclusions_that_match_nothing: "\
data: diabetes
axes:
  depth: [1, 2, 4]
  activation: [tanh, relu]
fixed: {loss: huber}
exclude:
  - {depth: 8}
  - {loss: squared, depth: 1}
  - {activation: {leaky_relu: 0.1}}
  - {loss: huber}
";
    a_bad_formula: "\
data: diabetes
axes:
  activation: [tanh, {formula: \"t / (1 + abs(t)\"}, {formula: 2t}]
";
    numbers_out_of_range: "\
data: diabetes
fixed:
  width: -3
  depth: 0
  regularizer: {body_decay: -1e-3, predictor_ridge: .nan}
training: {budget: {evaluations: -1, seconds: 0}}
certificate: {min_share: 1.5}
";
    an_unknown_data_set: "\
data: diabets
";
    data_fixed_and_as_an_axis: "\
data: diabetes
axes:
  data: [iris, wine]
";
    zipped_axes_of_unequal_length: "\
data: diabetes
axes:
  depth: [1, 2, 4]
  width: [8, 16]
  seed: {start: 0, count: 3}
zip: [[depth, width], [sed, seed], depth]
";
    an_included_task_that_lacks_an_axis: "\
data: diabetes
axes:
  depth: [1, 2]
  activation: [tanh, relu]
  seed: {start: 0, count: 3}
include:
  - {depth: 16, seed: 0}
  - {depth: 16, activation: tanh, seed: 0, width: 9}
";
    combinations_that_cannot_be_run: "\
data: diabetes
axes:
  body: [mlp, bottleneck, aggregated, conv]
  width: [2, 4, 8]
fixed: {bottleneck: 4}
exclude:
  - {body: aggregated, width: [2, 4]}
";
    sections_that_are_none: "\
data: diabetes
axis: {depth: [1]}
depth: [1, 2]
momentum: 3
";
    files_that_are_not_there: "\
data: {file: patients.csv, targets: [y]}
axes:
  body: [mlp, {table: z.npy}]
  start: [standard, {point: p.json}]
";
    rules_for_axes_gone_wrong: "\
data: diabetes
axes:
  seed: {start: 0, cuont: 3}
  depth: {from: 8, to: 2, step: 2}
  width: {log: {from: 1, to: 10, count: 4}}
  predictor_ridge: {start: 0, count: 4}
  polish: {from: 0, to: 1}
";
    yaml_that_is_none: "\
data: diabetes
axes:
  depth: [1, 2
  width: [3]
";
    tabs_as_indentation: "\
data: diabetes
axes:
\tdepth: [1, 2]
";
    nothing_at_all: "# only a comment\n";
    everything_excluded: "\
data: diabetes
axes: {depth: [1, 2]}
exclude: [{depth: 1}, {depth: 2}]
";
    more_tasks_than_can_be_numbered: "\
data: diabetes
axes:
  seed: {start: 0, count: 9007199254740992}
  depth: [1, 2]
";
}

#[test]
fn bytes_that_are_no_text() {
    let mistakes = Grid::load("grid.yaml", b"data: diab\xe9tes\n", &Uploaded::default());
    insta::assert_snapshot!(mistakes.unwrap_err().to_string());
}
