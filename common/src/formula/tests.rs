use proptest::prelude::*;

use super::*;

fn formula(text: &str) -> Formula {
    Formula::parse(text).unwrap_or_else(|e| panic!("{text}: {e} at {:?}", e.span))
}

fn mistake(text: &str) -> (std::ops::Range<usize>, String, Option<String>) {
    let error = Formula::parse(text).expect_err(text);
    (error.span.clone(), error.to_string(), error.help())
}

#[test]
fn operators_bind_as_in_mathematics() {
    for (text, value) in [
        ("1 + 2 * 3", 7.0),
        ("-2^2", -4.0),
        ("2^3^2", 512.0),
        ("2^-1", 0.5),
        ("8 / 4 / 2", 1.0),
        ("8 - 4 - 2", 2.0),
        ("-(-t)", 3.0),
        ("+t", 3.0),
        ("2 * -t", -6.0),
        ("max(t, min(5, 4))", 4.0),
        ("2e1 + .5 + 1.", 21.5),
        ("cos(0) + e - e", 1.0),
    ] {
        assert_eq!(formula(text).value(3.0), value, "{text}");
    }
}

#[test]
fn every_function_has_its_value_and_both_derivatives() {
    let h: f64 = 1.0 / 1024.0;
    for text in [
        "exp(t)",
        "log(t)",
        "log1p(t)",
        "sqrt(t)",
        "sin(t)",
        "cos(t)",
        "tanh(t)",
        "atan(t)",
        "erf(t)",
        "sigmoid(t)",
        "softplus(t)",
        "relu(t)",
        "abs(t)",
        "sign(t)",
        "min(t, 2*t)",
        "max(t*t, 3)",
        "t^3",
        "t^-2",
        "t^2.5",
        "2^t",
        "t^t",
        "t / (1 + abs(t))",
        "t * tanh(t)",
        "exp(-t^2) * sin(3*t)",
        "1/t",
        "sqrt(1 + t^2) - 1",
        "t^65 / 2^65",
    ] {
        let f = formula(text);
        for t in [0.37, 1.21, 2.6] {
            // Fourth-order central differences: error below 1e-8 of the scale here.
            let g = |k: f64| f.value(k.mul_add(h, t));
            let first = (8.0 * (g(1.0) - g(-1.0)) - (g(2.0) - g(-2.0))) / (12.0 * h);
            let second =
                (16.0 * (g(1.0) + g(-1.0)) - (g(2.0) + g(-2.0)) - 30.0 * g(0.0)) / (12.0 * h * h);
            let [value, d1, d2] = f.jet_at(t);
            let scale = value.abs().max(d1.abs()).max(d2.abs()).max(1.0);
            assert!(
                (first - d1).abs() <= 3e-6 * scale,
                "{text} at {t}: {first} {d1}"
            );
            assert!(
                (second - d2).abs() <= 3e-5 * scale,
                "{text} at {t}: {second} {d2}"
            );
        }
    }
}

#[test]
fn a_kink_takes_the_derivative_of_its_left_piece_and_abs_takes_zero() {
    for (text, derivative) in [
        ("relu(t)", 0.0),
        ("abs(t)", 0.0),
        ("max(t, 0)", 0.0),
        ("min(t, 0)", 1.0),
        ("sign(t)", 0.0),
        ("max(t, 0.1*t)", 0.1),
    ] {
        assert_eq!(formula(text).first(0.0), derivative, "{text}");
    }
}

#[test]
fn kinks_are_where_the_first_derivative_jumps_and_nowhere_else() {
    let positions = |text: &str| -> Vec<f64> {
        let f = formula(text);
        f.kinks()
            .iter()
            .map(|k| k.position.unwrap_or(f64::NAN))
            .collect()
    };
    assert_eq!(positions("relu(t)"), [0.0]);
    assert_eq!(positions("abs(2*t - 3)"), [1.5]);
    assert_eq!(positions("sign(t)"), [0.0]);
    assert_eq!(positions("max(t, 0.1*t)"), [0.0]);
    assert_eq!(positions("relu(t) + relu(-t)"), [0.0, 0.0]);
    assert_eq!(positions("min(max(t, 0), 6)").len(), 2);
    assert_eq!(positions("abs(t^2 - 1)").len(), 1);
    assert_eq!(positions("relu(sin(t))").len(), 1);
    for smooth in [
        "tanh(t)",
        "t / (1 + abs(t))",
        "t * abs(t)",
        "relu(t)^2",
        "relu(3*t + 1)^3",
        "relu(t) - relu(-t)",
        "abs(tanh(t)) * tanh(t)",
        "max(t, 0)^2",
        "relu(2) * t",
        "abs(t - t) + t",
        "softplus(t)",
    ] {
        assert_eq!(formula(smooth).kinks(), [], "{smooth}");
    }
}

