use common::math::Isa;
use common::rng::{Philox, Purpose};
use common::spec::{Activation, Body, Loss, Regularizer, Skip};
use engine::objective::*;
use engine::program::BodyDims;
use ndarray::Array2;
use std::time::Instant;

fn dims(body: Body, act: Activation, depth: usize, width: usize) -> BodyDims {
    BodyDims {
        body,
        skip: Skip::Outer,
        depth,
        width,
        bottleneck: 0,
        cardinality: 0,
        activation: act,
        inputs: 4,
        image: None,
        phi: 5,
        outputs: 2,
        table: 0,
    }
}
fn start(d: &BodyDims, seed: u64, scale: f64) -> Vec<f64> {
    let r = Philox::new(seed);
    let mut t = vec![];
    let mut put = |p: Purpose, l: usize, rows: usize, cols: usize, s: f64| {
        for i in 0..rows {
            for j in 0..cols {
                t.push(s * r.normal(p, l as u32, i as u32, j as u32));
            }
        }
    };
    let z = d.width;
    put(
        Purpose::OutputWeight,
        0,
        d.outputs,
        d.phi,
        1.0 / (d.phi as f64).sqrt(),
    );
    put(Purpose::SkipWeight, 0, d.phi, z, 1.0 / (z as f64).sqrt());
    let m = d.width;
    match d.body {
        Body::Mlp | Body::Residual => {
            let mut fan = d.inputs;
            for l in 1..=d.depth {
                put(Purpose::LayerWeight, l, m, fan, scale / (fan as f64).sqrt());
                put(Purpose::LayerBias, l, m, 1, 0.1 * scale);
                fan = m;
            }
        }
        Body::Preact => {
            put(
                Purpose::LayerWeight,
                0,
                m,
                d.inputs,
                scale / (d.inputs as f64).sqrt(),
            );
            put(Purpose::LayerBias, 0, m, 1, 0.1 * scale);
            for l in 1..=d.depth {
                put(Purpose::BlockInWeight, l, m, m, scale / (m as f64).sqrt());
                put(Purpose::BlockInBias, l, m, 1, 0.1 * scale);
                put(
                    Purpose::BlockOutWeight,
                    l,
                    m,
                    m,
                    scale / (m as f64).sqrt() / (d.depth as f64).sqrt(),
                );
            }
        }
        _ => unreachable!(),
    }
    t
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let filter = args.get(1).cloned().unwrap_or_default();
    let nseeds: u64 = args.get(2).map_or(3, |s| s.parse().unwrap());
    let verbose = args.len() > 3;
    let n = 100;
    let only = std::env::var("ACT").ok();
    let acts: Vec<&str> = match &only {
        Some(a) => a.split(',').collect(),
        None => vec![
            "tanh",
            "softplus",
            "gelu",
            "sin",
            "sigmoid",
            "silu",
            "identity",
            "quadratic",
        ],
    };
    for (name, body, depth) in [
        ("mlp1", Body::Mlp, 1),
        ("mlp2", Body::Mlp, 2),
        ("mlp8", Body::Mlp, 8),
        ("preact1", Body::Preact, 1),
        ("preact2", Body::Preact, 2),
        ("preact8", Body::Preact, 8),
        ("preact16", Body::Preact, 16),
    ] {
        if !filter.split(',').any(|f| f == name) {
            continue;
        }
        let (mut total, mut ok, mut trivial, mut at_base) = (0, 0, 0, 0);
        let mut times = vec![];
        let mut grads = vec![];
        let mut hess = vec![];
        for an in &acts {
            let act = Activation::NAMED
                .iter()
                .find(|a| a.0 == *an)
                .unwrap()
                .1
                .clone();
            let mut line = (0, 0);
            for loss in [
                Loss::Squared,
                Loss::CrossEntropy,
                Loss::Huber { delta: 1.0 },
            ] {
                for seed in 0..nseeds {
                    for scale in [0.1, 1.0, 3.0] {
                        let data = Philox::new(100);
                        let x = Array2::from_shape_fn((n, 4), |(i, j)| {
                            data.normal(Purpose::DataInput, 0, i as u32, j as u32)
                        });
                        let mut phi = x.clone();
                        phi.push_column(ndarray::Array1::ones(n).view()).unwrap();
                        let td = dims(Body::Mlp, Activation::Tanh, 1, 3);
                        let tt = start(&td, 0, 1.0);
                        let mut y = Array2::zeros((n, 2));
                        for i in 0..n {
                            let (w, v, a, b) = (&tt[0..10], &tt[10..25], &tt[25..37], &tt[37..40]);
                            let mut z = [0.0; 3];
                            for k in 0..3 {
                                let mut t = b[k];
                                for j in 0..4 {
                                    t += a[k * 4 + j] * x[[i, j]];
                                }
                                z[k] = common::math::scalar::tanh(t);
                            }
                            for o in 0..2 {
                                let mut s = 0.0;
                                for j in 0..5 {
                                    let mut pz = phi[[i, j]];
                                    for k in 0..3 {
                                        pz += v[j * 3 + k] * z[k];
                                    }
                                    s += w[o * 5 + j] * pz;
                                }
                                y[[i, o]] = s + 0.1
                                    * data.normal(Purpose::DataNoise, 0, i as u32, o as u32);
                            }
                        }
                        if loss == Loss::CrossEntropy {
                            for i in 0..n {
                                let c = if y[[i, 0]] > y[[i, 1]] { 0 } else { 1 };
                                y[[i, c]] = 1.0;
                                y[[i, 1 - c]] = 0.0;
                            }
                        } else {
                            for o in 0..2 {
                                let m = y.column(o).mean().unwrap();
                                let sd = (y.column(o).mapv(|v| (v - m) * (v - m)).mean().unwrap())
                                    .sqrt();
                                y.column_mut(o).mapv_inplace(|v| (v - m) / sd);
                            }
                        }
                        let d = dims(body.clone(), act.clone(), depth, 3);
                        let problem = Problem::new(
                            &d,
                            loss,
                            Regularizer::default(),
                            Arrays {
                                x: x.view(),
                                phi: phi.view(),
                                y: y.view(),
                                mask: None,
                                table: None,
                            },
                        );
                        let theta = start(&d, seed, scale);
                        let pf: Vec<f64> = phi.iter().copied().collect();
                        let yf: Vec<f64> = y.iter().copied().collect();
                        let linear = engine::linear::LinearProblem {
                            features: &pf,
                            width: 5,
                            targets: &yf,
                            mask: None,
                            outputs: 2,
                            loss,
                            ridge: 1e-3,
                            classes: None,
                            free: &[],
                        };
                        let base = engine::baseline::solve(&linear, Isa::current());
                        let setup = engine::run::Setup {
                            method: common::spec::Optimizer::Auto,
                            polish: true,
                            budget: common::spec::Budget {
                                evaluations: std::env::var("LIMIT")
                                    .map_or(200_000, |s| s.parse().unwrap()),
                                seconds: None,
                            },
                            tolerances: Default::default(),
                            baseline: Some(&base),
                            linear,
                            frozen: false,
                            stay_in_theta: false,
                            seed,
                        };
                        let t0 = Instant::now();
                        let mut run =
                            engine::run::Run::new(&problem, setup, theta, Isa::current(), 1);
                        let engine::run::Progress::Finished(f) = run.advance(&mut || false) else {
                            unreachable!()
                        };
                        let dt = t0.elapsed().as_secs_f64();
                        let e = &f.evidence;
                        total += 1;
                        line.1 += 1;
                        times.push(dt);
                        if e.outcome == common::record::Outcome::CertifiedMinimum {
                            ok += 1;
                            line.0 += 1;
                            grads.push(e.gradients as f64);
                            hess.push(e.hessians as f64);
                            if e.norm_u < 1e-3 {
                                trivial += 1;
                            }
                            if (e.value - base.value).abs() < 1e-9 {
                                at_base += 1;
                            }
                            assert!(e.value <= base.value + 1e-9);
                        } else if verbose {
                            println!(
                                "   miss {name} {an} {} seed {seed} scale {scale}: {:?} f {:.9} |g| {:.1e} eig {:?} newton {:?} work {} ({} g {} h) {:.3}s refuted {}",
                                loss.name(),
                                e.outcome,
                                e.objective,
                                e.gradient_norm,
                                e.min_eigenvalue.zip(e.max_eigenvalue),
                                e.newton_step,
                                e.evaluations,
                                e.gradients,
                                e.hessians,
                                dt,
                                e.refuted
                            );
                        }
                    }
                }
            }
            print!("{an} {}/{}  ", line.0, line.1);
        }
        let med = |v: &mut Vec<f64>| {
            v.sort_by(f64::total_cmp);
            if v.is_empty() {
                (0.0, 0.0)
            } else {
                (v[v.len() / 2], v[v.len() - 1])
            }
        };
        println!(
            "\n{name}: {ok}/{total} = {:.1}% trivial {trivial} at baseline {at_base} time med/max {:.4?}s gradients {:?} hessians {:?}",
            100.0 * ok as f64 / total as f64,
            med(&mut times),
            med(&mut grads),
            med(&mut hess)
        );
    }
}
