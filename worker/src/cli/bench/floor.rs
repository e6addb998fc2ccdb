//! What the arithmetic itself takes: the ground under the other figures.

use std::time::Duration;

use common::math::Isa;
use common::spec::Activation;
use engine::activation::Sigma;
use engine::kernels::{self, Aligned, LANES, Operand, Product};

use super::cases::Ready;
use super::clock::{Times, repeat};
use super::{Measure, Row};

/// Groups of the largest block: 256 rows.
const GROUPS: usize = 32;

/// The rows of a case, and the least time of one of its gradients: its matrix products at the
/// peak rate and its activations, with nothing else.
pub(super) fn rows(ready: &Ready, budget: Duration) -> (Vec<Row>, f64) {
    let (width, _) = ready.case.size();
    let third = budget / 3;
    let row = |what: String, times: Times, figure| Row {
        measure: Measure::Floor,
        case: ready.case,
        what,
        times,
        figures: vec![figure],
    };
    // One tile that never leaves the innermost cache.
    let (peak, flops) = product(8, 64, 3, third);
    let best = flops / peak.median();
    let (layer, layer_flops) = layer(width, third);
    let (tanh, entries) = tanh(width, third);
    let entry = tanh.median() / entries;
    let bound = flops_of(ready) / best + activations_of(ready) * entry;
    let rows = vec![
        row(
            "multiply-add, peak".to_owned(),
            peak,
            ("gigaflops", 1e-9 * best),
        ),
        row(
            format!("3 products {width}×{width}×{}", GROUPS * LANES),
            layer.clone(),
            ("gigaflops", 1e-9 * layer_flops / layer.median()),
        ),
        row(
            format!("tanh and tanh′ {width}×{}", GROUPS * LANES),
            tanh,
            ("nanoseconds_an_entry", 1e9 * entry),
        ),
    ];
    (rows, bound)
}

/// Multiplications and additions of one gradient: a product forward and one for the gradient a
/// matrix, and one for the adjoint of its input unless that is the data.
fn flops_of(ready: &Ready) -> f64 {
    let dims = ready.cell.problem().dims();
    let (width, depth) = ready.case.size();
    let head = 2 * dims.outputs * dims.phi + 3 * dims.outputs * dims.z;
    let body = 2 * width * dims.inputs + 3 * (depth - 1) * width * width;
    (2 * dims.rows * (head + body)) as f64
}

fn activations_of(ready: &Ready) -> f64 {
    let (width, depth) = ready.case.size();
    (ready.cell.problem().dims().rows * width * depth) as f64
}

fn numbers(len: usize) -> Aligned {
    let mut out = Aligned::zeros(len);
    for (i, x) in out.iter_mut().enumerate() {
        *x = ((i * 37 % 101) as f64 - 50.0) / 64.0;
    }
    out
}

/// One matrix product: times, and multiplications and additions.
fn product(rows: usize, cols: usize, groups: usize, budget: Duration) -> (Times, f64) {
    let (weights, input) = (numbers(rows * cols), numbers(cols * groups * LANES));
    let mut arena = Aligned::zeros(rows * groups * LANES);
    let product = Product {
        weights: &weights,
        rows,
        cols,
        transposed: false,
    };
    let times = repeat(budget, || {
        kernels::affine(
            Isa::current(),
            &mut arena,
            product,
            None,
            None,
            Operand::shared(&input, cols),
            Operand::arena(0, rows),
            None,
            groups,
        );
        std::hint::black_box(&arena);
    });
    (times, (2 * rows * cols * groups * LANES) as f64)
}

/// The three products of one layer of `width` on a full block: forward, gradient, adjoint.
fn layer(width: usize, budget: Duration) -> (Times, f64) {
    let size = width * GROUPS * LANES;
    let (weights, input) = (numbers(width * width), numbers(size));
    let mut arena = Aligned::zeros(2 * size);
    let mut gradient = vec![0.0; width * width];
    let mut scratch = Aligned::zeros(GROUPS * LANES * kernels::PANEL);
    let isa = Isa::current();
    let value = Operand::shared(&input, width);
    let (forward, adjoint) = (
        Operand::arena(0, width),
        Operand::arena(width * GROUPS * LANES, width),
    );
    let times = repeat(budget, || {
        for (transposed, src, dst) in [(false, value, forward), (true, forward, adjoint)] {
            let product = Product {
                weights: &weights,
                rows: width,
                cols: width,
                transposed,
            };
            kernels::affine(isa, &mut arena, product, None, None, src, dst, None, GROUPS);
        }
        kernels::outer(
            isa,
            &arena,
            forward,
            width,
            value,
            width,
            GROUPS,
            &mut gradient,
            &mut scratch,
        );
        std::hint::black_box(&gradient);
    });
    (times, (6 * width * size) as f64)
}

/// An activation pass with first derivatives: times, and entries.
fn tanh(width: usize, budget: Duration) -> (Times, f64) {
    let size = width * GROUPS * LANES;
    let input = numbers(size);
    let mut arena = Aligned::zeros(2 * size);
    let sigma = Sigma::new(&Activation::Tanh);
    let times = repeat(budget, || {
        sigma.apply(
            Isa::current(),
            &mut arena,
            Operand::shared(&input, width),
            Operand::arena(0, width),
            Operand::arena(size, width),
            None,
            None,
            width,
            GROUPS,
        );
        std::hint::black_box(&arena);
    });
    (times, size as f64)
}
