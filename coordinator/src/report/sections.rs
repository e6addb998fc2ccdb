//! The parts of the page in words and tables.

use common::summary::{CellSummary, CellVerdict, Summary, Verdict};

use super::html::{Html, count, escape, name, number, optional, signed};
use super::{Provenance, View};

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
    page.paragraph(
        "lead",
        "Inside its assumptions the theorem is proved: a violation there would mean a bug or a \
         tolerance too loose, and finding none adds no proof. What the sweep measures is which \
         certified minima training reaches from these starts, and how far they and the unfinished \
         runs lie from the best classical linear model; certified runs are not a fair sample, so \
         the others always stand beside them.",
    );
    if summary.sweep.partial {
        let text = format!(
            "Partial: {} of the sweep still missing.",
            are(summary.totals.missing, "task")
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

fn are(n: u64, what: &str) -> String {
    let verb = if n == 1 { "is" } else { "are" };
    format!("{} {verb}", count(n, what))
}

fn sentence(summary: &Summary) -> String {
    let (inside, outside): (Vec<&CellSummary>, Vec<_>) = summary
        .cells
        .iter()
        .partition(|c| c.assumptions_broken.is_empty());
    let certified: u64 = inside.iter().map(|c| c.verdicts.certified()).sum();
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
            "None of {} in {cells} inside the theorem's assumptions lies above its baseline.{worst}",
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
            match certified {
                0 => "no run there is certified".to_owned(),
                1 => "the one certified minimum does not lie above its baseline".to_owned(),
                n => format!("none of {n} certified minima lies above its baseline"),
            }
        ),
    };
    let bad = outside
        .iter()
        .filter(|c| c.verdict == CellVerdict::BadMinimumFound)
        .count();
    if !outside.is_empty() {
        text.push_str(&format!(
            " Outside them a bad minimum was found in {bad} of {}.",
            count(outside.len() as u64, "cell")
        ));
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

/// Every cell with all that the summary says of it.
pub(super) fn cells(page: &mut Html, view: &View<'_>) {
    page.section("cells", "All cells");
    page.raw("<div class=\"scroll\"><table class=\"cells\">\n");
    let mut heads: Vec<&str> = view.fields.iter().map(String::as_str).collect();
    if heads.is_empty() {
        heads.push("cell");
    }
    heads.extend([
        "verdict",
        "runs",
        "certified",
        "uncertified",
        "at baseline",
        "trivial",
        "failed",
        "cancelled",
        "search",
        "baseline",
        "lower bound",
        "status",
        "worst",
        "excess",
        "worst not trivial",
        "worst uncertified",
        "best",
        "min",
        "q25",
        "median",
        "q75",
        "max",
        "median improvement",
        "by start: certified / runs, bounds",
        "assumptions broken",
        "notes",
    ]);
    page.heads(&heads);
    page.raw("<tbody>\n");
    for cell in &view.summary.cells {
        row(page, view, cell);
    }
    page.raw("</tbody></table></div>\n");
    constant_fields(page, view);
    page.end();
}

fn row(page: &mut Html, view: &View<'_>, cell: &CellSummary) {
    page.raw("<tr>");
    if view.fields.is_empty() {
        page.raw("<th scope=\"row\">the only cell</th>");
    }
    for field in &view.fields {
        let text = escape(&View::field(cell, field));
        page.raw(&format!("<th scope=\"row\">{text}</th>"));
    }
    let excess = cell.worst.as_ref().and_then(|w| w.excess);
    let value = |run: &Option<common::summary::RunSummary>| {
        run.as_ref()
            .map_or_else(|| "–".to_owned(), |r| number(r.value.0))
    };
    let quantile = |pick: fn(&common::summary::Quantiles) -> common::summary::Number| {
        optional(cell.values.as_ref().map(pick))
    };
    let uncertified = cell.worst_uncertified.as_ref().map_or_else(
        || "–".to_owned(),
        |r| format!("{} ({})", number(r.value.0), name(&r.verdict)),
    );
    let texts = [
        name(&cell.verdict),
        cell.runs.to_string(),
        cell.verdicts.certified().to_string(),
        by_verdict(&cell.verdicts),
        cell.at_baseline
            .map_or_else(|| "–".to_owned(), |n| n.to_string()),
        cell.trivial.to_string(),
        cell.failed.to_string(),
        cell.cancelled.to_string(),
        cell.search.map_or_else(
            || "–".to_owned(),
            |s| format!("{} certified / {}", s.verdicts.certified(), s.runs),
        ),
        optional(cell.baseline.map(|b| b.value)),
        optional(cell.baseline.map(|b| b.lower_bound)),
        cell.baseline
            .map_or_else(|| "–".to_owned(), |b| name(&b.status)),
        value(&cell.worst),
        excess.map_or_else(|| "–".to_owned(), |e| signed(e.0)),
        value(&cell.worst_nontrivial),
        uncertified,
        value(&cell.best),
        quantile(|v| v.min),
        quantile(|v| v.q25),
        quantile(|v| v.median),
        quantile(|v| v.q75),
        quantile(|v| v.max),
        optional(cell.median_improvement),
        starts(cell),
        listed(&cell.assumptions_broken),
        listed(&cell.notes),
    ];
    for (i, text) in texts.iter().enumerate() {
        let class = match i {
            0 => format!(" class=\"verdict {}\"", cell.verdict.name()),
            1..=2 | 4..=10 | 12..=14 | 16..=22 => " class=\"n\"".to_owned(),
            _ => String::new(),
        };
        page.raw(&format!("<td{class}>{}</td>", escape(text)));
    }
    page.raw("</tr>\n");
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
    fact("program version", env!("CARGO_PKG_VERSION"));
    fact("summary format", view.summary.schema);
    fact("sweep created", &utc(provenance.created_at));
    match provenance.account {
        Some(account) => {
            fact("host of the coordinator", &account.host);
            fact("its last life", &format!("{:.1} s", account.seconds));
            fact("command", &account.command.join(" "));
            fact(
                "came to its end",
                if account.finished { "yes" } else { "no" },
            );
        }
        None => fact(
            "host and duration",
            "not in the store; run.json of the sweep has them",
        ),
    }
    page.raw("</tbody></table></div>\n<details><summary>The grid</summary>\n<pre>");
    page.raw(&escape(provenance.grid));
    page.raw("</pre></details>\n");
    page.end();
}

/// A time as `2026-01-31 12:00:00 UTC`.
fn utc(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that a leap day is the last (Hinnant, days_from_civil).
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
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
