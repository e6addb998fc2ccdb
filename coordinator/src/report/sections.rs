//! The parts of the page in words and tables.

use std::collections::BTreeMap;

use common::summary::{CellSummary, CellVerdict, RunSummary, Summary, Verdict};
use serde_json::Value;

use super::html::{Html, count, escape, name, number, optional, signed};
use super::{Provenance, View};
use crate::table::outside;
use crate::when::utc_for_people;

/// What follows, in one sentence, and what such a sweep can show.
pub(super) fn verdict(page: &mut Html, view: &View<'_>) {
    let summary = view.summary;
    let overall = summary.overall.verdict;
    page.raw(&format!(
        "<header>\n<p class=\"kicker\">Sweep report</p>\n<h1>{}</h1>\n",
        escape(&summary.sweep.name)
    ));
    page.raw(&format!(
        "<p class=\"verdict {}\"><strong>{}</strong> {}</p>\n",
        overall.name(),
        escape(&capital(&name(&overall))),
        escape(&sentence(summary))
    ));
    page.paragraph("lead", &lead(summary));
    page.paragraph(
        "lead",
        "Inside its assumptions the theorem is proved: a violation there would mean a bug or a \
         tolerance too loose, and finding none adds no proof. What the sweep measures is which \
         certified minima training reaches from these starts, and how far they and the unfinished \
         runs lie from the best classical linear model; certified runs are not a fair sample, so \
         the others always stand beside them.",
    );
    if summary.sweep.partial {
        let missing = summary.totals.missing;
        let verb = if missing == 1 { "is" } else { "are" };
        let text = format!(
            "Partial: {} of the sweep {verb} missing.",
            count(missing, "task")
        );
        page.paragraph("warning", &text);
    }
    if !summary.sweep.reproducible {
        page.paragraph(
            "warning",
            "Runs were limited by seconds: computing them again may give other results.",
        );
    }
    page.raw("</header>\n");
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_uppercase().chain(chars).collect::<String>() + "."
    })
}

/// What a run does, by the networks and starts that are there.
fn lead(summary: &Summary) -> String {
    const THEOREMS: &str = "residual network f(x) = W(φ(x) + V z(x; u))";
    let is = |cell: &CellSummary, skip: &str| {
        let found = cell.cell.0.iter().find(|(name, _)| name == "skip");
        found.map_or("outer", |(_, value)| value.as_str().unwrap_or("outer")) == skip
    };
    let all = |skip| summary.cells.iter().all(|cell| is(cell, skip));
    let (network, such) = if all("outer") {
        (format!("a {THEOREMS}"), "such a network".to_owned())
    } else {
        let network = if all("none") {
            "a plain network f(x) = W z(x; u) + c without a skip".to_owned()
        } else if all("chain") {
            "a chain of blocks, each with a skip of its own and none from φ(x) to the output,"
                .to_owned()
        } else {
            format!("a {THEOREMS}, or a control with other skips or none,")
        };
        (network, format!("the {THEOREMS}"))
    };
    let starts = || summary.cells.iter().flat_map(|cell| &cell.by_start);
    let given = starts().filter(|by| by.start.starts_with("point(")).count();
    let start = match given {
        0 => "a random start",
        n if n == starts().count() => "a given point",
        _ => "a random start or a given point",
    };
    format!(
        "Each run trains {network} from {start} to a point that is certified as a local minimum, \
         and sets its objective beside the baseline: the best classical linear model R·φ(x), \
         solved to proved optimality. Kawaguchi and Bengio (2018) prove that no local minimum of \
         {such} lies above that baseline, whatever the depth and the activation."
    )
}

