//! `worker verify`: a recorded minimum, checked twice.
//!
//! The engine recomputes value, gradient and certificate. The reference models,
//! which share no code with it, recompute value and gradient. The claim stands
//! if the two agree, the point certifies, and the task is the one it says.

use common::canon::task_id;
use common::record::Outcome;
use serde_json::{Value, json};

use super::args::VerifyArgs;
use super::point::{Examined, Point, SecondOpinion};
use super::{BadInput, Status, json as show, minimum, print, run};
use crate::files;

/// Entries of the gradient that the reference recomputes: one pass over the
/// data for two of them.
const ENTRIES: usize = 2000;
/// How far two ways of computing the same number may be apart, times
/// max(1, its size).
const AGREEMENT: f64 = 1e-10;

pub(super) fn main(args: &VerifyArgs) -> anyhow::Result<Status> {
    let claimed = minimum::read(&args.minimum.with_extension("json"))?;
    let theta = std::fs::read(&args.minimum)
        .map_err(|error| BadInput(format!("cannot read `{}`: {error}", args.minimum.display())))?;
    let folders = minimum::folders(&args.minimum, args.files.as_deref());
    let contents = minimum::contents(files::of_cell(&claimed.spec.cell), &folders)?;
    let point = Point::new(&claimed.spec.cell, &contents, theta)?;
    let is_the_task = task_id(&claimed.spec, point.cell.data_identity())? == claimed.task;
    let engine = point.examine()?;
    let reference = point.second_opinion(ENTRIES)?;
    let agreement = Agreement::of(&engine, &reference);
    let certifies = engine.evidence.outcome == Outcome::CertifiedMinimum;
    let holds = is_the_task && agreement.holds && certifies;
    let norm = reference.gradient.iter().fold(
        0.0,
        |m: f64, (_, g)| if g.is_nan() { *g } else { m.max(g.abs()) },
    );
    let mut shown = json!({
        "task": claimed.task,
        "holds": holds,
        "is_the_task": is_the_task,
        "certifies": certifies,
        "agree": agreement.holds,
        "reference": {
            "objective": show::number(reference.terms.objective()),
            "value": show::number(reference.terms.value()),
            "gradient_norm": show::number(norm),
            "gradient_entries": reference.gradient.len(),
        },
        "differences": {
            "objective": show::number(agreement.objective),
            "value": show::number(agreement.value),
            "gradient": show::number(agreement.gradient),
        },
    });
    if let Value::Object(map) = &mut shown {
        map.append(&mut run::claim(&engine.evidence, &engine.baseline));
    }
    print(&shown)?;
    Ok(if holds { Status::Done } else { Status::Failed })
}

/// How far engine and reference are apart.
struct Agreement {
    objective: f64,
    value: f64,
    gradient: f64,
    holds: bool,
}

impl Agreement {
    fn of(engine: &Examined, reference: &SecondOpinion) -> Self {
        let (terms, e) = (&reference.terms, &engine.evidence);
        let objective = (e.objective - terms.objective()).abs();
        let value = (e.value - terms.value()).abs();
        let gaps = reference
            .gradient
            .iter()
            .map(|(at, g)| (engine.gradient[*at] - g).abs());
        // A difference that is no number stays one.
        let gradient = gaps.fold(0.0, |m: f64, d| {
            if d.is_nan() || m.is_nan() {
                f64::NAN
            } else {
                m.max(d)
            }
        });
        let limit = AGREEMENT * e.objective.abs().max(1.0);
        let holds = [objective, value, gradient].into_iter().all(|d| d <= limit);
        Self {
            objective,
            value,
            gradient,
            holds,
        }
    }
}
