//! What was recorded of the runs that stand for the sweep.

use common::summary::{CellSummary, FoundBy, RunSummary, Verdict};

use super::html::{Html, escape, name, number, optional, signed};
use super::{Provenance, View};

/// A run and its cell.
type Found<'a> = (&'a CellSummary, &'a RunSummary);

/// A quantity: its name, how it reads, what it means.
type Quantity = (&'static str, fn(&RunSummary) -> String, &'static str);

const QUANTITIES: [Quantity; 18] = [
    (
        "seed",
        |r| r.seed.to_string(),
        "Chooses the draws of the start and of training.",
    ),
    (
        "start",
        |r| r.start.clone(),
        "How the parameters were drawn.",
    ),
    (
        "found by",
        |r| name(&r.found_by),
        "Listed by the grid, or added by the search.",
    ),
    (
        "value",
        |r| number(r.value.0),
        "Objective without the body's decay.",
    ),
    (
        "excess",
        |r| r.excess.map_or_else(|| "–".to_owned(), |e| signed(e.0)),
        "Value minus baseline; above 0 is worse than the linear model.",
    ),
    (
        "gap bound",
        |r| optional(r.gap_bound),
        "Upper bound on the excess, by convexity; needs no certificate.",
    ),
    (
        "induced gap",
        |r| optional(r.induced_gap),
        "Value minus the optimum of the linear model on φ and the learned z; 0 at a minimum.",
    ),
    (
        "‖∇‖∞",
        |r| number(r.gradient_norm.0),
        "Largest entry of the gradient; 0 at a stationary point.",
    ),
    (
        "λ_min",
        |r| optional(r.min_eigenvalue),
        "Smallest curvature; clearly negative means a saddle.",
    ),
    (
        "λ_max",
        |r| optional(r.max_eigenvalue),
        "Largest curvature, the scale for λ_min.",
    ),
    (
        "λ_min by",
        |r| {
            r.eigenvalue_method
                .map_or_else(|| "–".to_owned(), |m| name(&m))
        },
        "Dense: all eigenvalues. Cholesky: proved. Lanczos: but for a probability.",
    ),
    (
        "P(λ_min missed)",
        |r| optional(r.eigenvalue_failure_probability),
        "Probability that Lanczos missed a lower eigenvalue.",
    ),
    (
        "‖A‖",
        |r| optional(r.norm_a),
        "Mean of g φᵀ; with ‖B‖ = 0 exactly at the induced optimum.",
    ),
    (
        "‖B‖",
        |r| optional(r.norm_b),
        "Mean of g zᵀ, the signal left for the residual branch.",
    ),
    (
        "σ_min(W)",
        |r| optional(r.sigma_min_w),
        "Smallest singular value of W that is not 0 by construction.",
    ),
    (
        "‖u‖",
        |r| number(r.norm_u.0),
        "Size of the body's parameters.",
    ),
    (
        "kinks",
        |r| r.kinks.to_string(),
        "Kinks of the activation that the point sits on.",
    ),
    (
        "kink margin",
        |r| optional(r.kink_margin),
        "Distance to the nearest kink that it does not sit on.",
    ),
];

/// The certificates of the worst run overall and of each verdict.
pub(super) fn section(page: &mut Html, view: &View<'_>, provenance: &Provenance<'_>) {
    let runs = chosen(view);
    if runs.is_empty() {
        return;
    }
    page.section("certificates", "Certificates of the worst runs");
    page.paragraph(
        "note",
        "The worst run of each verdict among those that stand for their cells in the summary: \
         by excess, those that are not finite first.",
    );
    page.raw("<div class=\"scroll\"><table class=\"certificates\">\n<thead><tr><th scope=\"col\">quantity</th>");
    for (title, (cell, _)) in &runs {
        page.raw(&format!(
            "<th scope=\"col\">{}<small>{}</small></th>",
            escape(title),
            escape(&view.label(cell))
        ));
    }
    page.raw("<th scope=\"col\">meaning</th></tr></thead>\n<tbody>\n");
    row(
        page,
        "verdict",
        &runs,
        |(_, run)| name(&run.verdict),
        "What the run ended as.",
    );
    let baseline = |(cell, _): &Found<'_>| optional(cell.baseline.map(|b| b.value));
    row(
        page,
        "baseline",
        &runs,
        baseline,
        "Optimum of the classical linear model.",
    );
    for (what, read, meaning) in QUANTITIES {
        row(page, what, &runs, |(_, run)| read(run), meaning);
    }
    page.raw("</tbody></table></div>\n<h3>To reproduce them</h3>\n");
    commands(page, &runs, provenance);
    page.end();
}

