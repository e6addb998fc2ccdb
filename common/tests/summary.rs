//! The rules of the summary, CONTRACT §4, one test each.

use common::ids::{BaselineId, TaskId};
use common::record::{Attainment, BaselineEvidence, Outcome, RunEvidence};
use common::summary::*;
use proptest::prelude::*;

const BASELINE: BaselineId = BaselineId([200; 32]);

fn id(i: u64) -> TaskId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&i.to_be_bytes());
    TaskId(bytes)
}

fn sweep() -> SweepInfo {
    SweepInfo {
        id: "s".into(),
        name: "test".into(),
        grid_sha256: "g".into(),
        numeric_level: "fma64-1".into(),
        reproducible: true,
    }
}

fn cell_info(depth: u64, broken: &[&str]) -> CellInfo {
    CellInfo {
        description: vec![
            ("data".into(), "iris".into()),
            ("depth".into(), depth.into()),
        ],
        assumptions_broken: broken.iter().map(|s| (*s).to_owned()).collect(),
        notes: vec![],
        baseline: BASELINE,
    }
}

fn baseline(value: f64) -> BaselineEvidence {
    BaselineEvidence {
        value,
        lower_bound: value,
        status: Attainment::Attained,
        gradient_norm: 0.0,
        minimizer: vec![],
        outputs: 1,
        features: 1,
        rows: 1,
    }
}

/// A run as one line of a story.
#[derive(Clone, Debug)]
struct Run {
    cell: u32,
    id: u64,
    start: &'static str,
    random: bool,
    found_by: FoundBy,
    evidence: RunEvidence,
}

fn run(id: u64, outcome: Outcome, value: f64) -> Run {
    Run {
        cell: 0,
        id,
        start: "standard",
        random: true,
        found_by: FoundBy::Grid,
        evidence: RunEvidence {
            value,
            objective: value,
            norm_w: 1.0,
            norm_wv: Some(1.0),
            ..RunEvidence::empty(outcome)
        },
    }
}

fn certified(id: u64, value: f64) -> Run {
    run(id, Outcome::CertifiedMinimum, value)
}

impl Run {
    fn from(self, start: &'static str) -> Self {
        Self { start, ..self }
    }
    fn in_cell(self, cell: u32) -> Self {
        Self { cell, ..self }
    }
    fn by_search(self) -> Self {
        let found_by = FoundBy::Search;
        Self { found_by, ..self }
    }
    fn trivial(mut self) -> Self {
        self.evidence.norm_wv = Some(0.0);
        self
    }
    fn give(&self, fold: &mut Fold) -> Result<Added, FoldError> {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.evidence.value.to_be_bytes());
        fold.add_run(&RecordedRun {
            cell: CellKey(self.cell),
            task: id(self.id),
            seed: self.id,
            start: self.start,
            random: self.random,
            found_by: self.found_by,
            evidence: &self.evidence,
            digest,
        })
    }
}

fn rules(min_certified: u64, min_share: f64) -> Rules {
    Rules {
        min_certified,
        min_share,
    }
}

/// One cell, baseline 1, these runs.
fn fold_of(broken: &[&str], rules: Rules, runs: &[Run]) -> Fold {
    let mut fold = Fold::new(sweep(), rules);
    fold.planned(runs.len() as u64);
    fold.cell(CellKey(0), cell_info(1, broken));
    fold.add_baseline(BASELINE, &baseline(1.0)).unwrap();
    for run in runs {
        run.give(&mut fold).unwrap();
    }
    fold
}

fn only_cell(fold: &Fold) -> CellSummary {
    let mut cells = fold.finish().cells;
    assert_eq!(cells.len(), 1);
    cells.remove(0)
}

#[test]
fn an_excess_above_the_tolerance_is_a_violation_and_one_within_is_at_the_baseline() {
    for (base, tol) in [(0.25, 1e-9), (-4.0, 4e-9)] {
        let verdict = |excess: f64| {
            let s = settle(Outcome::CertifiedMinimum, base + excess, base);
            (s.verdict, s.at_baseline)
        };
        assert_eq!(verdict(1.1 * tol), (Verdict::Violation, false));
        assert_eq!(verdict(0.9 * tol), (Verdict::CertifiedMinimum, true));
        assert_eq!(verdict(-0.9 * tol), (Verdict::CertifiedMinimum, true));
        assert_eq!(verdict(-1.1 * tol), (Verdict::CertifiedMinimum, false));
    }
    let saddle = settle(Outcome::Saddle, 2.0, 1.0);
    assert_eq!(
        (saddle.verdict, saddle.at_baseline),
        (Verdict::Saddle, false)
    );
}

