//! Evidence to bytes and back.

use bytes::Bytes;
use prost::Message;

use super::error::{FieldError, Problem};
use super::wire;
use crate::record::{
    Attainment, BaselineEvidence, CurvePoint, EigenvalueMethod, Evidence, Outcome, RunEvidence,
    Telemetry,
};

/// Most points of a loss curve.
const CURVE_POINTS: usize = 64;

/// The bytes that are stored, compared and hashed.
pub fn encode_evidence(evidence: &Evidence) -> Bytes {
    let kind = match evidence {
        Evidence::Run(run) => wire::evidence::Kind::Run(run.as_ref().into()),
        Evidence::Baseline(baseline) => wire::evidence::Kind::Baseline(baseline.as_ref().into()),
        Evidence::Noop { seed } => wire::evidence::Kind::Noop(wire::NoopEvidence { seed: *seed }),
    };
    wire::Evidence { kind: Some(kind) }.encode_to_vec().into()
}

/// The numbers of encoded evidence.
///
/// # Errors
/// [`FieldError`] when the bytes are no evidence, a field is missing or out of
/// range, or a certified minimum has a non-finite value.
pub fn decode_evidence(bytes: &[u8]) -> Result<Evidence, FieldError> {
    let evidence = wire::Evidence::decode(bytes).map_err(|error| {
        FieldError::new(
            "evidence",
            Problem::Undecodable {
                reason: error.to_string(),
            },
        )
    })?;
    match evidence.kind.ok_or(FieldError::missing("evidence"))? {
        wire::evidence::Kind::Run(run) => run
            .try_into()
            .map(|run| Evidence::Run(Box::new(run)))
            .map_err(|e| e.within("run")),
        wire::evidence::Kind::Baseline(baseline) => baseline
            .try_into()
            .map(|baseline| Evidence::Baseline(Box::new(baseline)))
            .map_err(|e| e.within("baseline")),
        wire::evidence::Kind::Noop(noop) => Ok(Evidence::Noop { seed: noop.seed }),
    }
}

impl From<&RunEvidence> for wire::RunEvidence {
    fn from(run: &RunEvidence) -> Self {
        let outcome = match run.outcome {
            Outcome::CertifiedMinimum => wire::Outcome::CertifiedMinimum,
            Outcome::Saddle => wire::Outcome::Saddle,
            Outcome::Kink => wire::Outcome::Kink,
            Outcome::Diverging => wire::Outcome::Diverging,
            Outcome::BudgetExhausted => wire::Outcome::BudgetExhausted,
            Outcome::NonFinite => wire::Outcome::NonFinite,
        };
        let method = match run.eigenvalue_method {
            None => wire::EigenvalueMethod::Unspecified,
            Some(EigenvalueMethod::Dense) => wire::EigenvalueMethod::Dense,
            Some(EigenvalueMethod::Cholesky) => wire::EigenvalueMethod::Cholesky,
            Some(EigenvalueMethod::Lanczos) => wire::EigenvalueMethod::Lanczos,
        };
        let curve = (!run.curve.is_empty()).then(|| wire::Curve {
            evaluations: run.curve.iter().map(|point| point.evaluations).collect(),
            objective: run.curve.iter().map(|point| point.objective).collect(),
            gradient_norm: run.curve.iter().map(|point| point.gradient_norm).collect(),
        });
        Self {
            outcome: outcome.into(),
            objective: run.objective,
            value: run.value,
            gradient_norm: run.gradient_norm,
            min_eigenvalue: run.min_eigenvalue,
            max_eigenvalue: run.max_eigenvalue,
            eigenvalue_method: method.into(),
            eigenvalue_failure_probability: run.eigenvalue_failure_probability,
            norm_a: run.norm_a,
            norm_b: run.norm_b,
            gap_bound: run.gap_bound,
            induced_value: run.induced_value,
            sigma_min_w: run.sigma_min_w,
            norm_theta: run.norm_theta,
            norm_u: run.norm_u,
            norm_w: run.norm_w,
            norm_wv: run.norm_wv,
            newton_step: run.newton_step,
            kinks: run.kinks,
            kink_margin: run.kink_margin,
            kink_slack: run.kink_slack,
            kink_cluster: run.kink_cluster,
            refuted: run.refuted,
            refuted_excess: run.refuted_excess,
            evaluations: run.evaluations,
            gradients: run.gradients,
            products: run.products,
            hessians: run.hessians,
            parameters: run.parameters,
            curve,
        }
    }
}