fn row(
    page: &mut Html,
    what: &str,
    runs: &[(String, Found<'_>)],
    read: impl Fn(&Found<'_>) -> String,
    meaning: &str,
) {
    page.raw(&format!("<tr><th scope=\"row\">{}</th>", escape(what)));
    for (_, found) in runs {
        page.raw(&format!("<td class=\"n\">{}</td>", escape(&read(found))));
    }
    page.raw(&format!(
        "<td class=\"meaning\">{}</td></tr>\n",
        escape(meaning)
    ));
}

fn commands(page: &mut Html, runs: &[(String, Found<'_>)], provenance: &Provenance<'_>) {
    page.paragraph(
        "note",
        "In the folder of this report: worker run computes the run once more, from the file of the \
         minimum or from the grid (below, under provenance); worker verify checks the claim of the \
         stored point.",
    );
    page.raw("<dl class=\"commands\">\n");
    for (title, (_, run)) in runs {
        let task = run.task;
        page.raw(&format!("<dt>{}</dt><dd>", escape(title)));
        if (provenance.kept)(&task) {
            page.raw(&format!(
                "<pre>worker run --minimum minima/{task}.json\n\
                 worker verify minima/{task}.npz</pre>"
            ));
        } else if run.found_by == FoundBy::Search {
            page.raw(&format!(
                "Task <code>{task}</code> of the search, which no grid has; its parameters are not in \
                 <code>minima/</code>: with <code>--minima all</code> the sweep keeps every run's, \
                 and what is needed to compute it again."
            ));
        } else {
            let id = task.to_string();
            page.raw(&format!(
                "<pre>worker run --grid grid.yaml --task {}</pre> Task <code>{task}</code>; its \
                 parameters are not in <code>minima/</code>, which holds the minima that the sweep \
                 was told to keep.",
                &id[..16]
            ));
        }
        page.raw("</dd>\n");
    }
    page.raw("</dl>\n");
}

/// The worst run overall, inside the assumptions, and of each verdict; each run once.
fn chosen<'a>(view: &View<'a>) -> Vec<(String, Found<'a>)> {
    let mut all: Vec<Found<'a>> = Vec::new();
    for cell in &view.summary.cells {
        let runs = [&cell.worst, &cell.worst_nontrivial, &cell.worst_uncertified];
        all.extend(runs.into_iter().flatten().map(|run| (cell, run)));
    }
    let mut chosen: Vec<(String, Found<'a>)> = Vec::new();
    let overall = view.summary.overall.worst_task;
    if let Some(found) = all.iter().find(|(_, run)| Some(run.task) == overall) {
        chosen.push(("worst inside the assumptions".to_owned(), *found));
    }
    for verdict in Verdict::ALL {
        let of_verdict = all.iter().filter(|(_, run)| run.verdict == verdict);
        let Some(found) = of_verdict.max_by(|a, b| badness(a.1).total_cmp(&badness(b.1))) else {
            continue;
        };
        let title = format!("worst {}", name(&verdict));
        match chosen
            .iter_mut()
            .find(|(_, known)| known.1.task == found.1.task)
        {
            Some(known) => known.0 = format!("{}, {title}", known.0),
            None => chosen.push((title, *found)),
        }
    }
    chosen
}

/// Excess, or the value where there is none; not a number is worst.
fn badness(run: &RunSummary) -> f64 {
    let x = run.excess.unwrap_or(run.value).0;
    if x.is_nan() { f64::INFINITY } else { x }
}