#[test]
fn a_certificate_whose_value_is_not_a_number_is_none() {
    let fold = fold_of(
        &[],
        rules(1, 0.5),
        &[certified(1, f64::NAN), certified(2, 0.5)],
    );
    let cell = only_cell(&fold);
    assert_eq!(
        (cell.verdicts.certified_minimum, cell.verdicts.non_finite),
        (1, 1)
    );
    assert_eq!(cell.worst.unwrap().seed, 2);
    assert_eq!(
        cell.worst_uncertified.unwrap().value.non_finite_text(),
        "NaN"
    );
}

trait Text {
    fn non_finite_text(&self) -> String;
}
impl Text for Number {
    fn non_finite_text(&self) -> String {
        serde_json::to_value(self).unwrap().as_str().unwrap().into()
    }
}

#[test]
fn a_cell_holds_with_enough_certified_runs_and_a_large_enough_share() {
    let runs = |certified_runs: u64, others: u64| -> Vec<Run> {
        (0..certified_runs)
            .map(|i| certified(i, 0.5))
            .chain((0..others).map(|i| run(100 + i, Outcome::BudgetExhausted, 3.0)))
            .collect()
    };
    let verdict = |c, o| only_cell(&fold_of(&[], rules(4, 0.5), &runs(c, o))).verdict;
    assert_eq!(verdict(4, 4), CellVerdict::Holds);
    assert_eq!(verdict(4, 5), CellVerdict::Inconclusive);
    assert_eq!(verdict(3, 0), CellVerdict::Inconclusive);
}

#[test]
fn one_violation_violates_a_cell_inside_the_assumptions_and_is_a_find_outside() {
    let runs = [certified(1, 0.5), certified(2, 1.1)];
    let inside = fold_of(&[], rules(1, 0.5), &runs).finish();
    assert_eq!(inside.cells[0].verdict, CellVerdict::Violated);
    assert_eq!(inside.overall.verdict, CellVerdict::Violated);
    assert_eq!(inside.overall.worst_task, Some(id(2)));
    let outside = fold_of(&["no outer skip"], rules(1, 0.5), &runs).finish();
    assert_eq!(outside.cells[0].verdict, CellVerdict::BadMinimumFound);
    assert_eq!(outside.overall.verdict, CellVerdict::Inconclusive);
    assert_eq!(outside.overall.worst_excess, None);
}

#[test]
fn outside_the_assumptions_enough_clean_runs_say_none_found() {
    let fold = fold_of(
        &["chain"],
        rules(2, 0.5),
        &[certified(1, 0.5), certified(2, 0.6)],
    );
    assert_eq!(only_cell(&fold).verdict, CellVerdict::NoneFound);
    let fold = fold_of(
        &["chain"],
        rules(3, 0.5),
        &[certified(1, 0.5), certified(2, 0.6)],
    );
    assert_eq!(only_cell(&fold).verdict, CellVerdict::Inconclusive);
}

#[test]
fn a_baseline_that_is_not_proved_leaves_its_cells_inconclusive() {
    let mut fold = fold_of(&[], rules(1, 0.5), &[]);
    let other = BaselineId([7; 32]);
    let mut info = cell_info(1, &[]);
    info.baseline = other;
    fold.cell(CellKey(0), info);
    certified(1, 0.5).give(&mut fold).unwrap();
    let open = BaselineEvidence {
        lower_bound: 1.0 - 1e-6,
        ..baseline(1.0)
    };
    fold.add_baseline(other, &open).unwrap();
    assert_eq!(only_cell(&fold).verdict, CellVerdict::Inconclusive);
}

