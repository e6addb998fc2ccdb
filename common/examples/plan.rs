use common::{canon::*, grid::*};
fn main() {
    let files = Uploaded::default();
    for (label, text) in [
        (
            "seed last",
            "data: diabetes\naxes: {depth: [1,2,3,4,5,6,7,8,9,10], width: [1,2,3,4,5,6,7,8,9,10], seed: {count: 10000}}\nexclude: [{depth: 3, width: 4}]",
        ),
        (
            "seed first",
            "data: diabetes\naxes: {seed: {count: 10000}, depth: [1,2,3,4,5,6,7,8,9,10], width: [1,2,3,4,5,6,7,8,9,10]}\nexclude: [{depth: 3, width: 4}]",
        ),
        (
            "1e9",
            "data: diabetes\naxes: {depth: [1,2,3,4,5,6,7,8,9,10], start: [standard, dead], activation: [tanh, relu, sin, gelu, silu], seed: {count: 10000000}}\nexclude: [{depth: 3, seed: 4}]",
        ),
    ] {
        let t = std::time::Instant::now();
        let grid = Grid::load("g", text.as_bytes(), &files).unwrap();
        let accept = t.elapsed();
        let t = std::time::Instant::now();
        let n = grid.tasks(0).take(1_000_000).count();
        let walk = t.elapsed();
        let t = std::time::Instant::now();
        let data = DataIdentity {
            arrays: [1; 32],
            image: None,
        };
        let mut cells: std::collections::HashMap<CellIndex, CellIdentity> = Default::default();
        let start = StartIdentity::new(&common::spec::Start::STANDARD).unwrap();
        let mut last: Option<(CellIndex, CellIdentity)> = None;
        let mut x = 0u64;
        for task in grid.tasks(0).take(1_000_000) {
            if last.as_ref().is_none_or(|(i, _)| *i != task.cell) {
                let id = cells
                    .entry(task.cell)
                    .or_insert_with(|| CellIdentity::new(&task.spec.cell, &data).unwrap())
                    .clone();
                last = Some((task.cell, id));
            }
            let (_, cell) = last.as_ref().unwrap();
            x ^= u64::from(cell.task(&start, task.spec.seed).0[0]);
        }
        println!(
            "{label}: {} tasks, accepted in {accept:?}, walked {n} in {walk:?}, with ids {:?} {x}",
            grid.len(),
            t.elapsed()
        );
    }
    let p: String = format!(
        "{{\"W\": [{}]}}",
        (0..400_000)
            .map(|i| format!("{}", i as f64 * 0.123456789))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let t = std::time::Instant::now();
    let mut d = common::diagnostic::Diagnostics::new();
    let node = common::node::parse(&p, common::node::Limits::POINT, &mut d);
    println!(
        "json {} bytes in {:?} {}",
        p.len(),
        t.elapsed(),
        node.is_some()
    );
}
