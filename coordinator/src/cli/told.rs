//! What is known of sweeps, workers and tasks, as text and as JSON.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};
use common::pb::wire;
use common::summary::{Verdict, VerdictCounts};
use serde_json::{Value, json};

use super::{print, table_style};
use crate::core::SweepState;
use crate::pace::Estimate;
use crate::progress::{Moment, count, time_left};

/// A sweep as a coordinator sent it.
pub(super) fn moment(s: &wire::SweepStatus) -> Moment {
    let v = s.verdicts.unwrap_or_default();
    Moment {
        planned: s.planned,
        recorded: s.recorded,
        failed: s.failed,
        leased: s.leased,
        workers: s.workers,
        slots: s.slots,
        verdicts: VerdictCounts {
            certified_minimum: v.certified_minimum,
            violation: v.violation,
            saddle: v.saddle,
            kink: v.kink,
            diverging: v.diverging,
            budget_exhausted: v.budget_exhausted,
            non_finite: v.non_finite,
        },
        certified: s.certified,
        violations: s.violations,
        // One of before that does not tell them apart.
        violations_inside: s.violations_inside.unwrap_or(s.violations),
        worst_excess: s.worst_excess,
        computed: s.computed,
        computed_seconds: s.computed_seconds,
        work_left: s.work_left.map(estimate),
        rate: s.rate,
        left: s.time_left.map(estimate),
    }
}

fn estimate(left: wire::WorkLeft) -> Estimate {
    Estimate {
        seconds: left.seconds,
        interval: left.low95.zip(left.high95),
        longest: 0.0,
    }
}

/// Whether it is known how far a sweep is: a grid has a task at least, so one that is over with
/// none planned is one that the coordinator cannot read.
pub(super) fn is_known(s: &wire::SweepStatus) -> bool {
    let over = [SweepState::Finished, SweepState::Cancelled];
    s.planned > 0 || !over.iter().any(|state| state.name() == s.state)
}

fn status_json(s: &wire::SweepStatus) -> Value {
    let known = is_known(s);
    let counted = |n: u64| known.then_some(n);
    let moment = moment(s);
    let interval = moment.work_left.and_then(|left| left.interval);
    let time = moment.left.and_then(|left| left.interval);
    json!({
        "sweep": s.sweep,
        "id": s.id,
        "name": s.name,
        "state": s.state,
        "priority": s.priority,
        "planned": counted(s.planned),
        "recorded": counted(s.recorded),
        "failed": counted(s.failed),
        "leased": s.leased,
        "certified": counted(s.certified),
        "violations": counted(s.violations),
        "violations_inside": counted(moment.violations_inside),
        "verdicts": known.then_some(moment.verdicts),
        "worst_excess": s.worst_excess,
        "workers": s.workers,
        "slots": s.slots,
        "computing_seconds_left": moment.work_left.map(|left| left.seconds),
        "computing_seconds_left_low95": interval.map(|(low, _)| low),
        "computing_seconds_left_high95": interval.map(|(_, high)| high),
        "tasks_per_second": moment.rate,
        "seconds_left": moment.left.map(|left| left.seconds),
        "seconds_left_low95": time.map(|(low, _)| low),
        "seconds_left_high95": time.map(|(_, high)| high),
    })
}

/// `status --json`.
pub(super) fn list_json(reply: &wire::ListReply) -> Value {
    let workers = reply.workers.iter().map(|w| {
        json!({
            "name": w.name,
            "host": w.host,
            "slots": w.slots,
            "connected": w.connected,
            "draining": w.draining,
            "held": w.held,
            "memory": w.memory,
            "task_seconds": w.task_seconds,
        })
    });
    json!({
        "sweeps": reply.sweeps.iter().map(status_json).collect::<Vec<_>>(),
        "workers": workers.collect::<Vec<_>>(),
        "store_failing": reply.store_failing,
    })
}

