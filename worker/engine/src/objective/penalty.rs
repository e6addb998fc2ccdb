//! Ridge and decay in program coordinates, CONTRACT §1 "Objective".
//!
//! | skip | ridge | body decay | head decay |
//! |---|---|---|---|
//! | outer | (r/2)(‖R₁‖² + ‖R₂‖²) | (λ/2)‖u‖² | in θ only, see the parent module |
//! | none | (r/2)‖W‖² | (λ/2)‖u‖² | (h/2)‖W‖² |
//! | chain | (r/2)(‖W‖² + Σ‖W V_l‖²) | (λ/2)Σ(‖A_l‖² + ‖b_l‖²) | (h/2)(‖W‖² + Σ‖V_l‖²) |

use std::ops::Range;

use common::math::slice::{axpy, norm_squared};
use common::spec::Skip;

use super::problem::Problem;
use crate::linalg::{multiply, multiply_nt, multiply_tn};

/// One block of a chain: (A_l and b_l, V_l).
struct ChainBlock {
    body: Range<usize>,
    v: Range<usize>,
}

fn chain_blocks(p: &Problem) -> impl Iterator<Item = ChainBlock> + use<> {
    let (m, d) = (p.width, p.dims.phi);
    let first = p.dims.outputs * d;
    let (body, v) = (m * d + m, d * m);
    (0..p.depth).map(move |l| {
        let at = first + l * (body + v);
        ChainBlock {
            body: at..at + body,
            v: at + body..at + body + v,
        }
    })
}

/// The head's parameters in front of the body, in program coordinates.
fn head_len(p: &Problem) -> usize {
    let d = p.dims;
    match p.skip {
        Skip::Outer => d.outputs * (d.phi + d.z),
        Skip::None => d.outputs * (d.z + 1),
        Skip::Chain => d.outputs * d.phi,
    }
}

/// Number of parameters of the body.
pub(super) fn body_len(p: &Problem) -> usize {
    match p.skip {
        Skip::Chain => chain_blocks(p).map(|b| b.body.len()).sum(),
        _ => p.program_len() - head_len(p),
    }
}

/// Puts the body's parameters where they belong in a vector that lacks them.
pub(super) fn insert_body(p: &Problem, x: &mut Vec<f64>, body: &[f64]) {
    match p.skip {
        Skip::Chain => {
            let head = head_len(p);
            let mut rest = x.split_off(head);
            let mut u = body;
            for b in chain_blocks(p) {
                let (own, next) = u.split_at(b.body.len());
                x.extend_from_slice(own);
                u = next;
                let tail = rest.split_off(b.v.len());
                x.extend_from_slice(&rest);
                rest = tail;
            }
        }
        _ => x.extend_from_slice(body),
    }
}

/// Takes the body's entries out of a full vector.
pub(super) fn remove_body(p: &Problem, x: &mut Vec<f64>) {
    match p.skip {
        Skip::Chain => {
            let mut kept = x[..head_len(p)].to_vec();
            for b in chain_blocks(p) {
                kept.extend_from_slice(&x[b.v]);
            }
            *x = kept;
        }
        _ => x.truncate(x.len() - body_len(p)),
    }
}

/// The body's entries of a full vector (θ or program coordinates of any chart).
pub(super) fn body_of(p: &Problem, x: &[f64]) -> Vec<f64> {
    match p.skip {
        Skip::Chain => chain_blocks(p).flat_map(|b| x[b.body].to_vec()).collect(),
        _ => x[x.len() - body_len(p)..].to_vec(),
    }
}