impl TryFrom<wire::RunEvidence> for RunEvidence {
    type Error = FieldError;

    fn try_from(run: wire::RunEvidence) -> Result<Self, FieldError> {
        let unknown = |name, value| FieldError::new(name, Problem::UnknownValue { value });
        let outcome = match wire::Outcome::try_from(run.outcome) {
            Ok(wire::Outcome::CertifiedMinimum) => Outcome::CertifiedMinimum,
            Ok(wire::Outcome::Saddle) => Outcome::Saddle,
            Ok(wire::Outcome::Kink) => Outcome::Kink,
            Ok(wire::Outcome::Diverging) => Outcome::Diverging,
            Ok(wire::Outcome::BudgetExhausted) => Outcome::BudgetExhausted,
            Ok(wire::Outcome::NonFinite) => Outcome::NonFinite,
            Ok(wire::Outcome::Unspecified) | Err(_) => {
                return Err(unknown("outcome", run.outcome));
            }
        };
        let eigenvalue_method = match wire::EigenvalueMethod::try_from(run.eigenvalue_method) {
            Ok(wire::EigenvalueMethod::Unspecified) => None,
            Ok(wire::EigenvalueMethod::Dense) => Some(EigenvalueMethod::Dense),
            Ok(wire::EigenvalueMethod::Cholesky) => Some(EigenvalueMethod::Cholesky),
            Ok(wire::EigenvalueMethod::Lanczos) => Some(EigenvalueMethod::Lanczos),
            Err(_) => return Err(unknown("eigenvalue_method", run.eigenvalue_method)),
        };
        if outcome == Outcome::CertifiedMinimum {
            for (name, value) in [
                ("objective", run.objective),
                ("value", run.value),
                ("gradient_norm", run.gradient_norm),
            ] {
                if !value.is_finite() {
                    let required = "finite at a certified minimum";
                    let problem = Problem::Range {
                        value: value.to_string(),
                        required,
                    };
                    return Err(FieldError::new(name, problem));
                }
            }
        }
        Ok(Self {
            outcome,
            objective: run.objective,
            value: run.value,
            gradient_norm: run.gradient_norm,
            min_eigenvalue: run.min_eigenvalue,
            max_eigenvalue: run.max_eigenvalue,
            eigenvalue_method,
            eigenvalue_failure_probability: run.eigenvalue_failure_probability,
            norm_a: run.norm_a,
            norm_b: run.norm_b,
            gap_bound: run.gap_bound,
            induced_value: run.induced_value,
            sigma_min_w: run.sigma_min_w,
            norm_theta: run.norm_theta,
            norm_u: run.norm_u,
            norm_w: run.norm_w,
            norm_wv: run.norm_wv,
            newton_step: run.newton_step,
            kinks: run.kinks,
            kink_margin: run.kink_margin,
            kink_slack: run.kink_slack,
            kink_cluster: run.kink_cluster,
            refuted: run.refuted,
            refuted_excess: run.refuted_excess,
            evaluations: run.evaluations,
            gradients: run.gradients,
            products: run.products,
            hessians: run.hessians,
            parameters: run.parameters,
            curve: curve(run.curve.unwrap_or_default()).map_err(|e| e.within("curve"))?,
        })
    }
}