fn sentence(summary: &Summary) -> String {
    let cells = summary.cells.iter();
    let inside: Vec<&CellSummary> = cells.filter(|c| c.assumptions_broken.is_empty()).collect();
    let certified: u64 = inside.iter().map(|c| c.verdicts.certified()).sum();
    let searched = inside.iter().filter_map(|c| c.search);
    let searched: u64 = searched.map(|search| search.verdicts.certified()).sum();
    let and_searched = match searched {
        0 => String::new(),
        n => format!(" and {n} of the search"),
    };
    let of = |verdict| inside.iter().filter(|c| c.verdict == verdict).count() as u64;
    let cells = count(inside.len() as u64, "cell");
    let worst = summary.overall.worst_excess.map_or(String::new(), |e| {
        {
            // The tolerance is never smaller than this.
            let on = if e.0.abs() <= 1e-9 {
                ", on the baseline to the tolerance"
            } else {
                ""
            };
            format!(" The worst excess is {}{on}.", signed(e.0))
        }
    });
    let mut text = match summary.overall.verdict {
        CellVerdict::Violated => format!(
            "In {} of {cells} inside the theorem's assumptions a certified minimum lies above its \
             baseline.{worst}",
            of(CellVerdict::Violated)
        ),
        _ if inside.is_empty() => {
            "No cell is inside the theorem's assumptions, so nothing here tests it.".to_owned()
        }
        CellVerdict::Holds => format!(
            "None of {}{and_searched} in {cells} inside the theorem's assumptions lies above its \
             baseline.{worst}",
            count(certified, "certified minimum").replace("minimums", "minima")
        ),
        _ => format!(
            "{} of {cells} inside the theorem's assumptions {} too few certified runs or a \
             baseline that is not proved; {}.{worst}",
            of(CellVerdict::Inconclusive),
            if of(CellVerdict::Inconclusive) == 1 {
                "has"
            } else {
                "have"
            },
            match (certified, searched) {
                (0, 0) => "no run there is certified".to_owned(),
                (1, 0) => "the one certified minimum does not lie above its baseline".to_owned(),
                (n, _) =>
                    format!("none of {n} certified minima{and_searched} lies above its baseline"),
            }
        ),
    };
    if let Some(found) = outside(summary).sentence("them") {
        text.push(' ');
        text.push_str(&found);
    }
    text
}

/// What was planned and what became of it.
pub(super) fn coverage(page: &mut Html, view: &View<'_>) {
    let summary = view.summary;
    let t = &summary.totals;
    let certified = t.verdicts.certified();
    let trivial: u64 = summary.cells.iter().map(|c| c.trivial).sum();
    let at_baseline: u64 = summary.cells.iter().filter_map(|c| c.at_baseline).sum();
    page.section("coverage", "Coverage");
    page.raw("<dl class=\"tiles\">\n");
    let mut tile = |what: &str, n: u64, note: String| {
        page.raw(&format!(
            "<div><dt>{}</dt><dd>{n}<small>{}</small></dd></div>\n",
            escape(what),
            escape(&note)
        ));
    };
    let share = |n: u64, of: u64| match of {
        0 => String::new(),
        _ => format!("{:.1} %", 100.0 * n as f64 / of as f64),
    };
    tile(
        "planned",
        t.planned,
        count(summary.cells.len() as u64, "cell"),
    );
    tile("recorded", t.recorded, share(t.recorded, t.planned));
    tile("certified", certified, share(certified, t.recorded));
    for verdict in Verdict::ALL {
        let n = t.verdicts.get(verdict);
        if verdict == Verdict::Violation {
            tile("above baseline", n, "of the certified".to_owned());
        } else if !verdict.is_certified() {
            tile(&name(&verdict), n, "uncertified".to_owned());
        }
    }
    tile("at baseline", at_baseline, "of the certified".to_owned());
    tile("trivial", trivial, "W V = 0".to_owned());
    tile("refuted", t.refuted, "candidates".to_owned());
    tile("failed", t.failed, "given up".to_owned());
    tile("cancelled", t.cancelled, String::new());
    if summary.sweep.partial || t.missing > 0 {
        tile("missing", t.missing, "partial".to_owned());
    }
    page.raw("</dl>\n");
    page.end();
}

/// A column of the table of cells: its head, its text, whether it is a number.
type CellColumn = (&'static str, fn(&CellSummary) -> String, bool);

/// What a reader compares.
const CELLS: [CellColumn; 14] = [
    ("verdict", |c| name(&c.verdict), false),
    ("runs", |c| c.runs.to_string(), true),
    ("certified", |c| c.verdicts.certified().to_string(), true),
    ("uncertified", |c| by_verdict(&c.verdicts), false),
    ("at baseline", |c| or_dash(c.at_baseline), true),
    ("trivial", |c| c.trivial.to_string(), true),
    ("failed", |c| c.failed.to_string(), true),
    ("baseline", |c| optional(c.baseline.map(|b| b.value)), true),
    ("worst", |c| value(&c.worst), true),
    ("excess", excess, true),
    ("worst not trivial", |c| value(&c.worst_nontrivial), true),
    ("worst uncertified", uncertified, false),
    ("best", |c| value(&c.best), true),
    (
        "median improvement",
        |c| optional(c.median_improvement),
        true,
    ),
];

/// The rest of what the summary says.
const DETAILS: [CellColumn; 12] = [
    (
        "lower bound",
        |c| optional(c.baseline.map(|b| b.lower_bound)),
        true,
    ),
    (
        "status",
        |c| or_dash(c.baseline.map(|b| name(&b.status))),
        false,
    ),
    ("min", |c| optional(c.values.map(|v| v.min)), true),
    ("q25", |c| optional(c.values.map(|v| v.q25)), true),
    ("median", |c| optional(c.values.map(|v| v.median)), true),
    ("q75", |c| optional(c.values.map(|v| v.q75)), true),
    ("max", |c| optional(c.values.map(|v| v.max)), true),
    ("cancelled", |c| c.cancelled.to_string(), true),
    ("search: certified / runs", searched, true),
    ("by start: certified / runs, bounds", starts, false),
    (
        "assumptions broken",
        |c| listed(&c.assumptions_broken),
        false,
    ),
    ("notes", |c| listed(&c.notes), false),
];

fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "–".to_owned(), |text| text.to_string())
}