/// Value of the penalties at `q`; adds their gradient.
pub(super) fn add(p: &Problem, q: &[f64], g: &mut [f64]) -> f64 {
    let r = p.regularizer.predictor_ridge;
    let decay = p.regularizer.body_decay;
    let d = p.dims;
    let mut total = 0.0;
    let mut square = |c: f64, range: Range<usize>, g: &mut [f64]| {
        if c != 0.0 {
            total += 0.5 * c * norm_squared(&q[range.clone()]);
            axpy(c, &q[range.clone()], &mut g[range]);
        }
    };
    match p.skip {
        Skip::Outer => {
            let head = head_len(p);
            square(r, 0..head, g);
            square(decay, head..q.len(), g);
        }
        Skip::None => {
            let w = d.outputs * d.z;
            square(r + p.regularizer.head_decay, 0..w, g);
            square(decay, head_len(p)..q.len(), g);
        }
        Skip::Chain => {
            let w_len = d.outputs * d.phi;
            square(r + p.regularizer.head_decay, 0..w_len, g);
            for b in chain_blocks(p) {
                square(decay, b.body, g);
                square(p.regularizer.head_decay, b.v, g);
            }
            if r != 0.0 {
                let w = &q[..w_len];
                let mut product = vec![0.0; d.outputs * p.width];
                for b in chain_blocks(p) {
                    let v = &q[b.v.clone()];
                    multiply(w, v, &mut product, d.outputs, d.phi, p.width, false);
                    total += 0.5 * r * norm_squared(&product);
                    product.iter_mut().for_each(|x| *x *= r);
                    multiply_nt(
                        &product,
                        v,
                        &mut g[..w_len],
                        d.outputs,
                        p.width,
                        d.phi,
                        true,
                    );
                    multiply_tn(w, &product, &mut g[b.v], d.phi, d.outputs, p.width, true);
                }
            }
        }
    }
    total
}

/// Adds the penalties' Hessian times `v` at `q`.
pub(super) fn add_product(p: &Problem, q: &[f64], v: &[f64], out: &mut [f64]) {
    let r = p.regularizer.predictor_ridge;
    let decay = p.regularizer.body_decay;
    let d = p.dims;
    let linear = |c: f64, range: Range<usize>, out: &mut [f64]| {
        if c != 0.0 {
            axpy(c, &v[range.clone()], &mut out[range]);
        }
    };
    match p.skip {
        Skip::Outer => {
            let head = head_len(p);
            linear(r, 0..head, out);
            linear(decay, head..q.len(), out);
        }
        Skip::None => {
            linear(r + p.regularizer.head_decay, 0..d.outputs * d.z, out);
            linear(decay, head_len(p)..q.len(), out);
        }
        Skip::Chain => {
            let w_len = d.outputs * d.phi;
            linear(r + p.regularizer.head_decay, 0..w_len, out);
            for b in chain_blocks(p) {
                linear(decay, b.body, out);
                linear(p.regularizer.head_decay, b.v, out);
            }
            if r != 0.0 {
                // P = W V_l, Ṗ = Ẇ V_l + W V̇_l: R(r P Vᵀ) = r(Ṗ Vᵀ + P V̇ᵀ), R(r Wᵀ P) = r(Ẇᵀ P + Wᵀ Ṗ).
                let (w, w_dot) = (&q[..w_len], &v[..w_len]);
                let (o, k, m) = (d.outputs, d.phi, p.width);
                let mut product = vec![0.0; o * m];
                let mut dot = vec![0.0; o * m];
                for b in chain_blocks(p) {
                    let (vl, vl_dot) = (&q[b.v.clone()], &v[b.v.clone()]);
                    multiply(w, vl, &mut product, o, k, m, false);
                    multiply(w_dot, vl, &mut dot, o, k, m, false);
                    multiply(w, vl_dot, &mut dot, o, k, m, true);
                    product.iter_mut().for_each(|x| *x *= r);
                    dot.iter_mut().for_each(|x| *x *= r);
                    multiply_nt(&dot, vl, &mut out[..w_len], o, m, k, true);
                    multiply_nt(&product, vl_dot, &mut out[..w_len], o, m, k, true);
                    multiply_tn(w_dot, &product, &mut out[b.v.clone()], k, o, m, true);
                    multiply_tn(w, &dot, &mut out[b.v], k, o, m, true);
                }
            }
        }
    }
}