#[test]
fn without_its_baseline_a_cell_shows_runs_but_settles_nothing() {
    let mut fold = Fold::new(sweep(), rules(1, 0.5));
    fold.cell(CellKey(0), cell_info(1, &[]));
    certified(1, 5.0).give(&mut fold).unwrap();
    let cell = only_cell(&fold);
    assert_eq!(cell.verdicts.certified_minimum, 1);
    assert_eq!(
        (cell.baseline, cell.at_baseline, cell.median_improvement),
        (None, None, None)
    );
    assert_eq!(cell.worst.unwrap().excess, None);
    assert_eq!(cell.by_start[0].violation_share_upper95, None);
    assert_eq!(cell.verdict, CellVerdict::Inconclusive);
}

#[test]
fn the_worst_and_the_best_run_of_equal_value_is_the_one_with_the_smallest_task() {
    let fold = fold_of(
        &[],
        rules(1, 0.5),
        &[certified(9, 0.5), certified(3, 0.5), certified(5, 0.5)],
    );
    let cell = only_cell(&fold);
    assert_eq!(cell.worst.unwrap().task, id(3));
    assert_eq!(cell.best.unwrap().task, id(3));
}

#[test]
fn among_uncertified_runs_the_ones_that_are_not_finite_come_last() {
    let nan = run(1, Outcome::NonFinite, f64::NAN);
    let infinite = run(2, Outcome::NonFinite, f64::INFINITY);
    let low = run(4, Outcome::Saddle, -3.0);
    let fold = fold_of(&[], rules(1, 0.5), &[infinite.clone(), nan.clone(), low]);
    assert_eq!(only_cell(&fold).worst_uncertified.unwrap().task, id(4));
    let fold = fold_of(&[], rules(1, 0.5), &[infinite, nan]);
    assert_eq!(only_cell(&fold).worst_uncertified.unwrap().task, id(1));
}

#[test]
fn trivial_runs_are_counted_and_kept_out_of_the_worst_nontrivial() {
    let runs = [
        certified(1, 1.0).trivial(),
        certified(2, 0.4),
        certified(3, 0.6),
    ];
    let cell = only_cell(&fold_of(&[], rules(1, 0.5), &runs));
    assert_eq!((cell.trivial, cell.at_baseline), (1, Some(1)));
    assert_eq!(cell.worst.unwrap().seed, 1);
    assert_eq!(cell.worst_nontrivial.unwrap().seed, 3);
}

#[test]
fn trivial_is_relative_to_the_norm_of_w_and_needs_a_product() {
    let mut evidence = RunEvidence::empty(Outcome::CertifiedMinimum);
    assert!(!is_trivial(&evidence), "no W V in this network");
    for (norm_w, norm_wv, trivial) in [
        (0.1, 0.9e-9, true),
        (0.1, 1.1e-9, false),
        (100.0, 0.9e-7, true),
        (100.0, 1.1e-7, false),
        (1.0, f64::NAN, false),
    ] {
        evidence.norm_w = norm_w;
        evidence.norm_wv = Some(norm_wv);
        assert_eq!(is_trivial(&evidence), trivial, "{norm_w} {norm_wv}");
    }
}

#[test]
fn quantiles_are_of_type_7_over_certified_runs() {
    let values = [4.0, 1.0, 3.0, 2.0];
    let mut runs: Vec<Run> = (0..4)
        .map(|i| certified(i, values[i as usize] / 8.0))
        .collect();
    runs.push(run(9, Outcome::Saddle, 100.0));
    let q = only_cell(&fold_of(&[], rules(1, 0.1), &runs))
        .values
        .unwrap();
    // R: quantile(c(1, 2, 3, 4)/8) gives 0.125 0.21875 0.3125 0.40625 0.5
    assert_eq!(
        [q.min.0, q.q25.0, q.median.0, q.q75.0, q.max.0],
        [0.125, 0.21875, 0.3125, 0.40625, 0.5]
    );
}

