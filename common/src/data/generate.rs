//! Drawn data, CONTRACT §2.
//!
//! x is Gaussian, x_ij ~ N(0, 1), unless the family says otherwise; every
//! target gets noise·ε, ε ~ N(0, 1). Parameters not listed are not read.
//!
//! | family | targets | its own number, default, range | source |
//! |---|---|---|---|
//! | `teacher` | f(x) = W (φ + V z(x; u)), φ = (x, 1), θ a standard start at scale 1 | – | Shamir 2018; Du & Lee 2018; Brutzkus & Globerson 2017 (`conv`) |
//! | `linear` | f_k(x) = β_kᵀx, β ~ N(0, 1/d) | – | Kawaguchi 2016; Laurent & von Brecht 2018 |
//! | `polynomial` | f_k(x) = Σ_{p=1}^{P} M_p^{−1/2} Σ_{monomials of degree p} c·monomial, M_p their number, c ~ N(0, 1) | `degree` P = 3, 1 to 16 | Andoni, Panigrahy, Valiant & Zhang 2014; Livni, Shalev-Shwartz & Shamir 2014 |
//! | `sawtooth` | x_ij uniform on [0, 1); f_k(x) = 2Δ^F(x_{k mod d}) − 1, Δ(t) = 1 − \|2t − 1\| folded F times | `folds` F = 3, 1 to 40 | Telgarsky 2016 |
//! | `ridge_function` | f_k(x) = sin(ω a_kᵀx + b_k), a_k a uniform direction, b_k uniform on [0, 2π): Fourier moment C_f = ω | `frequency` ω = 1, above 0 | Barron 1993 |
//! | `spirals` | K = max(2, `outputs`) classes, row i of class i mod K; at t = √u, u uniform: x = t (cos α, sin α), α = 2π(τ t + class/K), plus noise on x; further inputs N(0, 1) | `turns` τ = 1, above 0 | Lang & Witbrock 1988 |
//! | `random_labels` | f_k(x) ~ N(0, 1), independent of x | – | Zhang, Bengio, Hardt, Recht & Vinyals 2017 |
//!
//! Under a classification loss the targets f become classes: of several columns
//! the largest, of one its sign ([`TargetKind::Scores`]).
//!
//! A teacher draws its θ with a key of its own, not with the data seed itself:
//! a run of the same seed would start in the solution.

use ndarray::Array2;

use super::dataset::{Dataset, TargetKind};
use super::error::GeneratorError;
use super::features::{monomial_count, monomials};
use super::table::MAX_ENTRIES;
use crate::layout::{LayoutDims, standard_start};
use crate::math::scalar::{cos, sin};
use crate::reference::{Network, Sample};
use crate::rng::{Philox, Purpose};
use crate::spec::{Activation, Body, Features, Generator, GeneratorKind, ModelSpec, Skip, Teacher};

/// Flips the bits of a data seed to the key of its teacher: "teacher" in ASCII.
const TEACHER_KEY: u64 = 0x0074_6561_6368_6572;

/// Most monomials of a polynomial target.
const MAX_MONOMIALS: u64 = 1 << 20;

/// Largest depth, width, bottleneck and cardinality of a teacher.
const MAX_TEACHER_SIZE: usize = 4096;

/// Most multiplications that labelling by a teacher may take: minutes, not hours.
const MAX_TEACHER_WORK: u128 = 1 << 36;

/// What a grid that names only the family gets: 100 rows, 4 inputs, 1 output,
/// noise 0.1, seed 0; a teacher of 2 outputs with one tanh layer of width 3; a
/// sawtooth of 1 input without noise; 2 spirals in 2 dimensions with noise
/// 0.05; random labels without noise.
pub fn defaults(kind: GeneratorKind) -> Generator {
    let (inputs, outputs, noise) = match kind {
        GeneratorKind::Teacher => (4, 2, 0.1),
        GeneratorKind::Sawtooth => (1, 1, 0.0),
        GeneratorKind::Spirals => (2, 2, 0.05),
        GeneratorKind::RandomLabels => (4, 1, 0.0),
        GeneratorKind::Linear | GeneratorKind::Polynomial | GeneratorKind::RidgeFunction => {
            (4, 1, 0.1)
        }
    };
    Generator {
        generate: kind,
        rows: 100,
        inputs,
        outputs,
        noise,
        seed: 0,
        teacher: (kind == GeneratorKind::Teacher).then_some(Teacher {
            body: Body::Mlp,
            depth: 1,
            width: 3,
            bottleneck: 0,
            cardinality: 0,
            activation: Activation::Tanh,
        }),
        parameter: kind.parameter().map(|(_, default)| default),
    }
}

