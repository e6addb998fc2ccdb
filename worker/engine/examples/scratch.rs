use common::math::{CpuLevel, Isa};
use engine::kernels::{self, LANES, Operand, Product};
use std::time::Instant;
fn main() {
    for level in [CpuLevel::Avx2, CpuLevel::Avx512] {
        let Ok(isa) = Isa::new(level) else { continue };
        for (m, groups) in [
            (3usize, 13usize),
            (10, 13),
            (32, 28),
            (64, 8),
            (64, 28),
            (256, 8),
            (256, 28),
        ] {
            let w = vec![0.01; m * m];
            let x = vec![0.5; groups * m * LANES];
            let mut arena = vec![0.0; groups * m * LANES];
            let mut out = vec![0.0; m * m];
            let mut scratch = vec![0.0; groups * LANES * m.next_multiple_of(8)];
            let flops = 2.0 * (m * m * groups * LANES) as f64;
            let reps = (2e8 / flops) as usize + 1;
            let mut res = vec![];
            for mode in 0..3 {
                let mut best = f64::MAX;
                for _ in 0..5 {
                    let t = Instant::now();
                    for _ in 0..reps {
                        match mode {
                            0 | 1 => kernels::affine(
                                isa,
                                &mut arena,
                                Product {
                                    weights: &w,
                                    rows: m,
                                    cols: m,
                                    transposed: mode == 1,
                                },
                                None,
                                None,
                                Operand::shared(&x, m),
                                Operand::arena(0, m),
                                None,
                                groups,
                            ),
                            _ => kernels::outer(
                                isa,
                                &arena,
                                Operand::shared(&x, m),
                                m,
                                Operand::shared(&x, m),
                                m,
                                groups,
                                &mut out,
                                &mut scratch,
                            ),
                        }
                    }
                    best = best.min(t.elapsed().as_secs_f64() / reps as f64);
                }
                res.push(format!(
                    "{:7.2} us {:5.1} GF/s",
                    best * 1e6,
                    flops / best / 1e9
                ));
            }
            println!(
                "{level} m={m} n={} affine {} | transposed {} | outer {}",
                groups * 8,
                res[0],
                res[1],
                res[2]
            );
        }
    }
}