#[test]
fn bounds_by_start_are_clopper_pearson_and_null_for_deterministic_starts() {
    let mut runs: Vec<Run> = (0..15).map(|i| certified(i, 0.5)).collect();
    runs.push(run(15, Outcome::Kink, 0.5));
    runs.push(certified(16, 0.5).from("large(scale 3)"));
    runs.push(Run {
        random: false,
        ..certified(17, 0.5).from("point(theta.json)")
    });
    let cell = only_cell(&fold_of(&[], rules(1, 0.5), &runs));
    let names: Vec<&str> = cell.by_start.iter().map(|s| s.start.as_str()).collect();
    assert_eq!(names, ["large(scale 3)", "point(theta.json)", "standard"]);
    let standard = &cell.by_start[2];
    assert_eq!((standard.certified, standard.runs), (15, 16));
    // 1 − 0.05^(1/15), and the bound for one hit in 16.
    assert!((standard.violation_share_upper95.unwrap().0 - 0.181_036_272_522).abs() < 1e-12);
    assert!((standard.worst_case_upper95.unwrap().0 - 0.263_957_397_289).abs() < 1e-12);
    let point = &cell.by_start[1];
    assert_eq!(
        (point.violation_share_upper95, point.worst_case_upper95),
        (None, None)
    );
}

#[test]
fn a_run_of_the_search_can_be_worst_and_violate_but_enters_no_share_and_no_bound() {
    let runs = [certified(1, 0.5), certified(2, 1.5).by_search()];
    let cell = only_cell(&fold_of(&[], rules(1, 0.5), &runs));
    assert_eq!(cell.verdict, CellVerdict::Violated);
    let worst = cell.worst.unwrap();
    assert_eq!(
        (worst.found_by, worst.verdict),
        (FoundBy::Search, Verdict::Violation)
    );
    assert_eq!((cell.runs, cell.verdicts.total()), (1, 1));
    assert_eq!(cell.values.unwrap().max.0, 0.5);
    assert_eq!((cell.by_start.len(), cell.by_start[0].runs), (1, 1));
    let search = cell.search.unwrap();
    assert_eq!((search.runs, search.verdicts.violation), (1, 1));
}

#[test]
fn totals_count_each_task_once_and_show_what_is_missing() {
    let mut fold = fold_of(
        &[],
        rules(1, 0.5),
        &[certified(1, 0.5), run(2, Outcome::Saddle, 2.0)],
    );
    fold.planned(10);
    let cell = CellKey(0);
    for (task, added) in [(3, Added::New), (3, Added::Repeated), (1, Added::Repeated)] {
        assert_eq!(fold.add_failed(cell, id(task)), Ok(added));
    }
    assert_eq!(fold.add_cancelled(cell, id(4)), Ok(Added::New));
    assert_eq!(fold.add_cancelled(cell, id(3)), Ok(Added::Repeated));
    let summary = fold.finish();
    let t = &summary.totals;
    assert_eq!((t.recorded, t.failed, t.cancelled, t.missing), (2, 1, 1, 6));
    assert_eq!(
        (summary.cells[0].failed, summary.cells[0].cancelled),
        (1, 1)
    );
    assert!(summary.sweep.partial);
    fold.cancel_rest(true);
    let summary = fold.finish();
    let t = &summary.totals;
    assert_eq!((t.recorded, t.failed, t.cancelled, t.missing), (2, 1, 7, 0));
    assert!(!summary.sweep.partial);
}

#[test]
fn a_failed_task_that_is_run_after_all_is_recorded() {
    let mut fold = fold_of(&[], rules(1, 0.5), &[]);
    fold.planned(1);
    fold.add_cancelled(CellKey(0), id(1)).unwrap();
    fold.add_failed(CellKey(0), id(1)).unwrap();
    assert_eq!(fold.finish().totals.failed, 1);
    certified(1, 0.5).give(&mut fold).unwrap();
    let t = fold.finish().totals;
    assert_eq!((t.recorded, t.failed, t.cancelled), (1, 0, 0));
}

#[test]
fn another_result_for_a_recorded_task_is_refused_and_changes_nothing() {
    let mut fold = fold_of(&[], rules(1, 0.5), &[certified(1, 0.5)]);
    let before = fold.finish().to_json();
    let conflict = Err(FoldError::Conflict { task: id(1) });
    assert_eq!(certified(1, 0.25).give(&mut fold), conflict);
    assert_eq!(certified(1, 0.5).by_search().give(&mut fold), conflict);
    assert_eq!(
        fold.add_baseline(BASELINE, &baseline(1.0 + 1e-15)),
        Err(FoldError::Conflict {
            task: BASELINE.into()
        })
    );
    let unknown = Err(FoldError::UnknownCell { cell: CellKey(1) });
    assert_eq!(certified(2, 0.5).in_cell(1).give(&mut fold), unknown);
    assert_eq!(fold.add_failed(CellKey(1), id(2)), unknown);
    assert_eq!(fold.finish().to_json(), before);
}