/// Draws a data set.
///
/// # Errors
/// [`GeneratorError`] for sizes and parameters outside their ranges.
pub fn generate(spec: &Generator) -> Result<Dataset, GeneratorError> {
    check(spec)?;
    let rng = Philox::new(spec.seed);
    let (n, d, k) = (spec.rows, spec.inputs, spec.outputs);
    let parameter = parameter(spec).map_or(0.0, |(_, value)| value);
    let normal =
        |purpose, row: usize, column: usize| rng.normal(purpose, 0, row as u32, column as u32);
    if spec.generate == GeneratorKind::Spirals {
        return Ok(spirals(spec, parameter, &normal));
    }
    let x = Array2::from_shape_fn((n, d), |(i, j)| match spec.generate {
        GeneratorKind::Sawtooth => rng.uniform(Purpose::DataInput, 0, i as u32, j as u32),
        _ => normal(Purpose::DataInput, i, j),
    });
    let mut image = None;
    let target: Target = match spec.generate {
        GeneratorKind::Teacher => {
            let model = teacher_model(spec)?;
            image = model.image;
            teacher(spec, &model)?
        }
        GeneratorKind::Linear => {
            let share = 1.0 / (d as f64).sqrt();
            let beta = move |k, j| share * rng.normal(Purpose::DataLabel, 0, k as u32, j as u32);
            let beta = Array2::from_shape_fn((k, d), |(k, j)| beta(k, j));
            Box::new(move |_, x| {
                beta.rows()
                    .into_iter()
                    .map(|b| dot(&b.to_vec(), x))
                    .collect()
            })
        }
        GeneratorKind::Polynomial => polynomial(spec, parameter as usize, rng),
        GeneratorKind::Sawtooth => Box::new(move |_, x| {
            let folded = |k: usize| {
                let fold = |t: f64, _| 1.0 - (2.0 * t - 1.0).abs();
                2.0 * (0..parameter as usize).fold(x[k % d], fold) - 1.0
            };
            (0..k).map(folded).collect()
        }),
        GeneratorKind::RidgeFunction => ridge_function(spec, parameter, rng),
        GeneratorKind::RandomLabels => Box::new(move |i, _| {
            let label = |k: usize| rng.normal(Purpose::DataLabel, 0, i as u32, k as u32);
            (0..k).map(label).collect()
        }),
        GeneratorKind::Spirals => unreachable!("drawn above"),
    };
    let mut y = Array2::zeros((n, k));
    for (i, row) in x.rows().into_iter().enumerate() {
        for (j, value) in target(i, &row.to_vec()).into_iter().enumerate() {
            let noise = normal(Purpose::DataNoise, i, j);
            y[[i, j]] = spec.noise.mul_add(noise, value);
            if !y[[i, j]].is_finite() {
                let value = y[[i, j]];
                return Err(GeneratorError::NonFinite { row: i + 1, value });
            }
        }
    }
    let mut set = Dataset::new(x, y, TargetKind::Scores, None);
    set.image = image;
    Ok(set)
}

/// Name and value of the family's own number, if it has one.
fn parameter(spec: &Generator) -> Option<(&'static str, f64)> {
    let (name, default) = spec.generate.parameter()?;
    Some((name, spec.parameter.unwrap_or(default)))
}

fn check(spec: &Generator) -> Result<(), GeneratorError> {
    let kind = spec.generate;
    let range = |field, value: f64, min: f64, max: f64| {
        if value >= min && value <= max {
            return Ok(());
        }
        Err(GeneratorError::Range {
            generator: kind.name(),
            field,
            value,
            min,
            max,
        })
    };
    let size = |field, value: usize, min: f64| range(field, value as f64, min, 1e9);
    size("rows", spec.rows, 1.0)?;
    size(
        "inputs",
        spec.inputs,
        if kind == GeneratorKind::Spirals {
            2.0
        } else {
            1.0
        },
    )?;
    size("outputs", spec.outputs, 1.0)?;
    range("noise", spec.noise, 0.0, f64::MAX)?;
    let entries = spec.rows as u64 * (spec.inputs as u64 + spec.outputs as u64);
    if entries > MAX_ENTRIES {
        return Err(GeneratorError::TooLarge { entries });
    }
    match (kind, parameter(spec)) {
        (GeneratorKind::Polynomial, Some((name, p))) => {
            range(name, p, 1.0, 16.0)?;
            match monomial_count(spec.inputs, p as usize) {
                Some(count) if count <= MAX_MONOMIALS => Ok(()),
                count => Err(GeneratorError::TooLarge {
                    entries: count.unwrap_or(u64::MAX),
                }),
            }
        }
        (GeneratorKind::Sawtooth, Some((name, p))) => range(name, p, 1.0, 40.0),
        (GeneratorKind::RidgeFunction | GeneratorKind::Spirals, Some((name, p))) => {
            range(name, p, f64::MIN_POSITIVE, 1e6)
        }
        _ => Ok(()),
    }
}

fn dot(a: &[f64], x: &[f64]) -> f64 {
    a.iter().zip(x).fold(0.0, |sum, (a, x)| a.mul_add(*x, sum))
}

/// The targets of a row without noise, from its position and inputs.
type Target = Box<dyn Fn(usize, &[f64]) -> Vec<f64>>;