fn value(run: &Option<RunSummary>) -> String {
    or_dash(run.as_ref().map(|r| number(r.value.0)))
}

fn excess(cell: &CellSummary) -> String {
    let excess = cell.worst.as_ref().and_then(|w| w.excess);
    or_dash(excess.map(|e| signed(e.0)))
}

fn uncertified(cell: &CellSummary) -> String {
    let run = cell.worst_uncertified.as_ref();
    or_dash(run.map(|r| format!("{} ({})", number(r.value.0), name(&r.verdict))))
}

fn searched(cell: &CellSummary) -> String {
    let shown =
        |s: common::summary::SearchSummary| format!("{} / {}", s.verdicts.certified(), s.runs);
    or_dash(cell.search.map(shown))
}

/// Every cell with all that the summary says of it.
pub(super) fn cells(page: &mut Html, view: &View<'_>) {
    page.section("cells", "All cells");
    table(page, view, &CELLS);
    constant_fields(page, view);
    page.raw("<details><summary>Quantiles, bounds by start, assumptions, notes</summary>\n");
    page.paragraph(
        "note",
        "Bounds by start: with 95 % confidence, the probability that a fresh run of the start that \
         certifies lies above the baseline is at most the first number, and at most the second if \
         every uncertified run counts as one that does.",
    );
    table(page, view, &DETAILS);
    page.raw("</details>\n");
    page.end();
}

fn table(page: &mut Html, view: &View<'_>, columns: &[CellColumn]) {
    page.raw("<div class=\"scroll\"><table class=\"cells\">\n");
    let mut heads: Vec<&str> = view.fields.iter().map(String::as_str).collect();
    if heads.is_empty() {
        heads.push("cell");
    }
    heads.extend(columns.iter().map(|(head, ..)| *head));
    page.heads(&heads);
    page.raw("<tbody>\n");
    for cell in &view.summary.cells {
        page.raw("<tr>");
        if view.fields.is_empty() {
            page.raw("<th scope=\"row\">the only cell</th>");
        }
        for field in &view.fields {
            let text = escape(&View::field(cell, field));
            page.raw(&format!("<th scope=\"row\">{text}</th>"));
        }
        for (head, text, is_number) in columns {
            let class = match (*head, is_number) {
                ("verdict", _) => format!(" class=\"verdict {}\"", cell.verdict.name()),
                (_, true) => " class=\"n\"".to_owned(),
                (_, false) => String::new(),
            };
            page.raw(&format!("<td{class}>{}</td>", escape(&text(cell))));
        }
        page.raw("</tr>\n");
    }
    page.raw("</tbody></table></div>\n");
}

/// `1 saddle, 2 kink`.
fn by_verdict(verdicts: &common::summary::VerdictCounts) -> String {
    let parts: Vec<String> = Verdict::ALL
        .iter()
        .filter(|v| !v.is_certified() && verdicts.get(**v) > 0)
        .map(|v| format!("{} {}", verdicts.get(*v), name(v)))
        .collect();
    listed(&parts)
}

fn listed(parts: &[String]) -> String {
    match parts {
        [] => "–".to_owned(),
        parts => parts.join("; "),
    }
}

fn starts(cell: &CellSummary) -> String {
    let parts: Vec<String> = cell
        .by_start
        .iter()
        .map(|s| {
            let bounds = match (s.violation_share_upper95, s.worst_case_upper95) {
                (None, None) => String::new(),
                (a, b) => format!(", ≤ {} / ≤ {}", optional(a), optional(b)),
            };
            format!("{} {} / {}{bounds}", s.start, s.certified, s.runs)
        })
        .collect();
    listed(&parts)
}

