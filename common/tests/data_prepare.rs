//! Preprocessing, CONTRACT §1: hand-computed values, golden dimensions and baselines.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use common::data::*;
use common::spec::{Body, Column, DataSpec, Features, FileData, Loss, NAMED_DATA, NamedFile};
use ndarray::{Array2, ArrayView2, array};
use serde_json::Value;

const PLAIN: Preparation = Preparation {
    loss: Loss::Squared,
    standardize: true,
    features: Features::Linear,
    intercept: true,
};

fn with(loss: Loss) -> Preparation {
    Preparation { loss, ..PLAIN }
}

/// A CSV text whose last `targets` columns are targets.
fn csv(text: &str, targets: usize, classes: Option<bool>) -> Dataset {
    let columns = text.lines().next().unwrap().split(',').count();
    let spec = FileData {
        file: NamedFile {
            file: "data.csv".into(),
            sha256: String::new(),
        },
        targets: (columns - targets..columns).map(Column::Index).collect(),
        inputs: None,
        mask: None,
        classes,
        target_file: None,
    };
    load(&DataSpec::File(spec), |_| Some(text.as_bytes())).unwrap()
}

fn close(got: &Array2<f64>, want: &Array2<f64>) {
    assert_eq!(got.dim(), want.dim());
    for (g, w) in got.iter().zip(want) {
        assert!(
            (g - w).abs() <= 4.0 * f64::EPSILON * w.abs(),
            "{got}\nis not\n{want}"
        );
    }
}

#[test]
fn columns_become_their_distance_from_the_mean_in_population_deviations() {
    // x: mean 2, variance (1 + 0 + 1)/3; y: mean 20, variance (100 + 0 + 100)/3.
    let set = csv("1,10\n2,20\n3,30\n", 1, Some(false));
    let p = prepare(&set, &PLAIN).unwrap();
    let r = 1.5f64.sqrt();
    let column = array![[-r], [0.0], [r]];
    close(&p.x_body, &column);
    close(&p.y, &column);
    close(&p.phi, &array![[-r, 1.0], [0.0, 1.0], [r, 1.0]]);
    assert_eq!(p.input_scales[0].mean, 2.0);
    assert!((p.target_scales[0].deviation - 10.0 / r).abs() < 1e-14);
    assert_eq!((p.mask, p.classes), (None, None));
}

#[test]
fn without_standardisation_numbers_and_constant_columns_stay_as_they_are() {
    let set = csv("1,5,10\n2,5,20\n", 1, Some(false));
    let how = Preparation {
        standardize: false,
        intercept: false,
        ..PLAIN
    };
    let p = prepare(&set, &how).unwrap();
    assert_eq!(p.x_body, array![[1.0, 5.0], [2.0, 5.0]]);
    assert_eq!((p.phi, p.y), (p.x_body.clone(), array![[10.0], [20.0]]));
    assert_eq!(p.x_conv, None);
}

#[test]
fn constant_columns_leave_features_and_dense_bodies_but_not_convolutions() {
    let set = csv("7,1,10\n7,3,20\n", 1, Some(false));
    let p = prepare(&set, &PLAIN).unwrap();
    assert_eq!(p.kept, [1]);
    assert_eq!(p.x_body, array![[-1.0], [1.0]]);
    assert_eq!(p.phi, array![[-1.0, 1.0], [1.0, 1.0]]);
    assert_eq!(p.x_conv, Some(array![[0.0, -1.0], [0.0, 1.0]]));
    assert_eq!(p.inputs_of(&Body::Conv).ncols(), 2);
    assert_eq!(p.inputs_of(&Body::Mlp).ncols(), 1);
    assert_eq!(p.input_scales[0].deviation, 0.0);
}

#[test]
fn a_constant_column_is_one_whose_values_are_equal_not_one_of_small_variance() {
    // 0.1 has no exact mean over three rows; 1 + 2⁻⁵² differs from 1.
    let next = 1.0 + f64::EPSILON;
    let set = csv(&format!("0.1,1,0\n0.1,{next},1\n0.1,1,2\n"), 1, Some(false));
    let p = prepare(&set, &PLAIN).unwrap();
    assert_eq!(p.kept, [1]);
    assert!(p.x_body.iter().all(|v| v.is_finite()));
}

#[test]
fn a_constant_target_becomes_zero_and_one_row_is_enough() {
    let p = prepare(&csv("1,5\n2,5\n", 1, Some(false)), &PLAIN).unwrap();
    assert_eq!(p.y, array![[0.0], [0.0]]);
    let one = prepare(&csv("1,2,5\n", 1, Some(false)), &PLAIN).unwrap();
    assert_eq!(
        (one.x_body.dim(), one.phi, one.y),
        ((1, 0), array![[1.0]], array![[0.0]])
    );
}