fn curve(curve: wire::Curve) -> Result<Vec<CurvePoint>, FieldError> {
    let points = curve.evaluations.len();
    if points > CURVE_POINTS {
        let problem = Problem::TooLong {
            limit: CURVE_POINTS,
            found: points,
        };
        return Err(FieldError::new("evaluations", problem));
    }
    for (name, found) in [
        ("objective", curve.objective.len()),
        ("gradient_norm", curve.gradient_norm.len()),
    ] {
        if found != points {
            let required = "as many points as evaluations";
            return Err(FieldError::new(
                name,
                Problem::Range {
                    value: found.to_string(),
                    required,
                },
            ));
        }
    }
    Ok(curve
        .evaluations
        .into_iter()
        .zip(curve.objective)
        .zip(curve.gradient_norm)
        .map(|((evaluations, objective), gradient_norm)| CurvePoint {
            evaluations,
            objective,
            gradient_norm,
        })
        .collect())
}

impl From<&BaselineEvidence> for wire::BaselineEvidence {
    fn from(baseline: &BaselineEvidence) -> Self {
        let status = match baseline.status {
            Attainment::Attained => wire::Attainment::Attained,
            Attainment::InfimumNotAttained => wire::Attainment::InfimumNotAttained,
        };
        Self {
            value: baseline.value,
            lower_bound: baseline.lower_bound,
            status: status.into(),
            gradient_norm: baseline.gradient_norm,
            minimizer: baseline.minimizer.clone(),
            outputs: baseline.outputs as u32,
            features: baseline.features as u32,
            rows: baseline.rows as u64,
        }
    }
}

impl TryFrom<wire::BaselineEvidence> for BaselineEvidence {
    type Error = FieldError;

    fn try_from(baseline: wire::BaselineEvidence) -> Result<Self, FieldError> {
        let status = match wire::Attainment::try_from(baseline.status) {
            Ok(wire::Attainment::Attained) => Attainment::Attained,
            Ok(wire::Attainment::InfimumNotAttained) => Attainment::InfimumNotAttained,
            Ok(wire::Attainment::Unspecified) | Err(_) => {
                let problem = Problem::UnknownValue {
                    value: baseline.status,
                };
                return Err(FieldError::new("status", problem));
            }
        };
        if !baseline.value.is_finite() {
            let value = baseline.value.to_string();
            return Err(FieldError::new(
                "value",
                Problem::Range {
                    value,
                    required: "finite",
                },
            ));
        }
        let found = baseline.minimizer.len();
        if Some(found) != (baseline.outputs as usize).checked_mul(baseline.features as usize) {
            let problem = Problem::Range {
                value: format!(
                    "{found} numbers for {} × {}",
                    baseline.outputs, baseline.features
                ),
                required: "outputs × features numbers",
            };
            return Err(FieldError::new("minimizer", problem));
        }
        let rows = usize::try_from(baseline.rows).map_err(|_| {
            let value = baseline.rows.to_string();
            FieldError::new(
                "rows",
                Problem::Range {
                    value,
                    required: "a number of rows",
                },
            )
        })?;
        Ok(Self {
            value: baseline.value,
            lower_bound: baseline.lower_bound,
            status,
            gradient_norm: baseline.gradient_norm,
            minimizer: baseline.minimizer,
            outputs: baseline.outputs as usize,
            features: baseline.features as usize,
            rows,
        })
    }
}

impl From<Telemetry> for wire::Telemetry {
    fn from(telemetry: Telemetry) -> Self {
        Self {
            seconds: telemetry.seconds,
            cpu_seconds: telemetry.cpu_seconds,
            peak_memory: telemetry.peak_memory,
        }
    }
}

impl TryFrom<wire::Telemetry> for Telemetry {
    type Error = FieldError;

    fn try_from(telemetry: wire::Telemetry) -> Result<Self, FieldError> {
        for (name, value) in [
            ("seconds", telemetry.seconds),
            ("cpu_seconds", telemetry.cpu_seconds),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                let value = value.to_string();
                let required = "a finite number of seconds";
                return Err(FieldError::new(name, Problem::Range { value, required }));
            }
        }
        Ok(Self {
            seconds: telemetry.seconds,
            cpu_seconds: telemetry.cpu_seconds,
            peak_memory: telemetry.peak_memory,
        })
    }
}