/// What all cells have in common.
fn constant_fields(page: &mut Html, view: &View<'_>) {
    let Some(cell) = view.summary.cells.first() else {
        return;
    };
    let same: Vec<String> = cell
        .cell
        .0
        .iter()
        .filter(|(field, _)| !view.fields.contains(field))
        .map(|(field, value)| format!("{field} {}", crate::table::shown(value)))
        .collect();
    if !same.is_empty() {
        let text = format!("The same in all cells: {}.", same.join(" · "));
        page.paragraph("note", &text);
    }
}

/// Where the numbers come from.
pub(super) fn provenance(page: &mut Html, view: &View<'_>, provenance: &Provenance<'_>) {
    let sweep = &view.summary.sweep;
    let run = provenance.run;
    page.section("provenance", "Provenance");
    page.raw("<div class=\"scroll\"><table class=\"facts\"><tbody>\n");
    let mut fact = |what: &str, text: &str| {
        page.raw(&format!(
            "<tr><th scope=\"row\">{}</th><td><code>{}</code></td></tr>\n",
            escape(what),
            escape(text)
        ));
    };
    fact("sweep", &sweep.id);
    fact("grid, SHA-256", &sweep.grid_sha256);
    fact("results, SHA-256", &sweep.results_sha256);
    fact("numeric level", &sweep.numeric_level);
    fact(
        "numerics version",
        &common::canon::NUMERICS_VERSION.to_string(),
    );
    fact("program version", text_of(&run["program_version"]));
    fact("commit", run["commit"].as_str().unwrap_or("not known"));
    fact("summary format", view.summary.schema);
    fact("sweep created", &utc_for_people(provenance.created_at));
    if let (Some(first), Some(last)) = (
        run["first_recorded_at_ms"].as_u64(),
        run["last_recorded_at_ms"].as_u64(),
    ) {
        fact("first result", &utc_for_people(first));
        fact("last result", &utc_for_people(last));
    }
    let account = &run["coordinator"];
    if account.is_object() {
        fact("host of the coordinator", text_of(&account["host"]));
        let seconds = account["seconds"].as_f64().unwrap_or(0.0);
        fact("its last life", &format!("{seconds:.1} s"));
        let command = account["command"].as_array().into_iter().flatten();
        let command: Vec<&str> = command.map(text_of).collect();
        fact("command", &command.join(" "));
        let end = account["finished"].as_bool() == Some(true);
        fact("came to its end", if end { "yes" } else { "no" });
    }
    page.raw("</tbody></table></div>\n");
    computers(page, run);
    verification(page, &run["verification"]);
    page.raw("<h3>To reproduce a run</h3>\n");
    page.paragraph(
        "note",
        "With the grid below as grid.yaml, and the files that it names beside it; TASK is the \
         identity of the run, as in runs.parquet, or its first digits. The numbers come out to the \
         last bit.",
    );
    if view.summary.cells.iter().any(|cell| cell.search.is_some()) {
        page.paragraph(
            "note",
            "Runs of the search are not in the grid. Where such a run is in minima/ (--minima all \
             keeps them all), its file says it: worker run --minimum minima/TASK.json.",
        );
    }
    page.raw(
        "<pre>worker run --grid grid.yaml --task TASK</pre>\n\
         <details><summary>The grid</summary>\n<pre>",
    );
    page.raw(&escape(provenance.grid));
    page.raw("</pre></details>\n");
    page.end();
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or("–")
}

/// Workers of one host and version.
#[derive(Default)]
struct Host {
    workers: u64,
    results: u64,
    cpu_seconds: f64,
    peak_memory: u64,
}