#[test]
fn the_hash_of_results_is_that_of_the_documented_recipe() {
    use sha2::{Digest, Sha256};
    let fold = fold_of(&[], rules(1, 0.5), &[certified(1, 0.5), certified(2, 0.75)]);
    let mut leaves: Vec<Vec<u8>> = [(1, 0.5f64), (2, 0.75)]
        .iter()
        .map(|(task, value)| {
            let mut text = id(*task).0.to_vec();
            text.extend(value.to_be_bytes());
            text.extend([0; 24]);
            Sha256::digest(&text)[..24].to_vec()
        })
        .collect();
    leaves.sort();
    let want = common::ids::to_hex(&Sha256::digest(leaves.concat()));
    assert_eq!(fold.finish().sweep.results_sha256, want);
}

#[test]
fn refuted_candidates_are_summed_once() {
    let mut refuting = certified(1, 0.5);
    refuting.evidence.refuted = 3;
    let mut fold = fold_of(&[], rules(1, 0.5), &[refuting.clone(), certified(2, 0.5)]);
    refuting.give(&mut fold).unwrap();
    assert_eq!(fold.finish().totals.refuted, 3);
}

#[test]
fn cells_stand_in_the_order_of_the_grid_whatever_the_order_of_their_description() {
    let mut fold = Fold::new(sweep(), rules(1, 0.5));
    for key in [5, 1, 3] {
        fold.cell(CellKey(key), cell_info(u64::from(key), &[]));
    }
    let depths: Vec<_> = fold
        .finish()
        .cells
        .iter()
        .map(|c| c.cell.0[1].1.clone())
        .collect();
    assert_eq!(depths, [1, 3, 5]);
}

#[test]
fn overall_covers_the_cells_with_no_broken_assumption_only() {
    let mut fold = fold_of(&[], rules(1, 0.5), &[certified(1, 0.5)]);
    fold.cell(CellKey(1), cell_info(2, &["d_y > d_φ"]));
    certified(2, 7.0).in_cell(1).give(&mut fold).unwrap();
    let overall = fold.finish().overall;
    assert_eq!(overall.verdict, CellVerdict::Holds);
    assert_eq!(overall.worst_excess, Some(Number(-0.5)));
    fold.cell(CellKey(2), cell_info(4, &[]));
    assert_eq!(fold.finish().overall.verdict, CellVerdict::Inconclusive);
}

fn full_evidence(value: f64) -> RunEvidence {
    use common::record::EigenvalueMethod;
    RunEvidence {
        value,
        gradient_norm: 1e-12,
        min_eigenvalue: Some(1e-9),
        max_eigenvalue: Some(3.0),
        eigenvalue_method: Some(EigenvalueMethod::Lanczos),
        eigenvalue_failure_probability: Some(1e-6),
        norm_a: Some(0.0),
        norm_b: Some(f64::INFINITY),
        sigma_min_w: Some(0.4),
        induced_value: Some(value),
        gap_bound: Some(f64::NEG_INFINITY),
        kink_margin: Some(0.1),
        ..certified(0, value).evidence
    }
}

/// A sweep that has something of everything.
fn rich() -> Fold {
    let mut fold = fold_of(
        &[],
        rules(1, 0.5),
        &[certified(1, 0.5), certified(2, 1.0).trivial()],
    );
    fold.cell(CellKey(1), cell_info(2, &["chain", "mask"]));
    let mut shown = certified(3, 0.75).in_cell(1);
    shown.evidence = full_evidence(0.75);
    for run in [
        shown,
        run(4, Outcome::NonFinite, f64::NAN).in_cell(1),
        certified(5, 1.25).in_cell(1).by_search(),
    ] {
        run.give(&mut fold).unwrap();
    }
    fold.cell(
        CellKey(2),
        CellInfo {
            description: vec![(
                "data".into(),
                serde_json::json!({"generate": "teacher", "rows": 10}),
            )],
            baseline: BaselineId([1; 32]),
            ..cell_info(0, &[])
        },
    );
    fold.add_failed(CellKey(2), id(6)).unwrap();
    fold.planned(9);
    fold
}

