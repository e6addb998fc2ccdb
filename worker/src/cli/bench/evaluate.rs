//! Gradients and Hessian-vector products at a standard start.

use std::time::Duration;

use anyhow::Context;

use super::cases::Ready;
use super::clock::{Times, once, repeat};
use super::{Measure, Row};

/// One gradient; `bound` is the least that its arithmetic takes.
pub(super) fn gradient(ready: &Ready, budget: Duration, bound: Option<f64>) -> Row {
    let times = repeat(budget, evaluation(ready, 1));
    let share = bound.map(|bound| ("floor", bound / times.median()));
    Row {
        measure: Measure::Gradient,
        case: ready.case,
        what: "loss and gradient".to_owned(),
        figures: share.into_iter().collect(),
        times,
    }
}

/// An evaluation of the objective and its gradient, to be called again and again.
fn evaluation(ready: &Ready, threads: usize) -> impl FnMut() {
    let mut objective = ready.objective(threads);
    let theta = ready.start(0);
    let mut gradient = vec![0.0; theta.len()];
    move || {
        std::hint::black_box(objective.value_gradient(&theta, &mut gradient));
    }
}

/// `count` products in one call, per product.
pub(super) fn products(ready: &Ready, budget: Duration, count: usize) -> Row {
    let mut objective = ready.objective(1);
    let theta = ready.start(0);
    let mut gradient = vec![0.0; theta.len()];
    objective.linearize(&theta, &mut gradient);
    let directions: Vec<f64> = (1..=count as u64).flat_map(|s| ready.start(s)).collect();
    let mut results = vec![0.0; directions.len()];
    let times = repeat(budget, || {
        objective.products(&directions, &mut results);
        std::hint::black_box(&results);
    });
    let (measure, what) = match count {
        1 => (Measure::Product, "one Hessian-vector product".to_owned()),
        n => (Measure::Products, format!("{n} in one call, each")),
    };
    Row {
        measure,
        case: ready.case,
        what,
        times: times.per(count),
        figures: Vec::new(),
    }
}

/// One gradient on one thread and on all, turn by turn.
pub(super) fn threads(ready: &Ready, budget: Duration, all: usize) -> anyhow::Result<[Row; 2]> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(all)
        .build()
        .context("cannot start threads")?;
    let (mut alone, mut together) = (evaluation(ready, 1), evaluation(ready, all));
    alone();
    pool.install(&mut together);
    let (mut one, mut many, mut gains) = (Vec::new(), Vec::new(), Vec::new());
    let mut spent = 0.0;
    while one.len() < 5 || spent < 2.0 * budget.as_secs_f64() {
        let a = once(&mut alone);
        let b = pool.install(|| once(&mut together));
        one.push(a);
        many.push(b);
        gains.push(a / b);
        spent += a + b;
    }
    let row = |times, threads: usize, figures| Row {
        measure: Measure::Threads,
        case: ready.case,
        what: format!("gradient, {threads} threads"),
        times: Times::new(times),
        figures,
    };
    let gain = Times::new(gains).median();
    Ok([
        Row {
            what: "gradient, 1 thread".to_owned(),
            ..row(one, 1, Vec::new())
        },
        row(many, all, vec![("times_one", gain)]),
    ])
}