/// A table of standard output, with heads; the columns `right` are numbers.
pub(super) fn table(heads: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let style = table_style();
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED.with_rounded_corners())
        .set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = style.width {
        table.set_width(width);
    }
    if !style.colours {
        table.force_no_tty();
    }
    table.set_header(
        heads
            .iter()
            .map(|head| Cell::new(head).add_attribute(Attribute::Bold)),
    );
    for row in rows {
        table.add_row(row);
    }
    for number in right {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// `status`.
pub(super) fn list_text(reply: &wire::ListReply) -> String {
    if reply.sweeps.is_empty() && reply.workers.is_empty() {
        return "no sweep\n".to_owned();
    }
    let dash = || "–".to_owned();
    let number = |n: u64| if n == 0 { dash() } else { count(n) };
    let sweeps = reply.sweeps.iter().map(|s| {
        let excess = s.worst_excess.map_or_else(dash, |x| format!("{x:+.1e}"));
        vec![
            s.sweep.to_string(),
            s.name.clone(),
            s.state.clone(),
            match is_known(s) {
                true => format!("{}/{}", count(s.recorded + s.failed), count(s.planned)),
                false => dash(),
            },
            if is_known(s) {
                count(s.certified)
            } else {
                dash()
            },
            number(s.recorded.saturating_sub(s.certified)),
            number(s.failed),
            number(s.violations),
            excess,
            number(s.leased),
        ]
    });
    let heads = [
        "#",
        "sweep",
        "state",
        "done",
        "certified",
        "uncertified",
        "failed",
        "above baseline",
        "worst excess",
        "in work",
    ];
    let mut text = table(&heads, &[0, 3, 4, 5, 6, 7, 8, 9], sweeps.collect());
    if !reply.workers.is_empty() {
        let workers = reply.workers.iter().map(|w| {
            let how = match (w.connected, w.draining) {
                (false, _) => "not connected",
                (true, true) => "leaving",
                (true, false) => "connected",
            };
            let seconds = w.task_seconds.map_or_else(dash, |s| format!("{s:.2} s"));
            vec![
                w.name.clone(),
                w.host.clone(),
                how.to_owned(),
                w.slots.to_string(),
                w.held.to_string(),
                seconds,
                format!("{} MiB", w.memory >> 20),
            ]
        });
        let heads = [
            "worker", "host", "state", "slots", "tasks", "a task", "memory",
        ];
        text.push_str(&table(&heads, &[3, 4, 5, 6], workers.collect()));
    }
    if reply.store_failing {
        text.push_str("the store takes no records at the moment; nothing is acknowledged\n");
    }
    text
}

/// One sweep on one line.
fn line(s: &wire::SweepStatus) -> String {
    if !is_known(s) {
        return format!("{} {}: {}, results unreadable", s.sweep, s.name, s.state);
    }
    let mut text = format!(
        "{} {}: {}, {} of {} recorded, {} certified",
        s.sweep, s.name, s.state, s.recorded, s.planned, s.certified
    );
    if s.failed > 0 {
        text.push_str(&format!(", {} FAILED", s.failed));
    }
    if s.violations > 0 {
        text.push_str(&format!(", {} above their baseline", s.violations));
    }
    if let Some(excess) = s.worst_excess {
        text.push_str(&format!(", worst excess {excess:+.1e}"));
    }
    if s.leased > 0 {
        text.push_str(&format!(", {} in work", s.leased));
    }
    if let Some(left) = moment(s).left.filter(|left| left.seconds > 0.0) {
        text.push_str(&format!(", {}", time_left(left)));
    }
    text
}

/// Shows one sweep, on one line.
pub(super) fn show(status: &wire::SweepStatus, json: bool) {
    if json {
        print(&format!("{}\n", status_json(status)));
    } else {
        print(&format!("{}\n", line(status)));
    }
}

/// `explain`: a task as a few lines, those of a cell as a table. Without a terminal, lines break at
/// 100 columns.
pub(super) fn explanation(found: &Value) -> String {
    explained(found, usize::from(table_style().width.unwrap_or(100)))
}

fn explained(found: &Value, width: usize) -> String {
    match found.as_array() {
        Some(tasks) if tasks.len() != 1 => tasks_of_a_cell(tasks, width),
        Some(tasks) => one_task(&tasks[0], width),
        None => one_task(found, width),
    }
}

fn tasks_of_a_cell(tasks: &[Value], width: usize) -> String {
    let mut text = String::new();
    if let Some(first) = tasks.first() {
        text.push_str(&folded("", &named(&first["cell"]), width));
        text.push_str(&format!("baseline: {}\n", baseline(&first["baseline"])));
    }
    let rows = tasks.iter().map(|task| {
        let result = &task["result"];
        vec![
            task["position"].to_string(),
            short(&task["task"]),
            task["seed"].to_string(),
            crate::table::shown(&task["start"]),
            words(&task["state"]),
            verdict(task),
            number(&result["value"], |x| format!("{x:.6}")),
            number(&result["excess"], |x| format!("{x:+.1e}")),
            task["failures"].as_array().map_or(0, Vec::len).to_string(),
        ]
    });
    let heads = [
        "position", "task", "seed", "start", "state", "verdict", "value", "excess", "failures",
    ];
    text + &table(&heads, &[0, 2, 6, 7, 8], rows.collect())
}

fn one_task(task: &Value, width: usize) -> String {
    let mut text = format!("task      {}\n", words(&task["task"]));
    let by = if task["found_by"] == "search" {
        "added by the search"
    } else {
        "of the grid"
    };
    let mut say = |name: &str, what: String| {
        text.push_str(&folded(&format!("{name:<9} "), &what, width));
    };
    say("why", format!("position {} {by}", task["position"]));
    say("cell", named(&task["cell"]));
    say(
        "run",
        format!(
            "seed {}, start {}",
            task["seed"],
            crate::table::shown(&task["start"])
        ),
    );
    say("baseline", baseline(&task["baseline"]));
    say("state", words(&task["state"]));
    let result = &task["result"];
    if !result.is_null() {
        let small = |name: &str| number(&result[name], |x| format!("{x:.1e}"));
        say(
            "result",
            format!(
                "{}: value {}, excess {}, gradient norm {}, smallest eigenvalue {}, {} evaluations",
                verdict(task),
                number(&result["value"], |x| format!("{x:.9}")),
                number(&result["excess"], |x| format!("{x:+.1e}")),
                small("gradient_norm"),
                small("min_eigenvalue"),
                result["evaluations"],
            ),
        );
    }
    if task["found_by"] == "search" && !result.is_null() {
        say(
            "again",
            format!(
                "worker run --minimum minima/{}.json; the grid has no such task, and `--minima all` \
                 keeps such a file of every run",
                words(&task["task"])
            ),
        );
    }
    for (name, of) in [
        ("failure", task),
        ("failure of the baseline", &task["baseline"]),
    ] {
        for failure in of["failures"].as_array().into_iter().flatten() {
            let aside = if failure["set_aside"] == true {
                " (set aside)"
            } else {
                ""
            };
            let (kind, attempt) = (words(&failure["kind"]), words(&failure["attempt"]));
            let (worker, message) = (short(&failure["worker"]), words(&failure["message"]));
            say(
                name,
                format!("{kind} in attempt {attempt} on worker {worker}{aside}: {message}"),
            );
        }
    }
    text
}

/// A line with a head, broken between words.
fn folded(head: &str, text: &str, width: usize) -> String {
    let indent = " ".repeat(head.len());
    let mut out = head.to_owned();
    let mut column = head.len();
    for (number, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if number > 0 && column + 1 + length > width {
            out.push('\n');
            out.push_str(&indent);
            column = indent.len();
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
    out
}

/// The verdict of a task's run; outside the assumptions nothing is violated.
fn verdict(task: &Value) -> String {
    let verdict = words(&task["result"]["verdict"]);
    let broken = task["assumptions_broken"].as_array();
    if verdict == Verdict::Violation.name() && broken.is_some_and(|broken| !broken.is_empty()) {
        return "certified minimum above the baseline".to_owned();
    }
    verdict
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}

/// The first digits of an identity.
fn short(value: &Value) -> String {
    words(value).chars().take(12).collect()
}

fn number(value: &Value, shown: impl Fn(f64) -> String) -> String {
    match value.as_f64() {
        Some(x) => shown(x),
        None => words(value),
    }
}

fn named(cell: &Value) -> String {
    // What tells cells apart most often comes first.
    const FIRST: [&str; 7] = [
        "data",
        "body",
        "depth",
        "width",
        "activation",
        "skip",
        "loss",
    ];
    let place = |name: &str| FIRST.iter().position(|f| *f == name).unwrap_or(FIRST.len());
    let mut fields: Vec<_> = cell.as_object().into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| place(name));
    let fields = fields
        .into_iter()
        .map(|(name, value)| format!("{name} {}", crate::table::shown(value)));
    fields.collect::<Vec<_>>().join(", ")
}

fn baseline(baseline: &Value) -> String {
    if let Some(value) = baseline["value"].as_f64() {
        let bound = number(&baseline["lower_bound"], |x| format!("{x:.9}"));
        return format!("{value:.9}, with the lower bound {bound}");
    }
    words(&baseline["state"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_told_in_a_few_lines() {
        let task = json!({
            "task": "4f9a1c", "position": 17, "found_by": "grid",
            "cell": {"depth": 4, "activation": {"formula": "t"}},
            "seed": 3, "start": "standard", "state": "set aside after its failures",
            "baseline": {"baseline": "77", "value": 0.25, "lower_bound": 0.25, "failures": []},
            "result": null,
            "failures": [{
                "attempt": "1.2", "worker": "0123456789abcdef", "kind": "out_of_memory",
                "message": "killed", "failed_at_ms": 0, "set_aside": true
            }],
        });
        assert_eq!(
            explained(&task, 100),
            "task      4f9a1c\n\
             why       position 17 of the grid\n\
             cell      depth 4, activation t\n\
             run       seed 3, start standard\n\
             baseline  0.250000000, with the lower bound 0.250000000\n\
             state     set aside after its failures\n\
             failure   out_of_memory in attempt 1.2 on worker 0123456789ab (set aside): killed\n"
        );
    }

    #[test]
    fn what_is_not_known_of_a_sweep_is_no_zero() {
        let lost = wire::SweepStatus {
            sweep: 3,
            name: "lost".to_owned(),
            state: "finished".to_owned(),
            ..wire::SweepStatus::default()
        };
        let json = status_json(&lost);
        for name in ["planned", "recorded", "failed", "certified", "violations"] {
            assert!(json[name].is_null(), "{name}: {json}");
        }
        assert_eq!(line(&lost), "3 lost: finished, results unreadable");
        let reply = wire::ListReply {
            sweeps: vec![lost.clone()],
            ..wire::ListReply::default()
        };
        assert!(!list_text(&reply).contains("0/0"), "{}", list_text(&reply));
        let begun = wire::SweepStatus {
            state: "running".to_owned(),
            ..lost
        };
        assert_eq!(status_json(&begun)["recorded"], 0);
    }

    #[test]
    fn what_breaks_no_theorem_is_called_no_violation() {
        let mut task = json!({
            "task": "4f9a1c", "position": 1, "found_by": "grid", "cell": {"depth": 4},
            "assumptions_broken": ["no_skip"], "seed": 3, "start": "standard",
            "state": "recorded", "failures": [],
            "baseline": {"baseline": "77", "value": 0.25, "lower_bound": 0.25, "failures": []},
            "result": {"verdict": "violation", "value": 0.5, "excess": 0.25},
        });
        let outside = explained(&task, 1_000);
        assert!(
            outside.contains("certified minimum above the baseline: value"),
            "{outside}"
        );
        task["assumptions_broken"] = json!([]);
        assert!(explained(&task, 1_000).contains("violation: value"));
    }

    #[test]
    fn a_run_of_the_search_is_computed_again_from_its_minimum() {
        let mut task = json!({
            "task": "4f9a1c", "position": 170, "found_by": "search", "cell": {"depth": 4},
            "seed": 3, "start": "standard", "state": "recorded", "failures": [],
            "baseline": {"baseline": "77", "value": 0.25, "lower_bound": 0.25, "failures": []},
            "result": {"verdict": "certified_minimum", "value": 0.5, "excess": 0.25},
        });
        let again = "worker run --minimum minima/4f9a1c.json";
        assert!(explained(&task, 1_000).contains(again));
        task["found_by"] = json!("grid");
        assert!(!explained(&task, 1_000).contains(again));
    }

    #[test]
    fn the_tasks_of_a_cell_are_rows() {
        let task = |seed: u64| {
            json!({
                "task": "4f9a1c", "position": seed, "found_by": "grid", "cell": {"depth": 4},
                "seed": seed, "start": "standard", "state": "recorded",
                "baseline": {"baseline": "77", "state": "not solved yet: the task waits for it"},
                "result": {"verdict": "saddle", "value": 0.5, "excess": null},
                "failures": [],
            })
        };
        let text = explained(&json!([task(0), task(1)]), 100);
        assert!(
            text.starts_with("depth 4\nbaseline: not solved yet"),
            "{text}"
        );
        assert_eq!(text.matches("saddle").count(), 2, "{text}");
    }
}