/// The teacher as a model. A convolutional one reads square images of one
/// channel where the number of inputs is a square, else images of one line.
fn teacher_model(spec: &Generator) -> Result<ModelSpec, GeneratorError> {
    let teacher = spec.teacher.as_ref().ok_or(GeneratorError::NoTeacher)?;
    if matches!(teacher.body, Body::Table(_)) {
        return Err(GeneratorError::TableTeacher);
    }
    for (field, value) in [
        ("depth", teacher.depth),
        ("width", teacher.width),
        ("bottleneck", teacher.bottleneck),
        ("cardinality", teacher.cardinality),
    ] {
        if value > MAX_TEACHER_SIZE {
            return Err(GeneratorError::Range {
                generator: spec.generate.name(),
                field,
                value: value as f64,
                min: 1.0,
                max: MAX_TEACHER_SIZE as f64,
            });
        }
    }
    let side = spec.inputs.isqrt();
    let image = if side * side == spec.inputs {
        [side, side, 1]
    } else {
        [1, spec.inputs, 1]
    };
    Ok(ModelSpec {
        features: Features::Linear,
        intercept: true,
        body: teacher.body.clone(),
        depth: teacher.depth,
        width: teacher.width,
        bottleneck: teacher.bottleneck,
        cardinality: teacher.cardinality,
        activation: teacher.activation.clone(),
        skip: Skip::Outer,
        freeze: false,
        image: (teacher.body == Body::Conv).then_some(image),
    })
}

fn teacher(spec: &Generator, model: &ModelSpec) -> Result<Target, GeneratorError> {
    let dims = LayoutDims {
        inputs: spec.inputs,
        phi: spec.inputs + 1,
        outputs: spec.outputs,
        table: 0,
    };
    let network = Network::new(model, dims)?;
    let positions = model.image.map_or(1, |image| image[0] * image[1]);
    let work = [spec.rows, network.parameters(), positions].map(|size| size as u128);
    if work.iter().product::<u128>() > MAX_TEACHER_WORK {
        return Err(GeneratorError::TeacherTooLarge {
            parameters: network.parameters(),
            rows: spec.rows,
        });
    }
    let theta = standard_start(network.arrays(), spec.seed ^ TEACHER_KEY, 1.0);
    Ok(Box::new(move |_, x| {
        let mut phi = x.to_vec();
        phi.push(1.0);
        let sample = Sample {
            x,
            phi: &phi,
            table: &[],
        };
        network.output(&theta, sample)
    }))
}

fn polynomial(spec: &Generator, degree: usize, rng: Philox) -> Target {
    // The monomials of degree p are those up to p without those up to p − 1.
    let up_to = |p: usize| monomial_count(spec.inputs, p).map_or(0, |c| c as usize);
    let mut coefficients = Array2::zeros((spec.outputs, up_to(degree)));
    for p in 1..=degree {
        let own = up_to(p - 1)..up_to(p);
        let share = 1.0 / (own.len() as f64).sqrt();
        for k in 0..spec.outputs {
            for (j, at) in own.clone().enumerate() {
                // Addressed by degree, so a higher degree keeps the lower terms.
                let draw = rng.normal(Purpose::DataLabel, p as u32, k as u32, j as u32);
                coefficients[[k, at]] = share * draw;
            }
        }
    }
    Box::new(move |_, x| {
        let mut terms = Vec::new();
        monomials(x, degree, &mut terms);
        let rows = coefficients.rows().into_iter();
        rows.map(|c| dot(&c.to_vec(), &terms)).collect()
    })
}

fn ridge_function(spec: &Generator, frequency: f64, rng: Philox) -> Target {
    let waves: Vec<(Vec<f64>, f64)> = (0..spec.outputs as u32)
        .map(|k| {
            let draw = |j: u32| rng.normal(Purpose::DataLabel, 0, k, j);
            let direction: Vec<f64> = (0..spec.inputs as u32).map(draw).collect();
            let length = dot(&direction, &direction).sqrt();
            let scaled = direction.iter().map(|a| frequency * a / length);
            let phase = rng.uniform(Purpose::DataLabel, 1, k, 0);
            (scaled.collect(), std::f64::consts::TAU * phase)
        })
        .collect();
    Box::new(move |_, x| {
        waves
            .iter()
            .map(|(a, phase)| sin(dot(a, x) + phase))
            .collect()
    })
}

fn spirals(spec: &Generator, turns: f64, normal: &dyn Fn(Purpose, usize, usize) -> f64) -> Dataset {
    let classes = spec.outputs.max(2);
    let rng = Philox::new(spec.seed);
    let mut x = Array2::zeros((spec.rows, spec.inputs));
    let mut y = Array2::zeros((spec.rows, 1));
    for i in 0..spec.rows {
        let class = i % classes;
        // √u spreads the points evenly over the disc, not along the arm.
        let t = rng.uniform(Purpose::DataLabel, 0, i as u32, 0).sqrt();
        let share = class as f64 / classes as f64;
        let angle = std::f64::consts::TAU * turns.mul_add(t, share);
        for j in 0..spec.inputs {
            let draw = normal(Purpose::DataInput, i, j);
            x[[i, j]] = match j {
                0 => spec.noise.mul_add(draw, t * cos(angle)),
                1 => spec.noise.mul_add(draw, t * sin(angle)),
                _ => draw,
            };
        }
        y[[i, 0]] = class as f64;
    }
    Dataset::new(x, y, TargetKind::Classes { classes }, None)
}