#[test]
fn masked_targets_are_standardised_over_their_observed_rows() {
    let set = csv("1,10,1\n2,,3\n3,30,\n4,,\n", 2, Some(false));
    let p = prepare(&set, &PLAIN).unwrap();
    assert_eq!(
        p.y,
        array![[-1.0, -1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]
    );
    assert_eq!(
        p.mask,
        Some(array![[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    );
    assert!(facts(&set, &PLAIN).unwrap().has_mask);
}

#[test]
fn classes_are_encoded_as_the_loss_needs_them() {
    let three = csv("1,b\n2,a\n3,c\n", 1, None);
    let one_hot = array![[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
    for (loss, want) in [
        (Loss::CrossEntropy, one_hot.clone()),
        (Loss::Logistic, one_hot.clone()),
        (Loss::SquaredHinge, 2.0 * &one_hot - 1.0),
        (Loss::Squared, one_hot.clone()),
        (Loss::Huber { delta: 1.0 }, one_hot.clone()),
        (Loss::LogCosh, one_hot.clone()),
    ] {
        let p = prepare(&three, &with(loss)).unwrap();
        assert_eq!(p.y, want, "{loss:?}");
        assert_eq!(p.classes.unwrap().labels, [Some(1), Some(0), Some(2)]);
    }
    let two = csv("1,4\n2,9\n3,4\n", 1, Some(true));
    for (loss, want) in [
        (
            Loss::CrossEntropy,
            array![[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
        ),
        (Loss::Squared, array![[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
        (Loss::Logistic, array![[0.0], [1.0], [0.0]]),
        (Loss::SquaredHinge, array![[-1.0], [1.0], [-1.0]]),
    ] {
        assert_eq!(prepare(&two, &with(loss)).unwrap().y, want, "{loss:?}");
    }
}

#[test]
fn a_column_of_integers_is_classes_or_numbers_as_the_loss_needs() {
    let set = csv("1,-1\n2,5\n3,5\n", 1, None);
    let p = prepare(&set, &with(Loss::Logistic)).unwrap();
    assert_eq!(p.y, array![[0.0], [1.0], [1.0]]);
    let p = prepare(&set, &PLAIN).unwrap();
    assert_eq!(p.classes, None);
    assert!((p.y.sum()).abs() < 1e-15);
    assert_eq!(p.y.ncols(), 1);
}

#[test]
fn a_missing_class_is_not_observed_in_any_of_its_columns() {
    let set = csv("1,a\n2,\n3,b\n4,c\n", 1, None);
    let p = prepare(&set, &with(Loss::Logistic)).unwrap();
    assert_eq!(p.y.row(1).to_vec(), [0.0; 3]);
    assert_eq!(p.mask.as_ref().unwrap().row(1).to_vec(), [0.0; 3]);
    assert_eq!(p.mask.as_ref().unwrap().row(0).to_vec(), [1.0; 3]);
    assert_eq!(p.classes.unwrap().labels[1], None);
    assert_eq!(
        prepare(&set, &with(Loss::CrossEntropy)),
        Err(PrepareError::MaskUnderCrossEntropy)
    );
}

#[test]
fn scores_become_the_class_of_the_largest_or_the_sign() {
    let mut set = csv("1,0.5,0.25\n2,-2,-1\n3,0,7\n", 2, Some(false));
    set.kind = TargetKind::Scores;
    let p = prepare(&set, &with(Loss::CrossEntropy)).unwrap();
    assert_eq!(p.y, array![[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]);
    let mut set = csv("1,0.5\n2,-2\n3,0\n", 1, Some(false));
    set.kind = TargetKind::Scores;
    let p = prepare(&set, &with(Loss::SquaredHinge)).unwrap();
    assert_eq!(p.y, array![[1.0], [-1.0], [-1.0]]);
    assert_eq!(prepare(&set, &PLAIN).unwrap().classes, None);
}

#[test]
fn numbers_that_are_already_encoded_are_taken_as_they_are() {
    let set = csv("1,0.25,0.75\n2,1,0\n", 2, None);
    let p = prepare(&set, &with(Loss::CrossEntropy)).unwrap();
    assert_eq!(p.y, array![[0.25, 0.75], [1.0, 0.0]]);
    let set = csv("1,0,1\n2,1,1\n", 2, None);
    assert_eq!(prepare(&set, &with(Loss::Logistic)).unwrap().y, set.targets);
    let set = csv("1,-1,1\n2,1,1\n", 2, None);
    assert_eq!(
        prepare(&set, &with(Loss::SquaredHinge)).unwrap().y,
        set.targets
    );
    let set = csv("1,0\n2,3.5\n", 1, None);
    assert_eq!(prepare(&set, &with(Loss::Poisson)).unwrap().y, set.targets);
}

#[test]
fn what_does_not_suit_a_loss_is_refused_with_row_and_value() {
    let check = |set: &Dataset, loss: Loss, want: &str| {
        let error = prepare(set, &with(loss)).unwrap_err();
        assert_eq!(error.to_string(), want);
        assert_eq!(facts(set, &with(loss)), Err(error));
    };
    let regression = "use `squared`, `huber` or `log_cosh` for regression";
    let diabetes = named("diabetes").unwrap();
    check(
        &diabetes,
        Loss::CrossEntropy,
        &format!(
            "loss `cross_entropy` needs classes, or one column for each class, and target 0 is \
             151 in row 1; {regression}"
        ),
    );
    check(
        &diabetes,
        Loss::Logistic,
        &format!(
            "loss `logistic` needs classes, or targets 0 and 1, and target 0 is 151 in row 1; \
             {regression}"
        ),
    );
    check(
        &csv("1,2\n3,4.5\n", 1, None),
        Loss::SquaredHinge,
        &format!("loss `squared_hinge` needs classes, and target 0 is 4.5 in row 2; {regression}"),
    );
    check(
        &csv("1,0.5,0.5\n2,0.5,0.4\n", 2, None),
        Loss::CrossEntropy,
        "loss `cross_entropy` needs rows that sum to 1, row 2 sums to 0.9",
    );
    check(
        &csv("1,3\n2,-1\n", 1, None),
        Loss::Poisson,
        "loss `poisson` needs targets ≥ 0, and target 0 is -1 in row 2",
    );
    check(
        &named("iris").unwrap(),
        Loss::Poisson,
        "loss `poisson` needs counts, these data have classes",
    );
    check(
        &csv("1,a\n2,a\n", 1, None),
        Loss::Logistic,
        "all rows are of one class; there is nothing to tell apart",
    );
}

#[test]
fn without_columns_and_intercept_there_is_no_feature_map() {
    let how = Preparation {
        intercept: false,
        ..PLAIN
    };
    let set = csv("1,2\n1,3\n", 1, None);
    assert_eq!(prepare(&set, &how), Err(PrepareError::NoFeatures));
    assert_eq!(
        PrepareError::NoFeatures.to_string(),
        "every input column is constant and there is no intercept: nothing is left for φ"
    );
}

#[test]
fn columns_beyond_the_range_of_a_double_are_refused_not_turned_into_nan() {
    let message = |text: &str| {
        let error = prepare(&csv(text, 1, Some(false)), &PLAIN).unwrap_err();
        assert!(matches!(error, PrepareError::Unscalable { .. }), "{error}");
        error.to_string()
    };
    assert_eq!(
        message("1e200,1\n-1e200,2\n"),
        "input column 0 cannot be standardised: mean 0, standard deviation inf; rescale it"
    );
    assert!(message("1,1e-200\n2,3e-200\n").starts_with("target 0 cannot be standardised"));
    let huge = Preparation {
        standardize: false,
        features: Features::Polynomial { degree: 2 },
        ..PLAIN
    };
    assert_eq!(
        prepare(&csv("2,1\n1e200,2\n", 1, Some(false)), &huge),
        Err(PrepareError::NonFiniteFeature {
            feature: 1,
            row: 2,
            value: f64::INFINITY
        })
    );
}

#[test]
fn monomials_stand_by_degree_then_lexicographically() {
    let set = csv("2,3,5,0\n1,1,1,1\n", 1, Some(false));
    let how = |degree| Preparation {
        standardize: false,
        features: Features::Polynomial { degree },
        ..PLAIN
    };
    let phi = prepare(&set, &how(3)).unwrap().phi;
    assert_eq!(
        phi.row(0).to_vec(),
        [
            2.0, 3.0, 5.0, 4.0, 6.0, 10.0, 9.0, 15.0, 25.0, 8.0, 12.0, 20.0, 18.0, 30.0, 50.0,
            27.0, 45.0, 75.0, 125.0, 1.0
        ]
    );
    assert_eq!(prepare(&set, &how(1)).unwrap().phi.ncols(), 4);
    assert_eq!(
        feature_count(Features::Polynomial { degree: 3 }, 3, true),
        Some(20)
    );
    let too_many = facts(&named("digits").unwrap(), &how(4)).unwrap_err();
    assert_eq!(
        too_many.to_string(),
        "φ would have 814385 columns on 1797 rows, more numbers than the 134217728 allowed"
    );
    assert_eq!(
        feature_count(Features::Polynomial { degree: 60 }, 64, true),
        None
    );
}

#[test]
fn fourier_features_are_cosines_that_approximate_a_gaussian_kernel() {
    let set = csv("0.3,-1,0\n0.1,0.4,1\n", 1, Some(false));
    let how = |count, seed| Preparation {
        standardize: false,
        features: Features::Fourier {
            count,
            scale: 0.7,
            seed,
        },
        ..PLAIN
    };
    let phi = prepare(&set, &how(20_000, 1)).unwrap().phi;
    assert_eq!(phi.dim(), (2, 20_001));
    assert_eq!(phi[[0, 20_000]], 1.0);
    // E φ(x)ᵀφ(y) = exp(−scale²‖x − y‖²/2); standard error about 1/√count.
    let products: f64 = (0..20_000).map(|j| phi[[0, j]] * phi[[1, j]]).sum();
    let want = common::math::scalar::exp(-0.49 * (0.04 + 1.96) / 2.0);
    assert!((products - want).abs() < 0.03, "{products}, not {want}");
    // A longer list begins with the shorter one, but for the amplitude.
    let few = prepare(&set, &how(5, 1)).unwrap().phi;
    assert!((few[[0, 2]] * (5.0f64 / 20_000.0).sqrt() - phi[[0, 2]]).abs() < 1e-15);
    assert_ne!(few, prepare(&set, &how(5, 2)).unwrap().phi);
}

fn golden_rows() -> Vec<Value> {
    let text = include_str!("golden/baselines.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    golden["rows"].as_array().unwrap().clone()
}

fn how_of(row: &Value) -> Preparation {
    Preparation {
        loss: match row["loss"].as_str() {
            Some("squared") => Loss::Squared,
            Some("cross_entropy") => Loss::CrossEntropy,
            Some("logistic") => Loss::Logistic,
            _ => Loss::Huber {
                delta: row["loss"]["huber"].as_f64().unwrap(),
            },
        },
        standardize: true,
        features: match row["features"]["polynomial"].as_u64() {
            Some(degree) => Features::Polynomial {
                degree: degree as usize,
            },
            None => Features::Linear,
        },
        intercept: row["intercept"].as_bool().unwrap(),
    }
}

#[test]
fn golden_baselines_have_their_dimensions() {
    let mut checked = 0;
    for row in golden_rows() {
        let set = named(row["data"].as_str().unwrap()).unwrap();
        let how = how_of(&row);
        let f = facts(&set, &how).unwrap();
        let Some(n) = row["n"].as_u64() else { continue };
        let want = [
            n,
            row["d_phi"].as_u64().unwrap(),
            row["d_y"].as_u64().unwrap(),
        ];
        assert_eq!([f.rows, f.phi, f.outputs].map(|s| s as u64), want, "{row}");
        let p = prepare(&set, &how).unwrap();
        assert_eq!(
            (p.phi.dim(), p.y.dim()),
            ((f.rows, f.phi), (f.rows, f.outputs))
        );
        assert_eq!((p.x_body.ncols(), f.has_mask), (f.inputs, false));
        checked += 1;
    }
    assert_eq!(checked, 27);
}

/// min over R of mean ½‖Rφ − y‖² + (r/2)‖R‖², by the normal equations.
fn least_squares(phi: ArrayView2<'_, f64>, y: ArrayView2<'_, f64>, r: f64) -> f64 {
    let (n, d) = phi.dim();
    let mut gram = phi.t().dot(&phi) / n as f64;
    for i in 0..d {
        gram[[i, i]] += r;
    }
    let mut right = phi.t().dot(&y) / n as f64;
    let moments = right.clone();
    // A column that the ones before it explain has no pivot left and adds nothing.
    let has_pivot = |gram: &Array2<f64>, k: usize| gram[[k, k]] > 1e-10;
    for k in 0..d {
        if !has_pivot(&gram, k) {
            continue;
        }
        for i in 0..d {
            if i != k {
                let f = gram[[i, k]] / gram[[k, k]];
                for j in 0..d {
                    gram[[i, j]] -= f * gram[[k, j]];
                }
                for j in 0..y.ncols() {
                    right[[i, j]] -= f * right[[k, j]];
                }
            }
        }
    }
    let solved: f64 = (0..d)
        .filter(|k| has_pivot(&gram, *k))
        .flat_map(|k| (0..y.ncols()).map(move |j| (k, j)))
        .map(|(k, j)| right[[k, j]] / gram[[k, k]] * moments[[k, j]])
        .sum();
    0.5 * (y.iter().map(|v| v * v).sum::<f64>() / n as f64 - solved)
}

#[test]
fn the_squared_golden_baselines_are_the_minima_on_the_prepared_data() {
    let mut checked = 0;
    for row in golden_rows() {
        let how = how_of(&row);
        // Sixty-six columns are as many as the normal equations can bear.
        if how.loss != Loss::Squared || row["d_phi"].as_u64().is_some_and(|d| d > 66) {
            continue;
        }
        let p = prepare(&named(row["data"].as_str().unwrap()).unwrap(), &how).unwrap();
        let ridge = row["predictor_ridge"].as_f64().unwrap_or(0.0);
        let (got, want) = (
            least_squares(p.phi.view(), p.y.view(), ridge),
            row["value"].as_f64().unwrap(),
        );
        assert!((got - want).abs() < 1e-10 * want, "{row}: {got}");
        checked += 1;
    }
    assert_eq!(checked, 10);
}

#[test]
fn shipped_data_sets_have_their_shapes() {
    for (name, rows, inputs, targets) in [
        ("diabetes", 442, 10, 1),
        ("linnerud", 20, 3, 3),
        ("iris", 150, 4, 1),
        ("wine", 178, 13, 1),
        ("breast_cancer", 569, 30, 1),
        ("digits", 1797, 64, 1),
    ] {
        let set = named(name).unwrap();
        assert_eq!(
            (set.rows(), set.inputs.ncols(), set.targets.ncols()),
            (rows, inputs, targets)
        );
        assert_eq!(set.image, (name == "digits").then_some([8, 8, 1]));
    }
    assert_eq!(NAMED_DATA.len(), 6);
    let p = prepare(&named("digits").unwrap(), &with(Loss::CrossEntropy)).unwrap();
    assert_eq!(
        (p.x_body.ncols(), p.inputs_of(&Body::Conv).ncols()),
        (61, 64)
    );
    assert_eq!(
        named("mnist").unwrap_err().to_string(),
        "there is no data set `mnist`; the shipped ones are diabetes, linnerud, iris, wine, \
         breast_cancer, digits"
    );
}

#[test]
fn the_hashes_of_shipped_data_and_of_their_preparations_do_not_move() {
    use sha2::{Digest, Sha256};
    let shown: Vec<String> = NAMED_DATA
        .iter()
        .map(|name| {
            let set = named(name).unwrap();
            let p = prepare(&set, &PLAIN).unwrap();
            let mut hash = Sha256::new();
            for array in [&p.x_body, &p.phi, &p.y] {
                array
                    .iter()
                    .for_each(|v| hash.update(v.to_bits().to_le_bytes()));
            }
            let hex = |bytes: &[u8]| common::ids::to_hex(&bytes[..8]);
            format!(
                "{name} {} {}",
                hex(&set.content_hash()),
                hex(&hash.finalize())
            )
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

/// A price that a spreadsheet wrote is no class; classes that were meant stay what they are.
#[test]
fn text_among_the_numbers_of_a_regressions_target_is_refused() {
    let regressions = [
        Loss::Squared,
        Loss::Huber { delta: 1.0 },
        Loss::LogCosh,
        Loss::Poisson,
    ];
    let prices = "size,price\n1,990\n2,\"1,234\"\n3,\"2,100\"\n4,\n";
    for loss in regressions {
        let error = facts(&csv(prices, 1, None), &with(loss)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("target `price` holds text (`1,234` in row 2)"),
            "{text}"
        );
        assert!(text.contains("`classes: true`"), "{text}");
        assert_eq!(prepare(&csv(prices, 1, None), &with(loss)), Err(error));
    }
    let all = prices.trim_end_matches("4,\n");
    for (set, loss) in [
        (csv(prices, 1, Some(true)), Loss::Squared),
        (csv(all, 1, None), Loss::CrossEntropy),
        (csv("x,y\n1,red\n2,blue\n3,7\n", 1, None), Loss::Squared),
    ] {
        assert!(facts(&set, &with(loss)).is_ok(), "{loss:?} of {set:?}");
    }
}
