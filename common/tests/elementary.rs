//! The elementary functions against correctly rounded values.
//!
//! `golden/elementary.csv` holds arguments and values as the bits of doubles,
//! the values computed with 300 bits and rounded once (mpmath 1.3). Set
//! `ELEMENTARY_GOLDEN` to check a larger table of the same form.

use common::dispatch;
use common::math::{CpuLevel, Isa, elementary as e, scalar, simd::Simd};

/// Largest allowed distance, in units in the last place.
fn allowed(name: &str) -> u64 {
    match name {
        "exp" | "ln" | "sin" | "cos" => 1,
        "sigmoid" => 3,
        "erfc" => 4,
        _ => 2,
    }
}

fn ulps(a: f64, b: f64) -> u64 {
    let key = |x: f64| {
        let bits = x.to_bits().cast_signed();
        if bits < 0 { i64::MIN - bits } else { bits }
    };
    key(a).abs_diff(key(b))
}

fn function(name: &str) -> fn(f64) -> f64 {
    match name {
        "exp" => scalar::exp,
        "expm1" => scalar::expm1,
        "ln" => scalar::ln,
        "log1p" => scalar::log1p,
        "tanh" => scalar::tanh,
        "sigmoid" => scalar::sigmoid,
        "softplus" => scalar::softplus,
        "sin" => scalar::sin,
        "cos" => scalar::cos,
        "atan" => scalar::atan,
        "erf" => scalar::erf,
        "erfc" => scalar::erfc,
        other => panic!("unknown function {other}"),
    }
}

#[test]
fn every_function_stays_within_its_stated_error() {
    let path = std::env::var("ELEMENTARY_GOLDEN").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/elementary.csv").into()
    });
    let table = std::fs::read_to_string(path).unwrap();
    let mut worst = std::collections::BTreeMap::<String, (u64, f64)>::new();
    for line in table.lines() {
        let [name, x, y] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        let number = |hex| f64::from_bits(u64::from_str_radix(hex, 16).unwrap());
        let (x, want) = (number(x), number(y));
        let got = function(name)(x);
        let distance = ulps(got, want);
        let entry = worst.entry(name.into()).or_default();
        if distance > entry.0 {
            *entry = (distance, x);
        }
    }
    println!("largest distances (ulp, argument): {worst:#?}");
    for (name, (distance, x)) in &worst {
        assert!(
            *distance <= allowed(name),
            "{name}({x:e}) is {distance} ulp off"
        );
    }
    assert_eq!(worst.len(), 12, "the table covers all functions");
}

#[test]
fn special_arguments_give_the_values_of_ieee_754() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let cases: &[(&str, f64, f64)] = &[
        ("exp", inf, inf),
        ("exp", -inf, 0.0),
        ("exp", nan, nan),
        ("exp", 0.0, 1.0),
        ("exp", 800.0, inf),
        ("exp", -800.0, 0.0),
        ("expm1", 0.0, 0.0),
        ("expm1", -0.0, -0.0),
        ("expm1", inf, inf),
        ("expm1", -inf, -1.0),
        ("expm1", nan, nan),
        ("ln", 0.0, -inf),
        ("ln", -1.0, nan),
        ("ln", inf, inf),
        ("ln", 1.0, 0.0),
        ("ln", nan, nan),
        ("log1p", -1.0, -inf),
        ("log1p", -2.0, nan),
        ("log1p", inf, inf),
        ("log1p", 0.0, 0.0),
        ("log1p", -0.0, -0.0),
        ("log1p", nan, nan),
        ("tanh", inf, 1.0),
        ("tanh", -inf, -1.0),
        ("tanh", nan, nan),
        ("tanh", 0.0, 0.0),
        ("sigmoid", inf, 1.0),
        ("sigmoid", -inf, 0.0),
        ("sigmoid", nan, nan),
        ("sigmoid", 0.0, 0.5),
        ("softplus", inf, inf),
        ("softplus", -inf, 0.0),
        ("softplus", nan, nan),
        ("sin", 0.0, 0.0),
        ("sin", -0.0, -0.0),
        ("sin", inf, nan),
        ("sin", nan, nan),
        ("cos", 0.0, 1.0),
        ("cos", -inf, nan),
        ("cos", nan, nan),
        ("atan", inf, std::f64::consts::FRAC_PI_2),
        ("atan", 0.0, 0.0),
        ("atan", -0.0, -0.0),
        ("atan", nan, nan),
        ("erf", inf, 1.0),
        ("erf", -inf, -1.0),
        ("erf", nan, nan),
        ("erf", 0.0, 0.0),
        ("erfc", inf, 0.0),
        ("erfc", -inf, 2.0),
        ("erfc", nan, nan),
        ("erfc", 0.0, 1.0),
    ];
    for &(name, x, want) in cases {
        let got = function(name)(x);
        assert!(same(got, want), "{name}({x}) = {got}, not {want}");
    }
}

/// All vector functions at once, on eight arguments.
#[inline(always)]
fn all<S: Simd>(s: S, x: &[f64; 8]) -> Vec<[f64; 8]> {
    let v = s.load(x);
    let (sin, cos) = e::sin_cos(s, v);
    [
        e::exp(s, v),
        e::expm1(s, v),
        e::ln(s, v),
        e::log1p(s, v),
        e::tanh(s, v),
        e::sigmoid(s, v),
        e::softplus(s, v),
        sin,
        cos,
        e::atan(s, v),
        e::erf(s, v),
        e::erfc(s, v),
        e::pow(s, s.abs(v), v),
    ]
    .map(|y| s.to_array(y))
    .to_vec()
}

#[test]
fn every_cpu_level_gives_the_same_bits() {
    let levels: Vec<Isa> = CpuLevel::ALL
        .into_iter()
        .filter_map(|l| Isa::new(l).ok())
        .collect();
    let mut state = 1u64;
    let mut checked = 0;
    for round in 0..2000 {
        let x: [f64; 8] = std::array::from_fn(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            match round % 4 {
                0 => f64::from_bits(state),
                1 => (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0,
                2 => ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 60.0,
                _ => ((state >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 3e6,
            }
        });
        let arguments = &x;
        let results: Vec<_> = levels
            .iter()
            .map(|&isa| dispatch!(isa => Vec<[f64; 8]>, all, arguments: &[f64; 8]))
            .collect();
        for r in &results[1..] {
            for (f, (a, b)) in results[0].iter().zip(r).enumerate() {
                for i in 0..8 {
                    let equal =
                        a[i].to_bits() == b[i].to_bits() || (a[i].is_nan() && b[i].is_nan());
                    assert!(
                        equal,
                        "function {f} at {:e}: {:e} against {:e}",
                        x[i], a[i], b[i]
                    );
                    checked += 1;
                }
            }
        }
    }
    assert!(levels.len() == 1 || checked > 0);
}
