//! The reference models against golden values and against closed forms.

use common::layout::{LayoutDims, standard_start};
use common::reference::{HyperDual, Network, Rows, Sample, Terms};
use common::spec::{Activation, Body, Features, FileRef, Loss, ModelSpec, Regularizer, Skip};
use ndarray::{Array1, Array2, array};
use serde_json::Value;

fn matrix(v: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(v.clone()).unwrap();
    let columns = rows[0].len();
    Array2::from_shape_vec((rows.len(), columns), rows.concat()).unwrap()
}

fn flat(v: &Value) -> Vec<f64> {
    match v {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

fn model(v: &Value) -> ModelSpec {
    let size = |key: &str| v[key].as_u64().unwrap_or(0) as usize;
    let name = v["activation"].as_str().unwrap();
    ModelSpec {
        features: Features::Linear,
        intercept: v["intercept"].as_bool().unwrap(),
        body: match v["body"].as_str().unwrap() {
            "mlp" => Body::Mlp,
            "residual" => Body::Residual,
            "preact" => Body::Preact,
            "bottleneck" => Body::Bottleneck,
            "aggregated" => Body::Aggregated,
            other => panic!("{other}"),
        },
        depth: size("depth"),
        width: size("width"),
        bottleneck: size("bottleneck"),
        cardinality: size("cardinality"),
        activation: Activation::NAMED
            .iter()
            .find(|a| a.0 == name)
            .unwrap()
            .1
            .clone(),
        skip: match v["skip"].as_str().unwrap() {
            "outer" => Skip::Outer,
            "none" => Skip::None,
            "chain" => Skip::Chain,
            other => panic!("{other}"),
        },
        freeze: false,
        image: None,
    }
}

fn loss(v: &Value) -> Loss {
    match v.as_str() {
        None => Loss::Huber {
            delta: v["huber"].as_f64().unwrap(),
        },
        Some("squared") => Loss::Squared,
        Some("cross_entropy") => Loss::CrossEntropy,
        Some("logistic") => Loss::Logistic,
        Some("log_cosh") => Loss::LogCosh,
        Some("squared_hinge") => Loss::SquaredHinge,
        Some(other) => panic!("{other}"),
    }
}

fn close(got: f64, want: f64, scale: f64, what: &str) {
    let allowed = 1e-10 * scale.max(want.abs());
    assert!(
        (got - want).abs() <= allowed,
        "{what}: {got:e}, not {want:e}"
    );
}

#[test]
fn golden_points_have_their_values_gradients_and_hessian_vector_products() {
    let text = include_str!("golden/points.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 17);
    for (case, entry) in cases.iter().enumerate() {
        let (point, expect) = (&entry["point"], &entry["expect"]);
        let spec = model(&point["model"]);
        let (x, y) = (matrix(&point["inputs"]), matrix(&point["targets"]));
        let mut phi = x.clone();
        if spec.intercept {
            phi.push_column(Array1::ones(x.nrows()).view()).unwrap();
        }
        let mask = point.get("mask").map(matrix);
        let rows = Rows {
            x: x.view(),
            phi: phi.view(),
            y: y.view(),
            mask: mask.as_ref().map(|m| m.view()),
            table: None,
        };
        let strength = |key: &str| point["regularizer"][key].as_f64().unwrap_or(0.0);
        let regularizer = Regularizer {
            predictor_ridge: strength("predictor_ridge"),
            body_decay: strength("body_decay"),
            head_decay: strength("head_decay"),
        };
        let dims = LayoutDims {
            inputs: x.ncols(),
            phi: phi.ncols(),
            outputs: y.ncols(),
            table: 0,
        };
        let network = Network::new(&spec, dims).unwrap();
        let gather = |v: &Value| -> Vec<f64> {
            network
                .arrays()
                .iter()
                .flat_map(|a| flat(&v[&a.name]))
                .collect()
        };
        let theta = gather(&point["parameters"]);
        let loss = loss(&point["loss"]);
        let terms: Terms<f64> = network.terms(&theta, rows, loss, regularizer);
        let mut seen = 0;
        for (key, got) in [
            ("loss", terms.loss),
            ("objective", terms.objective()),
            ("value", terms.value()),
        ] {
            if let Some(want) = expect.get(key).and_then(Value::as_f64) {
                close(got, want, 0.0, &format!("case {case} {key}"));
                seen += 1;
            }
        }
        assert!(seen > 0);
        let direction = gather(&point["direction"]);
        let gradient = gather(&expect["gradient"]);
        let product = gather(&expect["hessian_vector"]);
        let largest = |v: &[f64]| v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        for i in 0..theta.len() {
            let dual: Vec<HyperDual> = (0..theta.len())
                .map(|j| HyperDual {
                    value: theta[j],
                    first: if i == j { 1.0 } else { 0.0 },
                    second: direction[j],
                    mixed: 0.0,
                })
                .collect();
            let f = network.terms(&dual, rows, loss, regularizer).objective();
            let what = format!("case {case}, parameter {i}");
            close(
                f.first,
                gradient[i],
                largest(&gradient),
                &format!("{what}, gradient"),
            );
            close(
                f.mixed,
                product[i],
                largest(&product),
                &format!("{what}, product"),
            );
        }
    }
}

fn spec(body: Body, skip: Skip) -> ModelSpec {
    ModelSpec {
        features: Features::Linear,
        intercept: false,
        body,
        depth: 1,
        width: 1,
        bottleneck: 1,
        cardinality: 1,
        activation: Activation::Relu,
        skip,
        freeze: false,
        image: None,
    }
}

#[test]
fn a_bottleneck_is_one_branch_and_branches_do_not_mix() {
    let dims = LayoutDims {
        inputs: 3,
        phi: 3,
        outputs: 1,
        table: 0,
    };
    let of = |body, cardinality, bottleneck| ModelSpec {
        width: 4,
        depth: 2,
        bottleneck,
        cardinality,
        activation: Activation::Tanh,
        ..spec(body, Skip::Outer)
    };
    let (one, other) = (of(Body::Bottleneck, 0, 2), of(Body::Aggregated, 1, 2));
    let (a, b) = (
        Network::new(&one, dims).unwrap(),
        Network::new(&other, dims).unwrap(),
    );
    let theta = standard_start(a.arrays(), 4, 1.0);
    assert_eq!(theta, standard_start(b.arrays(), 4, 1.0));
    let x = [0.3, -1.0, 2.0];
    let sample = Sample {
        x: &x,
        phi: &x,
        table: &[],
    };
    assert_eq!(a.output(&theta, sample), b.output(&theta, sample));

    // Two branches of width 2 are one bottleneck of width 4 with a block-diagonal D.
    let (one, other) = (of(Body::Bottleneck, 0, 4), of(Body::Aggregated, 2, 2));
    let (a, b) = (
        Network::new(&one, dims).unwrap(),
        Network::new(&other, dims).unwrap(),
    );
    let branched = standard_start(b.arrays(), 4, 1.0);
    let mut full = Vec::new();
    for array in b.arrays() {
        let own = &branched[array.range()];
        if array.name.starts_with('D') {
            for i in 0..4 {
                for j in 0..4 {
                    let same = i / 2 == j / 2;
                    full.push(if same {
                        own[i / 2 * 4 + i % 2 * 2 + j % 2]
                    } else {
                        0.0
                    });
                }
            }
        } else {
            full.extend_from_slice(own);
        }
    }
    assert_eq!(a.output(&full, sample), b.output(&branched, sample));
}

#[test]
fn a_convolution_reads_its_neighbours_in_reading_order_with_zeros_outside() {
    // One channel, no block weight: z = mean of A0 ∗ x, x = [[1, 2], [3, 4]].
    let model = ModelSpec {
        image: Some([2, 2, 1]),
        ..spec(Body::Conv, Skip::None)
    };
    let dims = LayoutDims {
        inputs: 4,
        phi: 4,
        outputs: 1,
        table: 0,
    };
    let network = Network::new(&model, dims).unwrap();
    let z_of = |tap: usize| {
        let mut theta = vec![0.0; network.parameters()];
        let kernel = network.arrays().iter().find(|a| a.name == "A0").unwrap();
        theta[kernel.offset + tap] = 1.0;
        let sample = Sample {
            x: &[1.0, 2.0, 3.0, 4.0],
            phi: &[],
            table: &[],
        };
        network.representation(&theta, sample)[0]
    };
    // Tap (i, j) shifts the image by (i − 1, j − 1); what leaves it is lost.
    let want = [1.0, 3.0, 2.0, 4.0, 10.0, 6.0, 3.0, 7.0, 4.0];
    for (tap, sum) in want.into_iter().enumerate() {
        assert_eq!(z_of(tap), sum / 4.0, "tap {tap}");
    }
}

#[test]
fn a_convolution_of_one_pixel_is_the_preact_body_with_the_middle_taps() {
    let model = |body| ModelSpec {
        width: 3,
        depth: 2,
        activation: Activation::Tanh,
        image: Some([1, 1, 4]),
        ..spec(body, Skip::Outer)
    };
    let dims = LayoutDims {
        inputs: 4,
        phi: 4,
        outputs: 2,
        table: 0,
    };
    let (conv, dense) = (model(Body::Conv), model(Body::Preact));
    let (conv, dense) = (
        Network::new(&conv, dims).unwrap(),
        Network::new(&dense, dims).unwrap(),
    );
    let theta = standard_start(conv.arrays(), 1, 1.0);
    let mut middle = Vec::new();
    for array in conv.arrays() {
        let own = &theta[array.range()];
        if let [m, 3, 3, channels] = *array.shape.as_slice() {
            for unit in 0..m {
                middle.extend_from_slice(&own[(unit * 9 + 4) * channels..][..channels]);
            }
        } else {
            middle.extend_from_slice(own);
        }
    }
    let x = [0.4, -0.2, 1.5, 0.0];
    let sample = Sample {
        x: &x,
        phi: &x,
        table: &[],
    };
    assert_eq!(conv.output(&theta, sample), dense.output(&middle, sample));
}

#[test]
fn a_table_is_the_representation_itself() {
    let table = Body::Table(FileRef {
        path: "z.csv".into(),
        sha256: String::new(),
    });
    let model = spec(table, Skip::Outer);
    let dims = LayoutDims {
        inputs: 1,
        phi: 1,
        outputs: 1,
        table: 2,
    };
    let network = Network::new(&model, dims).unwrap();
    let sample = Sample {
        x: &[3.0],
        phi: &[3.0],
        table: &[10.0, 100.0],
    };
    // W = 2, V = (0.5, 0.25): 2 (3 + 5 + 25).
    assert_eq!(network.output(&[2.0, 0.5, 0.25], sample), [66.0]);
}

#[test]
fn each_skip_has_its_own_penalties() {
    let strengths = Regularizer {
        predictor_ridge: 2.0,
        body_decay: 20.0,
        head_decay: 200.0,
    };
    let one = array![[1.0]];
    let rows = Rows {
        x: one.view(),
        phi: one.view(),
        y: one.view(),
        mask: None,
        table: None,
    };
    let dims = LayoutDims {
        inputs: 1,
        phi: 1,
        outputs: 1,
        table: 0,
    };
    for (skip, theta, ridge, body, head) in [
        // W, V, A1, b1: W² + (WV)², A² + b², W² + V².
        (Skip::Outer, [2.0, 3.0, 5.0, 7.0], 4.0 + 36.0, 74.0, 13.0),
        // W, c, A1, b1: W², A² + b², W².
        (Skip::None, [2.0, 3.0, 5.0, 7.0], 4.0, 74.0, 4.0),
        // W, A1, b1, V1: W² + (WV)², A² + b², W² + V².
        (Skip::Chain, [2.0, 5.0, 7.0, 3.0], 4.0 + 36.0, 74.0, 13.0),
    ] {
        let model = spec(Body::Mlp, skip);
        let network = Network::new(&model, dims).unwrap();
        let terms: Terms<f64> = network.terms(&theta, rows, Loss::Squared, strengths);
        assert_eq!(
            (terms.ridge, terms.body_decay, terms.head_decay),
            (ridge, 10.0 * body, 100.0 * head),
            "{skip:?}"
        );
        assert_eq!(terms.objective() - terms.value(), terms.body_decay);
    }
}
