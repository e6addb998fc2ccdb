use common::math::Isa;
use common::rng::{Philox, Purpose};
use common::spec::{Activation, Body, Loss, Regularizer, Skip};
use engine::linalg::multiply;
use engine::objective::*;
use engine::optimize::*;
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
fn drive(o: &mut Objective, opt: &mut dyn Optimizer, limit: u64) -> Stop {
    let n = o.len();
    let mut g = vec![0.0; n];
    loop {
        if o.work.evaluations > limit {
            return Stop::IterationLimit;
        }
        match opt.ask() {
            Ask::Nothing(s) => return s,
            Ask::Gradient(x) => {
                let f = o.value_gradient(x, &mut g);
                opt.tell_gradient(f, &g);
            }
            Ask::Linearize(x) => {
                let f = o.linearize(x, &mut g);
                opt.tell_gradient(f, &g);
            }
            Ask::Product(v) => {
                let mut out = vec![0.0; n];
                o.products(v, &mut out);
                opt.tell_product(&out);
            }
            Ask::Hessian => {
                let mut h = vec![0.0; n * n];
                o.hessian(&mut h);
                opt.tell_hessian(h);
            }
        }
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let filter = args.get(1).cloned().unwrap_or_default();
    let switch: f64 = args.get(2).map_or(1e-6, |s| s.parse().unwrap());
    let maxit: u64 = args.get(3).map_or(20000, |s| s.parse().unwrap());
    let n = 100;
    let acts: Vec<&str> = vec![
        "tanh",
        "softplus",
        "gelu",
        "sin",
        "sigmoid",
        "silu",
        "identity",
        "quadratic",
    ];
    for (name, body, depth) in [
        ("mlp2", Body::Mlp, 2),
        ("mlp8", Body::Mlp, 8),
        ("preact2", Body::Preact, 2),
        ("preact8", Body::Preact, 8),
        ("preact16", Body::Preact, 16),
    ] {
        if !name.contains(&filter) || (filter.len() > 3 && name != filter) {
            continue;
        }
        let (mut total, mut ok, mut trivial) = (0, 0, 0);
        let mut times = vec![];
        let mut it1 = vec![];
        let mut it2 = vec![];
        let mut grads = vec![];
        let nseeds: u64 = args.get(4).map_or(3, |s| s.parse().unwrap());
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
                        let mut q = vec![0.0; problem.program_len()];
                        Objective::to_program(&problem, &theta, &mut q);
                        let t0 = Instant::now();
                        let mut o = Objective::new(&problem, Chart::Head, None, Isa::current(), 1);
                        let chunk: u64 = 500;
                        let mut left = maxit;
                        let mut scale_v = vec![1.0; q.len()];
                        let mut x0 = q;
                        let mut l;
                        let mut rescales = 0;
                        loop {
                            let dz = 3;
                            let yy: Vec<f64> = y.iter().copied().collect();
                            let rms_of = |z: &[f64]| -> f64 {
                                (z.iter().map(|v| v * v).sum::<f64>() / n as f64).sqrt()
                            };
                            let mut z = o.evaluator().representation(&x0);
                            let chunks_done = (maxit - left) / chunk;
                            if (rms_of(&z) > 30.0 || chunks_done >= 2)
                                && std::env::var("NORAY").is_err()
                            {
                                let mut best: Option<(f64, Vec<f64>)> = None;
                                let mut g = vec![0.0; x0.len()];
                                let f0 = o.value_gradient(&x0, &mut g);
                                let mut c = 1.0;
                                let mut worse = 0;
                                for _ in 0..16 {
                                    let mut x1 = x0.clone();
                                    for v in &mut x1[16..] {
                                        *v *= c;
                                    }
                                    let z = o.evaluator().representation(&x1);
                                    let mut psi = vec![];
                                    for i in 0..n {
                                        for j in 0..5 {
                                            psi.push(phi[[i, j]]);
                                        }
                                        psi.extend_from_slice(&z[i * dz..][..dz]);
                                    }
                                    let sol = engine::linear::LinearProblem {
                                        features: &psi,
                                        width: 8,
                                        targets: &yy,
                                        mask: None,
                                        outputs: 2,
                                        loss,
                                        ridge: 1e-3,
                                        classes: None,
                                    }
                                    .solve(Isa::current(), None);
                                    for k in 0..2 {
                                        for j in 0..5 {
                                            x1[k * 5 + j] = sol.r[k * 8 + j];
                                        }
                                        for j in 0..3 {
                                            x1[10 + k * 3 + j] = sol.r[k * 8 + 5 + j];
                                        }
                                    }
                                    let f = sol.value
                                        + 0.5e-3 * x1[16..].iter().map(|v| v * v).sum::<f64>();
                                    if best.as_ref().is_none_or(|b| f < b.0) {
                                        best = Some((f, x1));
                                        worse = 0;
                                    } else {
                                        worse += 1;
                                    }
                                    if worse >= 2 {
                                        break;
                                    }
                                    c *= 0.7;
                                }
                                let (f, x1) = best.unwrap();
                                if std::env::var("V").is_ok() {
                                    println!("ray {f0} -> {f}");
                                }
                                if f < f0 {
                                    x0 = x1;
                                    z = o.evaluator().representation(&x0);
                                }
                            }
                            let mut want = vec![1.0; x0.len()];
                            for j in 0..dz {
                                let mut s = 0.0;
                                for i in 0..n {
                                    s += z[i * dz + j] * z[i * dz + j];
                                }
                                let rms = (s / n as f64).sqrt().clamp(1.0, 1e100);
                                for k in 0..2 {
                                    want[10 + k * dz + j] = rms;
                                }
                            }
                            let far = want
                                .iter()
                                .zip(&scale_v)
                                .any(|(a, b)| a / b > 10.0 || b / a > 10.0);
                            if far && std::env::var("NOSCALE").is_err() {
                                scale_v = want;
                                rescales += 1;
                            }
                            let y0: Vec<f64> =
                                x0.iter().zip(&scale_v).map(|(x, s)| x * s).collect();
                            l = lbfgs::Lbfgs::new(
                                y0,
                                lbfgs::Settings {
                                    memory: 20,
                                    gradient: switch,
                                    iterations: chunk.min(left),
                                    bound: 1e100,
                                },
                            );
                            let mut g = vec![0.0; x0.len()];
                            let mut xx = vec![0.0; x0.len()];
                            while let Ask::Gradient(y) = l.ask() {
                                for i in 0..xx.len() {
                                    xx[i] = y[i] / scale_v[i];
                                }
                                let f = o.value_gradient(&xx, &mut g);
                                for i in 0..xx.len() {
                                    g[i] /= scale_v[i];
                                }
                                l.tell_gradient(f, &g);
                            }
                            for i in 0..xx.len() {
                                x0[i] = l.point()[i] / scale_v[i];
                            }
                            left -= chunk.min(left);
                            if l.stop() != Some(Stop::IterationLimit) || left == 0 {
                                break;
                            }
                        }
                        let _ = rescales;
                        let g1 = o.work.gradients;
                        let mut a = arc::Arc::new(
                            x0.clone(),
                            arc::Settings {
                                gradient: 3e-11,
                                curvature: 1e-9,
                                iterations: 1000,
                                bound: 1e10,
                            },
                        );
                        let s2 = drive(
                            &mut o,
                            &mut a,
                            std::env::var("LIMIT").map_or(200000, |s| s.parse().unwrap()),
                        );
                        let dt = t0.elapsed().as_secs_f64();
                        let good = max_abs(a.gradient()) <= 1e-9;
                        total += 1;
                        line.1 += 1;
                        let un: f64 = a.point()[16..].iter().map(|v| v * v).sum::<f64>().sqrt();
                        if good {
                            ok += 1;
                            line.0 += 1;
                            times.push(dt);
                            it1.push(l.iterations() as f64);
                            it2.push(o.work.hessians as f64);
                            grads.push(g1 as f64);
                            if un < 1e-3 {
                                trivial += 1;
                            }
                        } else if args.len() > 5 {
                            println!(
                                "   miss {name} {an} {} seed {seed} scale {scale}: lbfgs {:?} it {} |g| {:.1e}; arc {:?} it {} |g| {:.1e} f {:.6} eig {:?} work {:?}",
                                loss.name(),
                                l.stop(),
                                l.iterations(),
                                max_abs(l.gradient()),
                                s2,
                                a.iterations(),
                                max_abs(a.gradient()),
                                a.value(),
                                a.extreme_eigenvalues(),
                                o.work.evaluations
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
            "\n{name}: {ok}/{total} trivial {trivial} time med/max {:.4?}s  lbfgs {:?} hessians {:?} gradients {:?}",
            med(&mut times),
            med(&mut it1),
            med(&mut it2),
            med(&mut grads)
        );
    }
    let _ = multiply;
}
use common::math::slice::max_abs;
