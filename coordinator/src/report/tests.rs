//! The page from summaries made by hand.

use common::ids::{BaselineId, TaskId};
use common::record::{Attainment, BaselineEvidence, Outcome, RunEvidence};
use common::summary::{
    CellInfo, CellKey, Fold, FoundBy, RecordedRun, Rules, SearchSummary, Summary, SweepInfo,
    VerdictCounts,
};
use serde_json::{Value, json};

use super::{Provenance, html, render, scale};

const BASELINE: BaselineId = BaselineId([0; 32]);

/// A cell: its fields, and how its runs ended at which values.
type Cell = (Vec<(&'static str, Value)>, Vec<(Outcome, f64)>);

/// Cells of the given fields, each with runs of the given outcomes and values; baseline 0.25.
fn summary(name: &str, cells: &[Cell]) -> Summary {
    let info = SweepInfo {
        id: "s".into(),
        name: name.into(),
        grid_sha256: "abcdef".into(),
        numeric_level: "level".into(),
        reproducible: true,
    };
    let mut fold = Fold::new(info, Rules::default());
    fold.planned(cells.iter().map(|c| c.1.len() as u64).sum());
    let evidence = BaselineEvidence {
        value: 0.25,
        lower_bound: 0.25,
        status: Attainment::Attained,
        gradient_norm: 0.0,
        minimizer: vec![],
        outputs: 1,
        features: 1,
        rows: 10,
    };
    fold.add_baseline(BASELINE, &evidence).unwrap();
    for (number, (fields, runs)) in cells.iter().enumerate() {
        let key = CellKey(number as u32);
        let description = fields
            .iter()
            .map(|(f, v)| ((*f).into(), v.clone()))
            .collect();
        let info = CellInfo {
            description,
            assumptions_broken: vec![],
            notes: vec![],
            baseline: BASELINE,
        };
        fold.cell(key, info);
        for (seed, (outcome, value)) in runs.iter().enumerate() {
            let mut task = [seed as u8; 32];
            task[0] = number as u8;
            let evidence = RunEvidence {
                value: *value,
                ..RunEvidence::empty(*outcome)
            };
            fold.add_run(&RecordedRun {
                cell: key,
                task: TaskId(task),
                seed: seed as u64,
                start: "standard",
                random: true,
                found_by: FoundBy::Grid,
                evidence: &evidence,
                digest: task,
            })
            .unwrap();
        }
    }
    fold.finish()
}

fn page(summary: &Summary) -> String {
    render(
        summary,
        &Provenance {
            grid: "name: <b>text</b>",
            created_at: 951_827_696_000,
            run: &json!({"program_version": "0.1.0", "commit": "0123456789ab"}),
            kept: &|task| task.0[0] == 0,
        },
    )
}

fn certified(values: [f64; 5]) -> Vec<(Outcome, f64)> {
    values.map(|v| (Outcome::CertifiedMinimum, v)).to_vec()
}

/// Depth 1 and 2 × tanh and relu; all hold.
fn crossed() -> Vec<Cell> {
    let mut cells = Vec::new();
    for depth in [1, 2] {
        for activation in ["tanh", "relu"] {
            let fields = vec![("depth", json!(depth)), ("activation", json!(activation))];
            cells.push((fields, certified([0.2, 0.21, 0.22, 0.23, 0.24])));
        }
    }
    cells
}

#[test]
fn a_sweep_that_holds_says_so_and_names_every_cell() {
    let page = page(&summary("s", &crossed()));
    assert!(page.contains("<strong>Holds.</strong>"), "{page}");
    assert!(
        page.contains("None of 20 certified minima in 4 cells"),
        "{page}"
    );
    for cell in [
        "depth 1 · tanh",
        "depth 1 · relu",
        "depth 2 · tanh",
        "depth 2 · relu",
    ] {
        assert!(
            page.contains(&format!("<th scope=\"row\">{cell}</th>")),
            "{cell}: {page}"
        );
    }
    assert!(page.contains("−1.0e-2"), "the worst excess: {page}");
    assert!(page.contains("2000-02-29 12:34:56 UTC"), "{page}");
    assert!(page.contains("0123456789ab"), "the commit: {page}");
}

#[test]
fn an_axis_of_numbers_gives_curves_that_break_where_nothing_is_certified() {
    let mut cells = crossed();
    for activation in ["tanh", "relu"] {
        let fields = vec![("depth", json!(4)), ("activation", json!(activation))];
        cells.push((fields, certified([0.1, 0.11, 0.12, 0.13, 0.14])));
    }
    cells[2].1 = vec![(Outcome::Saddle, 0.7)];
    let page = page(&summary("s", &cells));
    let curves = page.split("id=\"curves\"").nth(1).unwrap();
    let curves = curves.split("</section>").next().unwrap();
    assert!(curves.starts_with(">Minima along depth</h2>"), "{curves}");
    let line = |curve: &str| {
        let own = curves.split(&format!("<g class=\"{curve}\">")).nth(1);
        let solid = own.unwrap().split("class=\"solid\" d=\"").nth(1).unwrap();
        solid.split('"').next().unwrap().to_owned()
    };
    assert_eq!(line("k0").matches('M').count(), 2, "tanh has a gap");
    assert_eq!(line("k1").matches('L').count(), 2, "relu has none");
    let words = "tanh 0.220000 at 1, none at 2, 0.120000 at 4";
    assert!(curves.contains(words), "{curves}");
}

#[test]
fn an_axis_of_words_has_no_curves() {
    let cells = ["tanh", "relu"].map(|activation| {
        let fields = vec![
            ("activation", json!(activation)),
            ("loss", json!("squared")),
        ];
        (fields, certified([0.2; 5]))
    });
    assert!(!page(&summary("s", &cells)).contains("id=\"curves\""));
}

#[test]
fn hosts_and_what_verify_found_are_told() {
    let worker = |host: &str| {
        json!({
            "host": host, "program_version": "0.1.0", "results": 7, "cpu_seconds": 90.0,
            "peak_memory": 3 << 20,
        })
    };
    let run = json!({
        "workers": {"a": worker("north"), "b": worker("north"), "c": worker("south")},
        "verification": {
            "holds": true,
            "completeness": {"planned": 20, "recorded": 20, "links": 3, "records": 21},
            "audit": {
                "audited": 5, "by_other_hosts": 4, "mismatches": 0, "mismatch_rate_upper95": 0.45,
            },
        },
    });
    let provenance = Provenance {
        grid: "",
        created_at: 0,
        run: &run,
        kept: &|_| false,
    };
    let page = render(&summary("s", &crossed()), &provenance);
    let north = "<th scope=\"row\">north</th><td>0.1.0</td><td class=\"n\">2</td>\
                 <td class=\"n\">14</td><td class=\"n\">3.0 min</td><td class=\"n\">3 MiB</td>";
    for text in [
        north,
        "3 links over 21 records recomputed",
        "5 runs computed again by other workers, 4 on another host",
        "at most 0.450000 with 95 % confidence",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn names_cannot_become_markup() {
    let attack = "<script>alert(1)</script>";
    let mut cells = crossed();
    cells[0].0[1].1 = json!("\"><img onerror='x'>");
    let page = page(&summary(attack, &cells));
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("<img"), "{page}");
    assert!(!page.contains("<b>text"), "{page}");
    let escaped = "<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>";
    assert!(page.contains(escaped), "{page}");
}

#[test]
fn a_violation_is_said_in_words_and_drawn_with_a_border() {
    let mut cells = crossed();
    cells[3].1[0].1 = 0.35;
    let page = page(&summary("s", &cells));
    assert!(
        page.contains("<strong>Violated.</strong> In 1 of 4 cells"),
        "{page}"
    );
    assert!(page.contains("class=\"o4 above\""), "{page}");
    assert!(page.contains("worst violation"), "{page}");
}

#[test]
fn what_is_not_certified_or_not_finite_is_text() {
    let mut cells = crossed();
    cells[1].1 = vec![(Outcome::Saddle, 0.7), (Outcome::Kink, 0.3)];
    cells[2].1.push((Outcome::NonFinite, f64::NAN));
    cells[3].1.push((Outcome::Diverging, f64::INFINITY));
    let page = page(&summary("s", &cells));
    for text in [
        "0.700000 (saddle)",
        "NaN (non finite)",
        "Infinity (diverging)",
        "1 saddle; 1 kink",
        "none certified",
        "worst non finite",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(
        page.contains("<strong>Inconclusive.</strong> 1 of 4 cells"),
        "{page}"
    );
}

#[test]
fn what_a_run_does_is_told_by_the_networks_and_starts_that_are_there() {
    let mut summary = summary("s", &crossed());
    assert!(page(&summary).contains("residual network f(x) = W(φ(x) + V z(x; u)) from a random"));
    for cell in &mut summary.cells {
        for by in &mut cell.by_start {
            by.start = "point(start.npz)".to_owned();
        }
    }
    assert!(page(&summary).contains("from a given point to"));
    let skip = |summary: &mut Summary, cell: usize, skip: &str| {
        let fields = &mut summary.cells[cell].cell.0;
        fields.push(("skip".to_owned(), json!(skip)));
    };
    skip(&mut summary, 0, "none");
    assert!(page(&summary).contains("or a control with other skips or none, from a given point"));
    for cell in 1..4 {
        skip(&mut summary, cell, "none");
    }
    assert!(page(&summary).contains("a plain network f(x) = W z(x; u) + c without a skip from"));
}

#[test]
fn runs_of_a_search_are_counted_apart_and_no_grid_is_said_to_have_them() {
    let mut summary = summary("s", &crossed());
    summary.cells[0].search = Some(SearchSummary {
        runs: 9,
        verdicts: VerdictCounts {
            certified_minimum: 7,
            saddle: 2,
            ..VerdictCounts::default()
        },
    });
    for cell in &mut summary.cells {
        let named = [cell.worst.as_mut(), cell.worst_nontrivial.as_mut()];
        for run in named.into_iter().flatten() {
            run.found_by = FoundBy::Search;
        }
    }
    let page = page(&summary);
    for text in [
        "None of 20 certified minima and 7 of the search in 4 cells",
        "of the search, which no grid has",
        "Runs of the search are not in the grid.",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    let by_grid = "worker run --grid grid.yaml --task ";
    let named = page.split(by_grid).skip(1);
    assert!(
        named.into_iter().all(|rest| rest.starts_with("TASK")),
        "{page}"
    );
}

#[test]
fn kept_minima_come_with_their_commands_and_others_without() {
    let mut cells = crossed();
    cells[1].1.push((Outcome::Saddle, 0.7));
    let summary = summary("s", &cells);
    let kept = summary.overall.worst_task.unwrap();
    assert_eq!(kept.0[0], 0, "the first of equal runs");
    let page = page(&summary);
    assert!(
        page.contains(&format!("worker run --minimum minima/{kept}.json")),
        "{page}"
    );
    assert!(
        page.contains(&format!("worker verify minima/{kept}.npz")),
        "{page}"
    );
    let saddle = summary.cells[1].worst_uncertified.as_ref().unwrap().task;
    assert!(!page.contains(&format!("minima/{saddle}")), "{page}");
    assert!(page.contains(&format!("<code>{saddle}</code>")), "{page}");
}

#[test]
fn further_axes_are_small_multiples_of_which_twelve_are_open() {
    let mut cells = Vec::new();
    for width in 1..=14 {
        for (mut fields, runs) in crossed() {
            fields.push(("width", json!(width)));
            cells.push((fields, runs));
        }
    }
    let page = page(&summary("s", &cells));
    let first = page.split("<h3>Certified share").next().unwrap();
    assert!(first.contains("<summary>2 more maps</summary>"), "{page}");
    let (open, closed) = first.split_once("<details>").unwrap();
    assert_eq!(open.matches("<figcaption>").count(), 12);
    assert_eq!(closed.matches("<figcaption>").count(), 2);
}

#[test]
fn zipped_axes_are_a_list_of_cells() {
    let runs = || certified([0.2; 5]);
    let cell = |depth: u32, activation: &str, width: u32| {
        let fields = vec![
            ("depth", json!(depth)),
            ("activation", json!(activation)),
            ("width", json!(width)),
        ];
        (fields, runs())
    };
    let cells = [cell(1, "tanh", 1), cell(1, "tanh", 2), cell(2, "relu", 3)];
    let page = page(&summary("s", &cells));
    assert!(!page.contains("<figcaption>"), "{page}");
    assert!(page.contains(">width 2</text>"), "{page}");
}

#[test]
fn of_many_cells_sixty_ranges_are_open_the_worst_among_them() {
    let mut cells: Vec<_> = (0..61)
        .map(|i| (vec![("width", json!(i))], certified([0.1; 5])))
        .collect();
    cells[60].1 = certified([0.2; 5]);
    let page = page(&summary("s", &cells));
    let ranges = page.split("id=\"ranges\"").nth(1).unwrap();
    let ranges = ranges.split("</section>").next().unwrap();
    let (open, closed) = ranges.split_once("<details><summary>1 more cell<").unwrap();
    assert!(open.contains(">width 60<"), "{open}");
    assert_eq!(open.matches("<th scope=\"row\">").count(), 60);
    assert_eq!(closed.matches("<th scope=\"row\">").count(), 1);
}

#[test]
fn a_sweep_without_results_is_a_page_as_well() {
    let page = page(&summary("empty", &[]));
    assert!(
        page.contains("No cell is inside the theorem&#39;s assumptions"),
        "{page}"
    );
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn colours_part_at_the_tolerance() {
    assert_eq!(scale::excess_class(1e-9, 0.25), Some("n0"));
    assert_eq!(scale::excess_class(-1e-9, 0.25), Some("n0"));
    assert_eq!(scale::excess_class(1.1e-9, 0.25), Some("o1"));
    assert_eq!(scale::excess_class(-0.2, 0.25), Some("b5"));
    assert_eq!(
        scale::excess_class(0.2, 100.0),
        Some("o3"),
        "relative to the baseline"
    );
    assert_eq!(scale::excess_class(f64::INFINITY, 0.25), Some("o5"));
    assert_eq!(scale::excess_class(f64::NAN, 0.25), None);
    assert_eq!(scale::share_class(0, 0), "s0");
    assert_eq!(scale::share_class(7, 8), "s4");
    assert_eq!(scale::share_class(8, 8), "s5");
}

#[test]
fn numbers_have_six_digits_and_words_where_they_are_none() {
    assert_eq!(html::number(0.264_031_4), "0.264031");
    assert_eq!(html::number(-12.5), "−12.5000");
    assert_eq!(html::number(3.14e-12), "3.14e-12");
    assert_eq!(html::number(0.0), "0");
    assert_eq!(html::number(f64::NAN), "NaN");
    assert_eq!(html::number(f64::NEG_INFINITY), "-Infinity");
    assert_eq!(html::signed(-0.046), "−4.6e-2");
}