#[test]
fn the_json_form_agrees_with_its_schema() {
    let schema = serde_json::from_str(JSON_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for fold in [
        rich(),
        fold_of(&[], rules(1, 0.5), &[]),
        Fold::new(sweep(), Rules::default()),
    ] {
        let value = serde_json::from_str(&fold.finish().to_json()).unwrap();
        let mistakes: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| e.to_string())
            .collect();
        assert!(mistakes.is_empty(), "{mistakes:?}");
    }
    // The schema is not one that accepts everything.
    let mut value: serde_json::Value = serde_json::from_str(&rich().finish().to_json()).unwrap();
    value["cells"][0]["worst"]["value"] = "large".into();
    assert!(!validator.is_valid(&value));
}

#[test]
fn the_json_form_is_written_as_reviewed() {
    insta::assert_snapshot!(rich().finish().to_json());
}

#[test]
fn the_csv_form_is_written_as_reviewed() {
    insta::assert_snapshot!(rich().finish().to_csv());
}

#[derive(Clone, Debug)]
enum Event {
    Run(Run),
    Failed(u32, u64),
    Cancelled(u32, u64),
    Baseline(BaselineId, f64),
}

fn apply(events: &[Event]) -> String {
    let mut fold = Fold::new(sweep(), rules(2, 0.5));
    fold.planned(64);
    for key in 0..3 {
        let broken: &[&str] = if key == 2 { &["mask"] } else { &[] };
        let mut info = cell_info(key.into(), broken);
        info.baseline = BaselineId([key as u8 / 2; 32]);
        fold.cell(CellKey(key), info);
    }
    for event in events {
        match event {
            Event::Run(run) => run.give(&mut fold).unwrap(),
            Event::Failed(cell, task) => fold.add_failed(CellKey(*cell), id(*task)).unwrap(),
            Event::Cancelled(cell, task) => fold.add_cancelled(CellKey(*cell), id(*task)).unwrap(),
            Event::Baseline(which, value) => fold.add_baseline(*which, &baseline(*value)).unwrap(),
        };
    }
    fold.finish().to_json()
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let outcome = prop::sample::select(&Outcome::ALL[..]);
    let value = prop::sample::select(vec![
        0.25,
        0.5,
        1.0,
        1.0 + 1e-10,
        1.5,
        f64::NAN,
        f64::INFINITY,
    ]);
    let kind = (outcome, value, 0..4u8, prop::bool::ANY, prop::bool::ANY);
    let task = (kind, 0..4u8);
    prop::collection::vec(task, 0..40).prop_map(|tasks| {
        let mut events = vec![
            Event::Baseline(BaselineId([0; 32]), 1.0),
            Event::Baseline(BaselineId([1; 32]), 0.5),
        ];
        for (i, ((outcome, value, fate, search, trivial), start)) in tasks.into_iter().enumerate() {
            let i = i as u64;
            let mut run = run(i, outcome, value).in_cell((i % 3) as u32);
            run.start = ["standard", "large", "small", "point(p)"][usize::from(start)];
            run.random = start < 3;
            run.evidence.refuted = (i % 5) as u32;
            run = if search { run.by_search() } else { run };
            run = if trivial { run.trivial() } else { run };
            let cell = run.cell;
            match fate {
                0 => events.push(Event::Failed(cell, i)),
                1 => events.extend([Event::Failed(cell, i), Event::Run(run)]),
                2 => events.extend([Event::Cancelled(cell, i), Event::Failed(cell, i)]),
                _ => events.push(Event::Run(run)),
            }
        }
        events
    })
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_gives_the_same_bytes(
        (events, shuffled) in events().prop_flat_map(|events| {
            let twice: Vec<Event> = events.iter().chain(&events).cloned().collect();
            (Just(events), Just(twice).prop_shuffle())
        })
    ) {
        prop_assert_eq!(apply(&events), apply(&shuffled));
    }
}