#[test]
fn a_kinks_slope_turns_its_argument_into_a_distance() {
    let f = formula("relu(4*t - 2)");
    let kink = f.kinks()[0];
    let mut values = Vec::new();
    evaluate(&f.derivatives().nodes, 0.75, &mut values);
    assert_eq!(values[kink.argument] / values[kink.slope], 0.25);
}

#[test]
fn subexpressions_are_shared_between_value_and_derivatives() {
    let jet = formula("exp(tanh(t)) * tanh(t)").derivatives().clone();
    let count = |wanted: Function| {
        let is = |n: &&Node| matches!(n, Node::Unary(Unary::Function(f), _) if *f == wanted);
        jet.nodes.iter().filter(is).count()
    };
    assert_eq!((count(Function::Tanh), count(Function::Exp)), (1, 1));
    for (i, node) in jet.nodes.iter().enumerate() {
        let earlier = match *node {
            Node::Number(_) | Node::Variable => true,
            Node::Unary(_, a) => a < i,
            Node::Binary(_, a, b) => a < i && b < i,
            Node::Select {
                over,
                positive,
                otherwise,
            } => over < i && positive < i && otherwise < i,
        };
        assert!(earlier, "node {i} of {} uses a later one", jet.nodes.len());
        assert!(!jet.nodes[..i].contains(node), "node {i} stands twice");
    }
}

#[test]
fn derivatives_of_polynomials_are_simplified() {
    let jet = formula("t^2").derivatives().clone();
    assert_eq!(jet.nodes[jet.second], Node::Number(2.0));
    let jet = formula("3*t + 1").derivatives().clone();
    assert_eq!(jet.nodes[jet.first], Node::Number(3.0));
    assert_eq!(jet.nodes[jet.second], Node::Number(0.0));
}

#[test]
fn formulas_are_equal_when_their_trees_are() {
    assert_eq!(formula("t+1"), formula(" ( t ) + 1.0 "));
    assert_eq!(formula("-1 * t"), formula("-(1) * t"));
    assert_eq!(formula("pi*t"), formula("3.141592653589793*t"));
    assert_ne!(formula("t+1"), formula("1+t"));
    assert_eq!(formula(" t + 1 ").source(), "t + 1");
}

#[test]
fn a_nan_goes_through_every_function() {
    for text in [
        "relu(t)",
        "abs(t)",
        "sign(t)",
        "min(t, 0)",
        "min(0, t)",
        "max(t, 0)",
        "max(0, t)",
    ] {
        assert!(formula(text).value(f64::NAN).is_nan(), "{text}");
    }
}

#[test]
fn each_mistake_says_where_it_is_and_how_to_go_on() {
    for (text, span, message, help) in [
        ("", 0..0, "the formula is empty", None),
        (
            "t +",
            3..3,
            "expected a number, `t`, a function or `(`, the formula ends here",
            None,
        ),
        (
            "2t",
            1..2,
            "expected an operator, found `t`",
            Some("a product needs its `*`: write `2 * t`, not `2t`"),
        ),
        (
            "t**2",
            2..3,
            "expected a number, `t`, a function or `(`, found `*`",
            Some("a power is written `t^2`"),
        ),
        ("(t + 1", 0..1, "this parenthesis is never closed", None),
        ("t + 1)", 5..6, "this parenthesis was never opened", None),
        (
            "tanhh(t)",
            0..5,
            "unknown name `tanhh`",
            Some("did you mean `tanh`?"),
        ),
        ("x + 1", 0..1, "unknown name `x`", Some("did you mean `t`?")),
        (
            "ln(t)",
            0..2,
            "unknown name `ln`",
            Some("did you mean `log`?"),
        ),
        ("t(2)", 0..1, "`t` is no function", Some("write `t * (…)`")),
        ("sin t", 0..3, "`sin` is a function: write `sin(…)`", None),
        ("max(t)", 0..6, "`max` takes 2 arguments, 1 given", None),
        ("exp(t, 2)", 0..9, "`exp` takes 1 argument, 2 given", None),
        (
            "t − 1",
            2..5,
            "`−` has no meaning in a formula",
            Some("write the minus as `-`"),
        ),
        (
            "1e999",
            0..5,
            "`1e999` is too large for a 64-bit float",
            None,
        ),
        (".", 0..1, "`.` is not a number", None),
    ] {
        let help = help.map(str::to_string);
        assert_eq!(mistake(text), (span, message.to_string(), help), "{text}");
    }
}

