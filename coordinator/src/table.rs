//! The summary as a table for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use common::summary::{CellSummary, CellVerdict, Summary};
use serde_json::Value;

/// Rows up to which every cell is shown.
const ALL: usize = 60;
/// Rows of a longer table: those with the largest excess.
const MOST: usize = 40;

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns of the terminal; `None` for as many as it takes.
    pub width: Option<u16>,
    /// Whether to use colours.
    pub colours: bool,
}

/// The table, and the sentences below it.
pub fn render(summary: &Summary, style: Style) -> String {
    let fields = varying(&summary.cells);
    let mut rows: Vec<&CellSummary> = summary.cells.iter().collect();
    let hidden = if rows.len() > ALL {
        rows.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
        rows.truncate(MOST);
        summary.cells.len() - MOST
    } else {
        0
    };
    // Every column in full, if that fits; else fewer of them, and lines that break.
    let mut table = draw(&rows, &fields, &WIDE, style);
    if let Some(width) = style.width
        && columns(&table) > usize::from(width)
    {
        table = draw(&rows, &fields, &NARROW, style);
        if columns(&table) > usize::from(width) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
    }
    let mut text = table.to_string();
    text.push('\n');
    if hidden > 0 {
        text.push_str(&format!(
            "{hidden} more cells with smaller excess are in summary.csv.\n"
        ));
    }
    text.push_str(&sentences(summary));
    text
}

fn excess(cell: &CellSummary) -> f64 {
    let worst = cell.worst.as_ref().and_then(|w| w.excess);
    worst.map_or(f64::NEG_INFINITY, |e| e.0)
}

/// Fields that have two different values somewhere, in their order. A field
/// that some cells lack follows from one that all have.
pub(crate) fn varying(cells: &[CellSummary]) -> Vec<String> {
    let mut fields: Vec<(&str, &Value, bool)> = Vec::new();
    for (name, value) in cells.iter().flat_map(|cell| &cell.cell.0) {
        match fields.iter_mut().find(|f| f.0 == name) {
            Some(known) => known.2 |= known.1 != value,
            None => fields.push((name, value, false)),
        }
    }
    let varying = fields.into_iter().filter(|f| f.2);
    varying.map(|f| f.0.to_owned()).collect()
}

/// What is told of a cell beside its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Runs,
    Certified,
    /// Both in one column.
    CertifiedOfRuns,
    Baseline,
    Worst,
    Excess,
    Verdict,
}

const WIDE: [Told; 6] = [
    Told::Runs,
    Told::Certified,
    Told::Baseline,
    Told::Worst,
    Told::Excess,
    Told::Verdict,
];
const NARROW: [Told; 3] = [Told::CertifiedOfRuns, Told::Excess, Told::Verdict];

impl Told {
    fn head(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Certified | Self::CertifiedOfRuns => "certified",
            Self::Baseline => "baseline",
            Self::Worst => "worst minimum",
            Self::Excess => "excess",
            Self::Verdict => "verdict",
        }
    }

    fn of(self, cell: &CellSummary, colours: bool) -> Cell {
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.6}"));
        let certified = cell.verdicts.certified();
        let worst = cell.worst.as_ref();
        match self {
            Self::Runs => Cell::new(cell.runs),
            Self::Certified => Cell::new(certified),
            Self::CertifiedOfRuns => Cell::new(format!("{certified}/{}", cell.runs)),
            Self::Baseline => Cell::new(number(cell.baseline.map(|b| b.value.0))),
            Self::Worst => Cell::new(number(worst.map(|w| w.value.0))),
            Self::Excess => {
                let excess = worst.and_then(|w| w.excess);
                Cell::new(excess.map_or("–".to_owned(), |e| format!("{:+.1e}", e.0)))
            }
            Self::Verdict => {
                let verdict = Cell::new(cell.verdict.name().replace('_', " "));
                if !colours {
                    return verdict;
                }
                verdict.fg(match cell.verdict {
                    CellVerdict::Holds | CellVerdict::NoneFound => Color::Green,
                    CellVerdict::Violated => Color::Red,
                    CellVerdict::BadMinimumFound => Color::Magenta,
                    CellVerdict::Inconclusive => Color::Yellow,
                })
            }
        }
    }
}

