//! Generators: determinism, statistics, and what is refused.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use common::data::{GeneratorError, Preparation, TargetKind, defaults, generate, prepare};
use common::ids::to_hex;
use common::spec::{Activation, Body, Features, Generator, GeneratorKind, Loss, Teacher};
use ndarray::Array2;

fn quiet(kind: GeneratorKind, rows: usize, inputs: usize, outputs: usize) -> Generator {
    Generator {
        rows,
        inputs,
        outputs,
        noise: 0.0,
        ..defaults(kind)
    }
}

fn moments(values: &Array2<f64>) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.sum() / n;
    (mean, values.mapv(|v| (v - mean) * (v - mean)).sum() / n)
}

#[test]
fn the_first_set_of_each_family_does_not_move() {
    let shown: Vec<String> = GeneratorKind::NAMED
        .iter()
        .map(|(_, kind)| {
            let set = generate(&defaults(*kind)).unwrap();
            format!("{} {}", kind.name(), to_hex(&set.content_hash()[..8]))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn a_seed_decides_a_set_and_a_longer_set_begins_with_the_shorter() {
    for (_, kind) in GeneratorKind::NAMED {
        let spec = Generator {
            noise: 0.1,
            ..defaults(kind)
        };
        let set = generate(&spec).unwrap();
        assert_eq!(set, generate(&spec).unwrap());
        let other = generate(&Generator {
            seed: 1,
            ..spec.clone()
        });
        assert_ne!(set.inputs, other.unwrap().inputs, "{}", kind.name());
        let longer = generate(&Generator { rows: 130, ..spec }).unwrap();
        let first = longer.inputs.slice(ndarray::s![..100, ..]);
        assert_eq!(set.inputs, first, "{}", kind.name());
        assert_eq!(
            set.targets,
            longer.targets.slice(ndarray::s![..100, ..]),
            "{}",
            kind.name()
        );
    }
}

#[test]
fn inputs_are_standard_normal_unless_the_family_says_otherwise() {
    for (_, kind) in GeneratorKind::NAMED {
        let set = generate(&quiet(kind, 5000, 2, 1)).unwrap();
        let (mean, variance) = moments(&set.inputs);
        let (want_mean, want_variance) = match kind {
            GeneratorKind::Sawtooth => (0.5, 1.0 / 12.0),
            // t² = u is uniform: each coordinate has half its mean.
            GeneratorKind::Spirals => (0.0, 0.25),
            _ => (0.0, 1.0),
        };
        // Five standard errors of 10⁴ draws.
        assert!((mean - want_mean).abs() < 0.05, "{} {mean}", kind.name());
        assert!(
            (variance - want_variance).abs() < 0.075,
            "{} {variance}",
            kind.name()
        );
    }
}

#[test]
fn the_noise_has_its_deviation_and_moves_nothing_else() {
    let spec = quiet(GeneratorKind::Linear, 4000, 3, 2);
    let clean = generate(&spec).unwrap();
    let noisy = generate(&Generator { noise: 0.5, ..spec }).unwrap();
    assert_eq!(clean.inputs, noisy.inputs);
    let (mean, variance) = moments(&(&noisy.targets - &clean.targets));
    assert!(mean.abs() < 0.03, "{mean}");
    assert!((variance - 0.25).abs() < 0.02, "{variance}");
}

#[test]
fn a_linear_target_is_linear_and_of_the_size_of_an_input() {
    let set = generate(&quiet(GeneratorKind::Linear, 500, 4, 300)).unwrap();
    let (_, variance) = moments(&set.targets);
    assert!((variance - 1.0).abs() < 0.2, "{variance}");
    // β from the first four rows explains all others.
    let y = set.targets.column(0);
    let beta = solve(
        set.inputs.slice(ndarray::s![..4, ..]).to_owned(),
        y.to_vec(),
    );
    for (x, y) in set.inputs.rows().into_iter().zip(y) {
        let f: f64 = x.iter().zip(&beta).map(|(a, b)| a * b).sum();
        assert!((f - y).abs() < 1e-9, "{f} and {y}");
    }
}

/// Solves A b = y for a small square A, y's first entries.
fn solve(mut a: Array2<f64>, y: Vec<f64>) -> Vec<f64> {
    let d = a.nrows();
    let mut b = y[..d].to_vec();
    for k in 0..d {
        for i in 0..d {
            if i != k {
                let f = a[[i, k]] / a[[k, k]];
                for j in 0..d {
                    a[[i, j]] -= f * a[[k, j]];
                }
                b[i] -= f * b[k];
            }
        }
    }
    (0..d).map(|k| b[k] / a[[k, k]]).collect()
}

#[test]
fn a_polynomial_of_degree_two_has_a_constant_second_difference() {
    let spec = Generator {
        parameter: Some(2.0),
        ..quiet(GeneratorKind::Polynomial, 400, 1, 1)
    };
    let set = generate(&spec).unwrap();
    let point = |i: usize| (set.inputs[[i, 0]], set.targets[[i, 0]]);
    let slope = |a: (f64, f64), b: (f64, f64)| (b.1 - a.1) / (b.0 - a.0);
    let second = |i: usize| {
        let (a, b, c) = (point(i), point(i + 1), point(i + 2));
        (slope(b, c) - slope(a, b)) / (c.0 - a.0)
    };
    let first = second(0);
    assert!(first.abs() > 1e-3);
    for i in (3..300).step_by(3) {
        assert!(
            (second(i) - first).abs() < 1e-6,
            "{} and {first}",
            second(i)
        );
    }
    // A higher degree keeps the terms of the lower one: at small x they agree.
    let higher = generate(&Generator {
        parameter: Some(3.0),
        ..spec
    });
    let (_, variance) = moments(&(&higher.unwrap().targets - &set.targets));
    assert!(variance > 0.0);
}

#[test]
fn a_sawtooth_folded_f_times_crosses_zero_two_to_the_f_times() {
    for folds in 1..=4 {
        let spec = Generator {
            parameter: Some(f64::from(folds)),
            ..quiet(GeneratorKind::Sawtooth, 2000, 1, 1)
        };
        let set = generate(&spec).unwrap();
        let mut points: Vec<(f64, f64)> = set
            .inputs
            .iter()
            .copied()
            .zip(set.targets.iter().copied())
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let crossings = points
            .windows(2)
            .filter(|w| (w[0].1 > 0.0) != (w[1].1 > 0.0))
            .count();
        assert_eq!(crossings, 1 << folds);
        assert!(points.iter().all(|p| p.1.abs() <= 1.0));
    }
}

#[test]
fn a_ridge_function_is_a_sine_of_one_direction_of_unit_length() {
    let of = |frequency| {
        generate(&Generator {
            parameter: Some(frequency),
            ..quiet(GeneratorKind::RidgeFunction, 3000, 3, 1)
        })
        .unwrap()
    };
    // At a low frequency the sine is its tangent: sin b + ω cos b · aᵀx.
    let (slow, omega) = (of(1e-4), 1e-4);
    let x = slow.inputs.row(0);
    let differences = |rows: std::ops::Range<usize>| {
        let y0 = slow.targets[[0, 0]];
        let x = Array2::from_shape_fn((rows.len(), 3), |(i, j)| {
            slow.inputs[[rows.start + i, j]] - x[j]
        });
        (
            x,
            rows.map(|i| slow.targets[[i, 0]] - y0)
                .collect::<Vec<f64>>(),
        )
    };
    let (a, b) = differences(1..4);
    let slope = solve(a, b);
    let length = slope.iter().map(|v| v * v).sum::<f64>().sqrt();
    let cosine = (1.0 - slow.targets[[0, 0]] * slow.targets[[0, 0]]).sqrt();
    assert!((length / (omega * cosine) - 1.0).abs() < 1e-2, "{length}");

    let set = of(5.0);
    assert!(set.targets.iter().all(|y| y.abs() <= 1.0));
    let (_, variance) = moments(&set.targets);
    // A sine of a wide Gaussian phase: ½.
    assert!((variance - 0.5).abs() < 0.08, "{variance}");
}

#[test]
fn spirals_take_turns_over_the_classes_and_wind_outward() {
    let set = generate(&quiet(GeneratorKind::Spirals, 300, 3, 3)).unwrap();
    assert_eq!(set.kind, TargetKind::Classes { classes: 3 });
    let labels: Vec<f64> = set.targets.iter().copied().take(4).collect();
    assert_eq!(labels, [0.0, 1.0, 2.0, 0.0]);
    for (x, y) in set.inputs.rows().into_iter().zip(&set.targets) {
        let t = (x[0] * x[0] + x[1] * x[1]).sqrt();
        let angle = std::f64::consts::TAU * (t + y / 3.0);
        let (cos, sin) = (
            common::math::scalar::cos(angle),
            common::math::scalar::sin(angle),
        );
        assert!((x[0] - t * cos).abs() < 1e-12 && (x[1] - t * sin).abs() < 1e-12);
    }
}

#[test]
fn random_labels_know_nothing_of_the_inputs() {
    let set = generate(&quiet(GeneratorKind::RandomLabels, 5000, 1, 1)).unwrap();
    let n = 5000.0;
    let covariance = set
        .inputs
        .iter()
        .zip(&set.targets)
        .map(|(x, y)| x * y)
        .sum::<f64>()
        / n;
    assert!(covariance.abs() < 5.0 / n.sqrt(), "{covariance}");
    let positive = set.targets.iter().filter(|y| **y > 0.0).count() as f64 / n;
    assert!((positive - 0.5).abs() < 0.05, "{positive}");
}

fn teacher(body: Body) -> Generator {
    Generator {
        inputs: 9,
        teacher: Some(Teacher {
            body,
            depth: 2,
            width: 4,
            bottleneck: 2,
            cardinality: 2,
            activation: Activation::Tanh,
        }),
        ..quiet(GeneratorKind::Teacher, 50, 9, 2)
    }
}

#[test]
fn every_body_can_teach_and_a_convolution_gets_images() {
    for body in [
        Body::Mlp,
        Body::Residual,
        Body::Preact,
        Body::Bottleneck,
        Body::Aggregated,
        Body::Conv,
    ] {
        let set = generate(&teacher(body.clone())).unwrap();
        let (_, variance) = moments(&set.targets);
        assert!(variance > 1e-3, "{body:?}");
        assert_eq!(set.image, (body == Body::Conv).then_some([3, 3, 1]));
    }
    let line = Generator {
        inputs: 10,
        ..teacher(Body::Conv)
    };
    assert_eq!(generate(&line).unwrap().image, Some([1, 10, 1]));
}

#[test]
fn a_teacher_is_not_the_standard_start_of_its_own_seed() {
    use common::layout::{LayoutDims, layout, standard_start};
    use common::reference::{Network, Sample};
    use common::spec::{ModelSpec, Skip};
    let set = generate(&quiet(GeneratorKind::Teacher, 20, 4, 2)).unwrap();
    let model = ModelSpec {
        features: Features::Linear,
        intercept: true,
        body: Body::Mlp,
        depth: 1,
        width: 3,
        bottleneck: 0,
        cardinality: 0,
        activation: Activation::Tanh,
        skip: Skip::Outer,
        freeze: false,
        image: None,
    };
    let dims = LayoutDims {
        inputs: 4,
        phi: 5,
        outputs: 2,
        table: 0,
    };
    let theta = standard_start(&layout(&model, dims).unwrap(), 0, 1.0);
    let network = Network::new(&model, dims).unwrap();
    let x = set.inputs.row(0).to_vec();
    let phi: Vec<f64> = x.iter().copied().chain([1.0]).collect();
    let sample = Sample {
        x: &x,
        phi: &phi,
        table: &[],
    };
    assert_ne!(network.output(&theta, sample), set.targets.row(0).to_vec());
}

#[test]
fn classification_losses_get_the_class_of_the_largest_score() {
    let set = generate(&quiet(GeneratorKind::Teacher, 100, 4, 3)).unwrap();
    let how = |loss| Preparation {
        loss,
        standardize: true,
        features: Features::Linear,
        intercept: true,
    };
    let p = prepare(&set, &how(Loss::CrossEntropy)).unwrap();
    for (scores, y) in set.targets.rows().into_iter().zip(p.y.rows()) {
        let class = y.iter().position(|v| *v == 1.0).unwrap();
        assert!(scores.iter().all(|s| *s <= scores[class]));
    }
    let p = prepare(&set, &how(Loss::Squared)).unwrap();
    assert_eq!((p.y.ncols(), p.classes), (3, None));
}

#[test]
fn impossible_sizes_are_refused_with_their_range() {
    let check = |spec: Generator, want: &str| {
        assert_eq!(generate(&spec).unwrap_err().to_string(), want);
    };
    let linear = defaults(GeneratorKind::Linear);
    check(
        Generator {
            rows: 0,
            ..linear.clone()
        },
        "`rows` of `linear` is 0; it must be from 1 to 1000000000",
    );
    check(
        Generator {
            inputs: 1,
            ..defaults(GeneratorKind::Spirals)
        },
        "`inputs` of `spirals` is 1; it must be from 2 to 1000000000",
    );
    check(
        Generator {
            parameter: Some(41.0),
            ..defaults(GeneratorKind::Sawtooth)
        },
        "`folds` of `sawtooth` is 41; it must be from 1 to 40",
    );
    check(
        Generator {
            rows: 1 << 27,
            ..linear.clone()
        },
        "671088640 numbers are more than a generator draws; use fewer rows or inputs",
    );
    check(
        Generator {
            inputs: 200,
            ..defaults(GeneratorKind::Polynomial)
        },
        "1373700 numbers are more than a generator draws; use fewer rows or inputs",
    );
    check(
        Generator {
            teacher: None,
            ..defaults(GeneratorKind::Teacher)
        },
        "`teacher` needs the fields of a network: body, depth, width, activation",
    );
    let mut zero = teacher(Body::Aggregated);
    zero.teacher.as_mut().unwrap().cardinality = 0;
    check(
        zero,
        "the teacher's network: `cardinality` is 0; it must be at least 1",
    );
    let mut huge = teacher(Body::Mlp);
    huge.teacher.as_mut().unwrap().width = 4096;
    huge.teacher.as_mut().unwrap().depth = 4096;
    assert!(matches!(
        generate(&huge),
        Err(GeneratorError::TeacherTooLarge { .. })
    ));
    for noise in [f64::NAN, -1.0, f64::INFINITY] {
        let spec = Generator {
            noise,
            ..linear.clone()
        };
        assert!(matches!(
            generate(&spec),
            Err(GeneratorError::Range { field: "noise", .. })
        ));
    }
    let mut steep = teacher(Body::Residual);
    let steep_teacher = steep.teacher.as_mut().unwrap();
    steep_teacher.depth = 12;
    steep_teacher.activation = Activation::Cubic;
    assert!(matches!(
        generate(&steep),
        Err(GeneratorError::NonFinite { .. })
    ));
}