/// Who computed it, by host and version.
fn computers(page: &mut Html, run: &Value) {
    let mut hosts: BTreeMap<(&str, &str), Host> = BTreeMap::new();
    let workers = run["workers"].as_object();
    for worker in workers.into_iter().flat_map(|all| all.values()) {
        let key = (
            text_of(&worker["host"]),
            text_of(&worker["program_version"]),
        );
        let host = hosts.entry(key).or_default();
        host.workers += 1;
        host.results += worker["results"].as_u64().unwrap_or(0);
        host.cpu_seconds += worker["cpu_seconds"].as_f64().unwrap_or(0.0);
        let memory = worker["peak_memory"].as_u64().unwrap_or(0);
        host.peak_memory = host.peak_memory.max(memory);
    }
    if hosts.is_empty() {
        return;
    }
    page.raw("<h3>Computed by</h3>\n<div class=\"scroll\"><table>\n");
    page.heads(&[
        "host",
        "program version",
        "workers",
        "results, baselines included",
        "CPU time",
        "largest memory of a process",
    ]);
    page.raw("<tbody>\n");
    for ((name, version), host) in hosts {
        page.raw(&format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{} MiB</td></tr>\n",
            escape(name),
            escape(version),
            host.workers,
            host.results,
            duration(host.cpu_seconds),
            host.peak_memory >> 20,
        ));
    }
    page.raw("</tbody></table></div>\n");
}

/// `3.2 s`, `14.0 min`, `5.1 h`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// What `coordinator verify` found, if it was asked.
fn verification(page: &mut Html, found: &Value) {
    page.raw("<h3>Verified</h3>\n");
    if !found.is_object() {
        page.paragraph(
            "note",
            "Not yet: coordinator verify --audit 0.05, with the folder of this report as --out, \
             recomputes the chain of results and a share of the runs, and writes here what it finds.",
        );
        return;
    }
    let (complete, audit) = (&found["completeness"], &found["audit"]);
    let n = |of: &Value, key: &str| of[key].as_u64().unwrap_or(0);
    let holds = found["holds"].as_bool() == Some(true);
    let mut text = format!(
        "{} {} planned = {} recorded once + {} failed + {} cancelled + {} missing; {} over {} \
         recomputed.",
        if holds {
            "The certificate of completeness holds:"
        } else {
            "The certificate of completeness does NOT hold:"
        },
        n(complete, "planned"),
        n(complete, "recorded"),
        n(complete, "failed"),
        n(complete, "cancelled"),
        n(complete, "missing"),
        count(n(complete, "links"), "link"),
        count(n(complete, "records"), "record"),
    );
    if n(audit, "audited") > 0 {
        let bound = audit["mismatch_rate_upper95"].as_f64().unwrap_or(1.0);
        text.push_str(&format!(
            " Audit: {} computed again by other workers, {} on another host than the one that recorded \
             it, {} with other bits; the rate of mismatches is at most {} with 95 % confidence.",
            count(n(audit, "audited"), "run"),
            n(audit, "by_other_hosts"),
            n(audit, "mismatches"),
            number(bound),
        ));
    } else {
        text.push_str(" No run was computed again.");
    }
    page.paragraph(if holds { "note" } else { "warning" }, &text);
}

/// Words of the page.
const GLOSSARY: [(&str, &str); 12] = [
    (
        "value",
        "Mean loss plus penalties, without the decay of the body: what stands beside the baseline.",
    ),
    (
        "baseline",
        "Global minimum, or infimum, of the classical linear model on the same data and loss, with a proved lower bound.",
    ),
    (
        "excess",
        "Value minus baseline. The theorem says that it is never positive at a local minimum.",
    ),
    (
        "certified minimum",
        "A second-order certificate with stated tolerances. Flat directions are common, so it does not prove a strict minimum.",
    ),
    (
        "violation",
        "A certified minimum with an excess above 1e-9·max(1, |baseline|) from which no descent was found.",
    ),
    (
        "at baseline",
        "Certified, with |excess| within that tolerance.",
    ),
    (
        "trivial",
        "Certified, with W V = 0: the network is the linear model.",
    ),
    (
        "saddle, kink, diverging",
        "No certificate: negative curvature not escaped; on kinks of the activation; parameters grow while the objective falls.",
    ),
    (
        "budget exhausted, non finite",
        "No certificate: the run ended first, or its numbers overflowed.",
    ),
    (
        "refuted",
        "A candidate for a minimum that a test turned down; its run went on.",
    ),
    (
        "holds, inconclusive",
        "Inside the assumptions: enough certified runs and none above a proved baseline; or not enough.",
    ),
    (
        "bad minimum found, none found",
        "The same outside the assumptions, where the theorem says nothing.",
    ),
];

/// The words.
pub(super) fn glossary(page: &mut Html) {
    page.section("glossary", "Glossary");
    page.raw("<dl class=\"glossary\">\n");
    for (word, meaning) in GLOSSARY {
        page.raw(&format!(
            "<dt>{}</dt><dd>{}</dd>\n",
            escape(word),
            escape(meaning)
        ));
    }
    page.raw("</dl>\n");
    page.end();
}