fn draw(rows: &[&CellSummary], fields: &[String], told: &[Told], style: Style) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED.with_rounded_corners());
    if !style.colours {
        table.force_no_tty();
    }
    let heads = fields.iter().map(String::as_str);
    table.set_header(
        heads
            .chain(told.iter().map(|told| told.head()))
            .map(|head| Cell::new(head).add_attribute(Attribute::Bold)),
    );
    for cell in rows {
        let values = fields.iter().map(|field| {
            let value = cell.cell.0.iter().find(|(name, _)| name == field);
            Cell::new(value.map_or(String::new(), |(_, value)| shown(value)))
        });
        let told = told.iter().map(|told| told.of(cell, style.colours));
        table.add_row(values.chain(told).collect::<Vec<_>>());
    }
    for (number, told) in (fields.len()..).zip(told) {
        if let Some(column) = table.column_mut(number)
            && *told != Told::Verdict
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Columns of the terminal that a table takes.
fn columns(table: &Table) -> usize {
    // The first line is border alone: no colour, no wide character.
    (table.lines().next()).map_or(0, |line| line.chars().count())
}

/// A value in few characters: `tanh`, `t / (1 + abs(t))`, `leaky_relu 0.1`.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(map) if map.contains_key("generate") => generated(map),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| match key.as_str() {
                "formula" => shown(value),
                _ => format!("{key} {}", shown(value)),
            };
            map.iter().map(entry).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Generated data in few words: `teacher 200×5→2 (tanh, depth 3, seed 7)`.
fn generated(map: &serde_json::Map<String, Value>) -> String {
    let of = |key: &str| map.get(key).map_or_else(|| "?".to_owned(), shown);
    let rest = map
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "generate" | "rows" | "inputs" | "outputs"))
        .map(|(key, value)| match value {
            Value::String(text) => text.clone(),
            other => format!("{key} {}", shown(other)),
        });
    let rest = rest.collect::<Vec<_>>().join(", ");
    let rest = if rest.is_empty() {
        rest
    } else {
        format!(" ({rest})")
    };
    format!(
        "{} {}×{}→{}{rest}",
        of("generate"),
        of("rows"),
        of("inputs"),
        of("outputs")
    )
}

