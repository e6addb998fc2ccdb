//! Gradients and Hessian-vector products of every body × activation × loss, every skip and both
//! charts, against hyper-dual numbers on the scalar reference models.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod support;

use common::layout::{LayoutDims, standard_start};
use common::math::Isa;
use common::math::slice::{max_abs, norm};
use common::reference::{HyperDual, Network, Rows};
use common::rng::{Philox, Purpose};
use engine::objective::{Chart, Objective};
use engine::task::Cell;
use serde_json::{Value, json};
use support::{Files, cell, csv};

const ACTIVATIONS: [&str; 22] = [
    "identity",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "softplus",
    "tanh",
    "sigmoid",
    "atan",
    "softsign",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "sin",
    "gaussian",
    "quadratic",
    "cubic",
    "abs",
    "relu6",
    "hard_tanh",
    "squared_relu",
];
const FORMULAS: [&str; 4] = [
    "t * tanh(t)",
    "t / (1 + abs(t))",
    "max(sin(t), min(t, 0.3)) + erf(t)^2 / (1 + exp(-t))",
    "log1p(t^2) * atan(t) + sqrt(1 + t^2) - softplus(0.5 * t) * sigmoid(t) + cos(t)",
];
const BODIES: [&str; 6] = [
    "mlp",
    "residual",
    "preact",
    "bottleneck",
    "aggregated",
    "conv",
];
const LOSSES: [&str; 7] = [
    "squared",
    "cross_entropy",
    "logistic",
    "huber",
    "log_cosh",
    "squared_hinge",
    "poisson",
];

/// Nine rows of four inputs (an image of 2 × 2 with one channel), two real targets, three classes
/// and counts; every fourth target is not observed in the masked form.
fn data(files: &mut Files, loss: &str, masked: bool) -> Value {
    let rng = Philox::new(7);
    let rows = 9;
    let draw = |column: u32| -> Vec<f64> {
        (0..rows)
            .map(|i| rng.normal(Purpose::DataInput, 0, i, column))
            .collect()
    };
    let mut names: Vec<String> = (0..4).map(|j| format!("x{j}")).collect();
    let mut columns: Vec<Vec<f64>> = (0..4).map(draw).collect();
    let targets = match loss {
        "cross_entropy" | "logistic" | "squared_hinge" => {
            names.push("class".into());
            columns.push((0..rows).map(|i| f64::from(i % 3)).collect());
            json!(["class"])
        }
        "poisson" => {
            names.extend(["y0".into(), "y1".into()]);
            columns.push((0..rows).map(|i| f64::from(i % 4)).collect());
            columns.push((0..rows).map(|i| f64::from(i % 3)).collect());
            json!(["y0", "y1"])
        }
        _ => {
            names.extend(["y0".into(), "y1".into()]);
            columns.extend([draw(4), draw(5)]);
            json!(["y0", "y1"])
        }
    };
    let mut spec = json!({"targets": targets});
    if masked {
        names.extend(["m0".into(), "m1".into()]);
        columns.push((0..rows).map(|i| f64::from(u8::from(i % 4 != 0))).collect());
        columns.push((0..rows).map(|i| f64::from(u8::from(i % 4 != 2))).collect());
        spec["mask"] = json!(["m0", "m1"]);
    }
    files.name(&mut spec, "data.csv", csv(&names, &columns));
    spec
}

fn made(changes: Value, masked: bool) -> Cell {
    let mut files = Files::default();
    let mut spec = json!({
        "depth": 2, "width": 2, "loss": "squared", "activation": "tanh",
        "regularizer": {"predictor_ridge": 0.03, "body_decay": 0.02, "head_decay": 0.01},
    });
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    if spec["body"] == "conv" {
        spec["image"] = json!([2, 2, 1]);
    }
    if spec["body"] == "bottleneck" || spec["body"] == "aggregated" {
        spec["bottleneck"] = json!(1);
        spec["width"] = json!(3);
    }
    if spec["body"] == "aggregated" {
        spec["cardinality"] = json!(2);
        spec["bottleneck"] = json!(2);
    }
    spec["data"] = data(&mut files, spec["loss"].as_str().unwrap(), masked);
    cell(&spec, &files)
}

