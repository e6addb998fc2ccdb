//! The kernels against their definition, bit for bit, on every cpu level.

#![allow(
    clippy::needless_range_loop,
    reason = "index by index is the specification"
)]

use common::math::{CpuLevel, Isa};
use engine::kernels::{self, Aligned, LANES, Layer, Operand, Product, WIDE};
use engine::linalg::Cholesky;

fn numbers(n: usize, seed: u64) -> Vec<f64> {
    let rng = common::rng::Philox::new(seed);
    (0..n)
        .map(|i| rng.normal(common::rng::Purpose::DataInput, 0, i as u32, 0))
        .collect()
}

fn levels() -> Vec<Isa> {
    CpuLevel::ALL
        .into_iter()
        .filter_map(|level| Isa::new(level).ok())
        .collect()
}

/// Sizes around every tile boundary.
const SIZES: [usize; 9] = [1, 2, 3, 5, 8, 9, 17, 48, 67];

#[test]
fn an_affine_entry_is_one_ascending_chain_of_fused_multiply_adds() {
    for (case, &rows) in SIZES.iter().enumerate() {
        for &cols in &SIZES {
            for groups in [1, 2, 4, 7] {
                for transposed in [false, true] {
                    let w = numbers(rows * cols, 1 + case as u64);
                    let (outputs, inputs) = if transposed {
                        (cols, rows)
                    } else {
                        (rows, cols)
                    };
                    let x = numbers(groups * inputs * LANES, 2);
                    let bias = numbers(outputs, 3);
                    let factor = numbers(groups * outputs * LANES, 4);
                    let weight = |o: usize, k: usize| {
                        if transposed {
                            w[k * cols + o]
                        } else {
                            w[o * cols + k]
                        }
                    };
                    let mut want = vec![0.0; groups * outputs * LANES];
                    for g in 0..groups {
                        for o in 0..outputs {
                            for lane in 0..LANES {
                                let mut chain = bias[o];
                                for k in 0..inputs {
                                    chain = weight(o, k)
                                        .mul_add(x[(g * inputs + k) * LANES + lane], chain);
                                }
                                let at = (g * outputs + o) * LANES + lane;
                                want[at] = chain * factor[at];
                            }
                        }
                    }
                    for isa in levels() {
                        let mut arena = vec![0.0; want.len()];
                        let product = Product {
                            weights: &w,
                            rows,
                            cols,
                            transposed,
                        };
                        kernels::affine(
                            isa,
                            &mut arena,
                            product,
                            Some(&bias),
                            None,
                            Operand::shared(&x, inputs),
                            Operand::arena(0, outputs),
                            Some(Operand::shared(&factor, outputs)),
                            groups,
                        );
                        assert!(
                            arena == want,
                            "{rows}x{cols} transposed {transposed} groups {groups} {isa:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn an_affine_product_can_continue_from_a_block_and_work_inside_a_wider_one() {
    let (rows, cols, groups) = (3, 2, 2);
    let w = numbers(rows * cols, 1);
    let wide = numbers(groups * 5 * LANES, 2);
    for isa in levels() {
        // Source: features 3 and 4 of five; target: features 1..4 of six, accumulated.
        let mut arena = numbers(groups * 6 * LANES, 9);
        let before = arena.clone();
        let dst = Operand::arena(0, 6).from_feature(1);
        let src = Operand::shared(&wide, 5).from_feature(3);
        let product = Product {
            weights: &w,
            rows,
            cols,
            transposed: false,
        };
        kernels::affine(
            isa,
            &mut arena,
            product,
            None,
            Some(dst),
            src,
            dst,
            None,
            groups,
        );
        for g in 0..groups {
            for f in 0..6 {
                for lane in 0..LANES {
                    let at = (g * 6 + f) * LANES + lane;
                    let mut want = before[at];
                    if (1..4).contains(&f) {
                        for k in 0..cols {
                            want = w[(f - 1) * cols + k]
                                .mul_add(wide[(g * 5 + 3 + k) * LANES + lane], want);
                        }
                    }
                    assert_eq!(arena[at].to_bits(), want.to_bits());
                }
            }
        }
    }
}

#[test]
fn an_outer_product_sums_the_samples_in_the_stated_order() {
    for &rows in &SIZES {
        for &cols in &SIZES {
            for groups in [1, 3, 8] {
                let left = numbers(groups * rows * LANES, 1);
                let right = numbers(groups * cols * LANES, 2);
                let before = numbers(rows * cols, 3);
                let mut want = before.clone();
                for r in 0..rows {
                    for k in 0..cols {
                        let l = |g: usize, lane: usize| left[(g * rows + r) * LANES + lane];
                        let x = |g: usize, lane: usize| right[(g * cols + k) * LANES + lane];
                        let sum = if cols >= WIDE {
                            let mut chain = 0.0;
                            for g in 0..groups {
                                for lane in 0..LANES {
                                    chain = l(g, lane).mul_add(x(g, lane), chain);
                                }
                            }
                            chain
                        } else {
                            let mut a = [0.0f64; LANES];
                            for g in 0..groups {
                                for lane in 0..LANES {
                                    a[lane] = l(g, lane).mul_add(x(g, lane), a[lane]);
                                }
                            }
                            ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
                        };
                        want[r * cols + k] += sum;
                    }
                }
                for isa in levels() {
                    let mut out = before.clone();
                    let mut scratch = vec![0.0; groups * LANES * cols.next_multiple_of(LANES)];
                    kernels::outer(
                        isa,
                        &[],
                        Operand::shared(&left, rows),
                        rows,
                        Operand::shared(&right, cols),
                        cols,
                        groups,
                        &mut out,
                        &mut scratch,
                    );
                    assert!(out == want, "{rows}x{cols} groups {groups} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn a_gram_entry_is_a_product_of_two_chains_added_once_a_layer() {
    for (rows, cols, outputs, groups) in [(1, 1, 1, 1), (3, 5, 2, 2), (8, 2, 3, 1), (17, 9, 1, 3)] {
        let left = numbers(outputs * groups * rows * LANES, 1);
        let right = numbers(groups * cols * LANES, 2);
        let n = outputs * groups * LANES;
        let before = numbers(n * n, 3);
        // Row i is output k, group g, lane.
        let place = |i: usize| {
            let (k, rest) = (i / (groups * LANES), i % (groups * LANES));
            (k, rest / LANES, rest % LANES)
        };
        let inner = |a: &[f64], b: &[f64], i: usize, j: usize, features: usize, init: f64| {
            (0..features).fold(init, |chain, f| {
                a[f * LANES + i].mul_add(b[f * LANES + j], chain)
            })
        };
        let mut want = before.clone();
        for i in 0..n {
            for j in 0..n {
                let ((k, g, a), (l, h, b)) = (place(i), place(j));
                let panel = |k: usize, g: usize| &left[(k * groups + g) * rows * LANES..];
                let sample = |g: usize| &right[g * cols * LANES..];
                let outer = inner(panel(k, g), panel(l, h), a, b, rows, 0.0);
                let value = inner(sample(g), sample(h), a, b, cols, 1.0);
                want[i * n + j] = outer.mul_add(value, before[i * n + j]);
            }
        }
        for isa in levels() {
            let mut out = before.clone();
            let layer = Layer {
                left: &left,
                rows,
                right: &right,
                cols,
                bias: 1.0,
            };
            kernels::gram(isa, layer, outputs, groups, &mut out);
            for i in 0..n {
                assert!(out[i * n..][..=i] == want[i * n..][..=i], "row {i} {isa:?}");
                // Tiles above the diagonal are left alone.
                let above = i * n + (i / LANES + 1) * LANES..(i + 1) * n;
                assert!(out[above.clone()] == before[above], "row {i} {isa:?}");
            }
        }
    }
}

#[test]
fn a_cholesky_entry_is_one_ascending_chain_over_its_pivot() {
    for n in [1, 7, 8, 9, 20] {
        let b = numbers(n * n, 5);
        let mut h = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                h[i * n + j] = (0..n).map(|k| b[i * n + k] * b[j * n + k]).sum();
            }
        }
        let shift = 0.5;
        let mut want = vec![0.0f64; n * n];
        for i in 0..n {
            for j in 0..=i {
                let start = h[i * n + j] + if i == j { shift } else { 0.0 };
                let chain = (0..j).fold(start, |chain, k| {
                    (-want[i * n + k]).mul_add(want[j * n + k], chain)
                });
                want[i * n + j] = if i == j {
                    chain.sqrt()
                } else {
                    chain / want[j * n + j]
                };
            }
        }
        let padded = n.next_multiple_of(LANES);
        for isa in levels() {
            let factor = Cholesky::shifted(isa, Aligned::default(), &h, n, shift);
            let panels = factor.expect("positive definite").into_room();
            for i in 0..n {
                for j in 0..=i {
                    let got = panels[(i / LANES * padded + j) * LANES + i % LANES];
                    assert!(got == want[i * n + j], "{n} {i} {j} {isa:?}");
                }
            }
        }
    }
}

#[test]
fn elementwise_passes_do_what_they_say() {
    let (features, groups) = (3, 2);
    let n = features * groups * LANES;
    let (a, b, d) = (numbers(n, 1), numbers(n, 2), numbers(n, 3));
    for isa in levels() {
        let (pa, pb) = (Operand::shared(&a, features), Operand::shared(&b, features));
        let dst = Operand::arena(0, features);
        let mut arena = d.clone();
        kernels::hadamard_add(isa, &mut arena, pa, pb, dst, features, groups);
        assert!((0..n).all(|i| arena[i].to_bits() == a[i].mul_add(b[i], d[i]).to_bits()));
        kernels::hadamard(isa, &mut arena, pa, pb, dst, features, groups);
        assert!((0..n).all(|i| arena[i].to_bits() == (a[i] * b[i]).to_bits()));
        kernels::add_into(isa, &mut arena, pa, pb, dst, features, groups);
        assert!((0..n).all(|i| arena[i].to_bits() == (a[i] + b[i]).to_bits()));
        arena.copy_from_slice(&d);
        kernels::hadamard_sum(isa, &mut arena, [pa, pb, dst], None, dst, features, groups);
        assert!((0..n).all(|i| arena[i].to_bits() == a[i].mul_add(b[i], d[i]).to_bits()));
        arena.copy_from_slice(&d);
        kernels::hadamard_sum(
            isa,
            &mut arena,
            [pa, pb, pa],
            Some(dst),
            dst,
            features,
            groups,
        );
        assert!((0..n).all(|i| arena[i].to_bits() == a[i].mul_add(d[i], a[i] * b[i]).to_bits()));
        let mut sums = vec![1.0; features];
        kernels::row_sums(isa, &[], pa, features, groups, &mut sums);
        for f in 0..features {
            let mut l = [0.0; LANES];
            for g in 0..groups {
                for lane in 0..LANES {
                    l[lane] += a[(g * features + f) * LANES + lane];
                }
            }
            let tree = ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
            assert_eq!(sums[f].to_bits(), (1.0 + tree).to_bits());
        }
    }
}

#[test]
#[should_panic(expected = "range")]
fn a_kernel_refuses_a_block_that_does_not_fit() {
    let w = [1.0; 4];
    let x = [0.0; 16];
    let mut arena = vec![0.0; 8];
    let product = Product {
        weights: &w,
        rows: 2,
        cols: 2,
        transposed: false,
    };
    let (src, dst) = (Operand::shared(&x, 2), Operand::arena(0, 2));
    kernels::affine(
        Isa::current(),
        &mut arena,
        product,
        None,
        None,
        src,
        dst,
        None,
        1,
    );
}