/// What the numbers say.
fn sentences(summary: &Summary) -> String {
    let t = &summary.totals;
    let certified = t.verdicts.certified();
    let mut text = format!(
        "{} of {} tasks recorded, {certified} certified ({:.1} %)",
        t.recorded,
        t.planned,
        100.0 * certified as f64 / (t.recorded.max(1)) as f64
    );
    for (count, what) in [
        (t.verdicts.saddle, "saddles"),
        (t.verdicts.kink, "on kinks"),
        (t.verdicts.diverging, "diverging"),
        (t.verdicts.budget_exhausted, "out of budget"),
        (t.verdicts.non_finite, "not finite"),
        (t.failed, "failed"),
        (t.cancelled, "cancelled"),
        (t.missing, "missing"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text.push_str(".\n");
    let overall = &summary.overall;
    text.push_str(match overall.verdict {
        CellVerdict::Holds => "The theorem holds: no certified minimum lies above its baseline",
        CellVerdict::Violated => {
            "VIOLATED: a certified minimum lies above its baseline inside the theorem's assumptions"
        }
        _ if summary
            .cells
            .iter()
            .all(|c| !c.assumptions_broken.is_empty()) =>
        {
            "No cell is inside the theorem's assumptions"
        }
        _ => "Inconclusive: some cells have too few certified runs",
    });
    if let Some(worst) = overall.worst_excess {
        text.push_str(&format!("; worst excess {:+.1e}", worst.0));
    }
    text.push_str(".\n");
    if let Some(found) = outside(summary).sentence("the theorem's assumptions") {
        text.push_str(&found);
        text.push('\n');
    }
    text
}

/// The cells outside the theorem's assumptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// All of them.
    pub cells: usize,
    /// Those in which a bad minimum was found.
    pub found: usize,
}

/// Counts the cells outside the theorem's assumptions.
pub fn outside(summary: &Summary) -> Outside {
    let cells = summary.cells.iter();
    let outside: Vec<_> = cells.filter(|c| !c.assumptions_broken.is_empty()).collect();
    let found = outside
        .iter()
        .filter(|c| c.verdict == CellVerdict::BadMinimumFound);
    Outside {
        cells: outside.len(),
        found: found.count(),
    }
}

impl Outside {
    /// What was found outside of `what`; `None` if no cell is there.
    pub fn sentence(self, what: &str) -> Option<String> {
        let Self { cells, found } = self;
        let plural = if cells == 1 { "" } else { "s" };
        (cells > 0).then(|| {
            format!("Outside {what} a bad minimum was found in {found} of {cells} cell{plural}.")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{BaselineId, TaskId};
    use common::record::{Attainment, BaselineEvidence, Outcome, RunEvidence};
    use common::summary::{CellInfo, CellKey, Fold, FoundBy, RecordedRun, Rules, SweepInfo};
    use serde_json::json;

    fn summary() -> Summary {
        let info = SweepInfo {
            id: "s".into(),
            name: "s".into(),
            grid_sha256: String::new(),
            numeric_level: "l".into(),
            reproducible: true,
        };
        let mut fold = Fold::new(info, Rules::default());
        fold.planned(12);
        let baseline = BaselineId([0; 32]);
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
        fold.add_baseline(baseline, &evidence).unwrap();
        for key in 0..2_u8 {
            let info = CellInfo {
                description: vec![
                    ("data".into(), json!("diabetes")),
                    ("depth".into(), json!(key + 1)),
                ],
                assumptions_broken: vec![],
                notes: vec![],
                baseline,
            };
            fold.cell(CellKey(u32::from(key)), info);
            for seed in 0..6_u8 {
                let outcome = if seed == 5 {
                    Outcome::Saddle
                } else {
                    Outcome::CertifiedMinimum
                };
                let run = RunEvidence {
                    value: 0.2 + f64::from(seed) * 1e-3,
                    ..RunEvidence::empty(outcome)
                };
                fold.add_run(&RecordedRun {
                    cell: CellKey(u32::from(key)),
                    task: TaskId([8 * key + seed; 32]),
                    seed: u64::from(seed),
                    start: "standard",
                    random: true,
                    found_by: FoundBy::Grid,
                    evidence: &run,
                    digest: [seed; 32],
                })
                .unwrap();
            }
        }
        fold.finish()
    }

    #[test]
    fn only_what_varies_is_a_column_and_uncertified_runs_are_visible() {
        let style = Style {
            width: Some(80),
            colours: false,
        };
        let text = render(&summary(), style);
        assert!(!text.contains("diabetes"), "{text}");
        assert!(text.contains("depth"), "{text}");
        assert!(
            text.contains("12 of 12 tasks recorded, 10 certified (83.3 %), 2 saddles."),
            "{text}"
        );
        assert!(text.contains("The theorem holds"), "{text}");
        assert!(text.contains("-4.6e-2"), "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 90), "{text}");
    }

    #[test]
    fn what_was_found_outside_the_assumptions_is_said_in_the_end() {
        let style = Style {
            width: Some(80),
            colours: false,
        };
        let mut summary = summary();
        assert!(!render(&summary, style).contains("Outside"));
        summary.cells[1].assumptions_broken = vec!["no_skip".to_owned()];
        let end = |summary: &Summary| render(summary, style).lines().last().unwrap().to_owned();
        let said = "Outside the theorem's assumptions a bad minimum was found in";
        assert_eq!(end(&summary), format!("{said} 0 of 1 cell."));
        summary.cells[1].verdict = CellVerdict::BadMinimumFound;
        assert_eq!(end(&summary), format!("{said} 1 of 1 cell."));
    }

    #[test]
    fn a_table_keeps_to_the_width_and_tells_less_where_there_is_little() {
        let at = |width| {
            let style = Style {
                width: Some(width),
                colours: false,
            };
            let text = render(&summary(), style);
            let table: Vec<String> = text
                .lines()
                .filter(|l| !l.starts_with(|c: char| c.is_alphanumeric()))
                .map(str::to_owned)
                .collect();
            assert!(
                table
                    .iter()
                    .all(|l| l.chars().count() <= usize::from(width)),
                "{width}: {text}"
            );
            text
        };
        assert!(at(100).contains("worst minimum"));
        let narrow = at(45);
        assert!(
            !narrow.contains("worst minimum") && narrow.contains("5/6"),
            "{narrow}"
        );
        at(25);
    }
}