/// Objective, gradient and Hd of the reference.
fn reference(cell: &Cell, theta: &[f64], direction: &[f64]) -> (f64, Vec<f64>, Vec<f64>) {
    let (spec, data) = (cell.spec(), cell.data());
    let x = data.inputs_of(&spec.model.body);
    let dims = LayoutDims {
        inputs: x.ncols(),
        phi: data.phi.ncols(),
        outputs: data.y.ncols(),
        table: 0,
    };
    let network = Network::new(&spec.model, dims).unwrap();
    let rows = Rows {
        x,
        phi: data.phi.view(),
        y: data.y.view(),
        mask: data.mask.as_ref().map(|m| m.view()),
        table: None,
    };
    let (mut value, mut gradient, mut product) = (0.0, vec![], vec![]);
    for i in 0..theta.len() {
        let dual: Vec<HyperDual> = (0..theta.len())
            .map(|k| HyperDual {
                value: theta[k],
                first: f64::from(u8::from(k == i)),
                second: direction[k],
                mixed: 0.0,
            })
            .collect();
        let f = network
            .terms(&dual, rows, spec.loss, spec.regularizer)
            .objective();
        value = f.value;
        gradient.push(f.first);
        product.push(f.mixed);
    }
    (value, gradient, product)
}

fn check(cell: &Cell, what: &str) {
    // Not so large that a cubic under the Poisson loss overflows.
    let mut theta = standard_start(cell.arrays(), 3, 1.0);
    theta.iter_mut().for_each(|t| *t *= 0.6);
    let rng = Philox::new(11);
    let direction: Vec<f64> = (0..theta.len())
        .map(|i| rng.normal(Purpose::Perturbation, 0, i as u32, 0))
        .collect();
    let (value, gradient, product) = reference(cell, &theta, &direction);
    let mut objective = Objective::new(cell.problem(), Chart::Theta, None, Isa::current(), 1);
    let (mut g, mut hv) = (vec![0.0; theta.len()], vec![0.0; theta.len()]);
    let f = objective.linearize(&theta, &mut g);
    objective.products(&direction, &mut hv);
    assert!(
        (f - value).abs() <= 1e-13 * value.abs().max(1.0),
        "{what}: value {f} {value}"
    );
    same(&g, &gradient, what, "gradient");
    same(&hv, &product, what, "Hessian times vector");
}

fn same(got: &[f64], want: &[f64], what: &str, name: &str) {
    let scale = norm(want).max(1e-3);
    let difference: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
    assert!(
        max_abs(&difference) <= 1e-12 * scale,
        "{what}: {name}\n{got:?}\n{want:?}"
    );
}

fn activations() -> Vec<Value> {
    let mut all: Vec<Value> = ACTIVATIONS.iter().map(|a| json!(a)).collect();
    all.push(json!({"leaky_relu": 0.3}));
    all.extend(FORMULAS.iter().map(|f| json!({"formula": f})));
    all
}

#[test]
fn every_body_with_every_activation_and_every_loss() {
    for body in BODIES {
        for activation in activations() {
            for loss in LOSSES {
                let cell = made(
                    json!({"body": body, "activation": activation, "loss": loss}),
                    false,
                );
                check(&cell, &format!("{body} {activation} {loss}"));
            }
        }
    }
}

#[test]
fn every_skip_with_every_activation() {
    for skip in ["none", "chain"] {
        for activation in activations() {
            let cell = made(json!({"skip": skip, "activation": activation}), false);
            check(&cell, &format!("{skip} {activation}"));
        }
    }
}

#[test]
fn unobserved_targets() {
    for loss in ["squared", "huber", "log_cosh", "poisson"] {
        let cell = made(json!({"loss": loss}), true);
        assert!(cell.data().mask.is_some());
        check(&cell, loss);
    }
}

/// F(Wx, WV, u) = L(θ) without head decay: its derivative along the image of a direction is that
/// of L along the direction.
#[test]
fn head_coordinates_have_the_same_objective_and_slopes() {
    for body in BODIES {
        let cell = made(
            json!({"body": body, "regularizer": {"predictor_ridge": 0.03, "body_decay": 0.02}}),
            false,
        );
        let problem = cell.problem();
        let theta = standard_start(cell.arrays(), 3, 1.0);
        let mut q = vec![0.0; problem.program_len()];
        Objective::to_program(problem, &theta, &mut q);
        let mut in_head = Objective::new(problem, Chart::Head, None, Isa::current(), 1);
        let mut in_theta = Objective::new(problem, Chart::Theta, None, Isa::current(), 1);
        let (mut gh, mut gt) = (vec![0.0; q.len()], vec![0.0; theta.len()]);
        let (fh, ft) = (
            in_head.value_gradient(&q, &mut gh),
            in_theta.value_gradient(&theta, &mut gt),
        );
        assert!((fh - ft).abs() <= 1e-14 * ft.abs(), "{body}: {fh} {ft}");
        // u is the same in both charts, and last.
        let body_len = problem.body_of(&theta).len();
        same(
            &gh[q.len() - body_len..],
            &gt[theta.len() - body_len..],
            body,
            "∂/∂u",
        );
    }
}