#[test]
fn formulas_beyond_the_limits_are_refused() {
    let deep = format!("{}t{}", "(".repeat(500), ")".repeat(500));
    assert_eq!(Formula::parse(&deep).unwrap_err().problem, Problem::TooDeep);
    let signs = format!("{}t", "-".repeat(500));
    assert_eq!(
        Formula::parse(&signs).unwrap_err().problem,
        Problem::TooDeep
    );
    let wide = vec!["t"; 500].join("+");
    assert_eq!(
        Formula::parse(&wide).unwrap_err().problem,
        Problem::TooManyTerms
    );
    let long = format!("t{}", " ".repeat(3_000));
    assert_eq!(
        Formula::parse(&long).unwrap_err().problem,
        Problem::TooLong { bytes: 3_001 }
    );
}

#[test]
fn the_largest_formula_still_has_a_small_jet() {
    let powers = format!("t{}", "^t".repeat(MAX_DEPTH));
    let quotients = vec!["tanh(t)"; 85].join("/");
    for text in [powers, quotients] {
        let nodes = formula(&text).derivatives().nodes.len();
        assert!(nodes < 20_000, "{nodes} nodes");
    }
}

fn any_formula() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        3 => Just("t".to_string()),
        1 => (-3.0..3.0f64).prop_map(|x| format!("{x:.3}")),
        1 => Just("pi".to_string()),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            (
                inner.clone(),
                prop::sample::select(vec!["+", "-", "*", "/", "^"]),
                inner.clone()
            )
                .prop_map(|(a, o, b)| format!("({a}){o}({b})")),
            (
                prop::sample::select(Function::NAMED.to_vec()),
                inner.clone()
            )
                .prop_map(|((name, _), a)| format!("{name}({a})")),
            (
                prop::sample::select(FunctionOfTwo::NAMED.to_vec()),
                inner.clone(),
                inner
            )
                .prop_map(|((name, _), a, b)| format!("{name}({a},{b})")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_formula_or_a_mistake_inside_it(text in ".{0,60}") {
        if let Err(e) = Formula::parse(&text) {
            prop_assert!(e.span.start <= e.span.end && e.span.end <= text.len());
            prop_assert!(text.is_char_boundary(e.span.start));
            prop_assert!(text.is_char_boundary(e.span.end));
        }
    }

    #[test]
    fn derivatives_agree_with_differences_wherever_the_formula_is_tame(
        text in any_formula(),
        t in -2.0..2.0f64,
    ) {
        let f = formula(&text);
        let h = 1.0 / 4096.0;
        let around: Vec<[f64; 3]> =
            [-2.0, -1.0, 0.0, 1.0, 2.0f64].iter().map(|k| f.jet_at(k.mul_add(h, t))).collect();
        // Tame: finite, moderate, and the derivatives nearly constant around t.
        // A kink between the points would be no contradiction.
        let tame = f.kinks().is_empty()
            && around.iter().flatten().all(|x| x.is_finite() && x.abs() < 1e3)
            && around.windows(2).all(|w| (w[0][2] - w[1][2]).abs() < 0.02 * (1.0 + w[0][2].abs()));
        prop_assume!(tame);
        for order in 0..2 {
            let difference = (8.0 * (around[3][order] - around[1][order])
                - (around[4][order] - around[0][order])) / (12.0 * h);
            let scale = around.iter().flatten().fold(1.0f64, |m, x| m.max(x.abs()));
            let exact = around[2][order + 1];
            prop_assert!(
                (difference - exact).abs() <= 1e-3 * scale,
                "{text} at {t}, order {order}: {difference} against {exact}"
            );
        }
    }
}

#[test]
fn one_sided_jets_are_the_limits_from_either_side() {
    for (source, positions) in [
        ("relu(t)", vec![0.0]),
        ("abs(2*t - 3)", vec![1.5]),
        ("max(t, 0.1*t) + relu(1 - t)^2", vec![0.0]),
        ("min(max(t, -1), 1)", vec![-1.0, 1.0]),
        ("relu(t) - relu(-t) + abs(t - 2)*exp(t)", vec![2.0]),
        ("relu(-t) * 3 + sin(t)", vec![0.0]),
    ] {
        let formula = Formula::parse(source).unwrap();
        let jets = formula.one_sided_jets();
        let found: Vec<f64> = jets.iter().map(|k| k.position).collect();
        assert_eq!(found, positions, "{source}");
        for jet in jets {
            let e = 1e-9;
            for (side, at) in [(jet.left, jet.position - e), (jet.right, jet.position + e)] {
                let near = formula.jet_at(at);
                for (a, b) in side.iter().zip(near) {
                    assert!(
                        (a - b).abs() <= 1e-6 * a.abs().max(1.0),
                        "{source} at {at}: {a} {b}"
                    );
                }
            }
        }
    }
}
