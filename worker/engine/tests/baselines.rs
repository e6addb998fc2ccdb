//! Baselines against independently computed values.

use common::math::Isa;
use common::record::Attainment;
use common::spec::Loss;
use engine::baseline;
use engine::linear::LinearProblem;
use serde_json::Value;

struct Data {
    x: Vec<Vec<f64>>,
    y: Vec<f64>,
}

fn load(name: &str) -> Data {
    let path = format!(
        "{}/../../../shared/data/{name}.csv",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let inputs = header.iter().filter(|h| h.starts_with('x')).count();
    let mut d = Data {
        x: vec![],
        y: vec![],
    };
    for line in lines {
        let v: Vec<f64> = line.split(',').map(|v| v.parse().unwrap()).collect();
        d.x.push(v[..inputs].to_vec());
        d.y.push(v[inputs]);
    }
    d
}

fn standardize(columns: &mut [Vec<f64>]) {
    for c in columns {
        let n = c.len() as f64;
        let mean = c.iter().sum::<f64>() / n;
        let sd = (c.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n).sqrt();
        c.iter_mut()
            .for_each(|v| *v = if sd > 0.0 { (*v - mean) / sd } else { 0.0 });
    }
}

#[test]
fn golden_baselines() {
    let text = include_str!("../../../common/tests/golden/baselines.json");
    let golden: Value = serde_json::from_str(text).unwrap();
    for row in golden["rows"].as_array().unwrap() {
        let data = load(row["data"].as_str().unwrap());
        let n = data.x.len();
        let d_in = data.x[0].len();
        let mut columns: Vec<Vec<f64>> = (0..d_in)
            .map(|j| data.x.iter().map(|r| r[j]).collect())
            .collect();
        standardize(&mut columns);
        if row["features"].is_object() {
            for i in 0..d_in {
                for j in i..d_in {
                    let c = (0..n).map(|r| columns[i][r] * columns[j][r]).collect();
                    columns.push(c);
                }
            }
        }
        if row["intercept"].as_bool().unwrap() {
            columns.push(vec![1.0; n]);
        }
        let width = columns.len();
        let features: Vec<f64> = (0..n)
            .flat_map(|i| columns.iter().map(move |c| c[i]))
            .collect();
        let loss = match &row["loss"] {
            Value::Object(o) => Loss::Huber {
                delta: o["huber"].as_f64().unwrap(),
            },
            Value::String(s) => match s.as_str() {
                "squared" => Loss::Squared,
                "cross_entropy" => Loss::CrossEntropy,
                _ => Loss::Logistic,
            },
            _ => unreachable!(),
        };
        let (targets, outputs) = if row["data"] == "diabetes" {
            let mut c = vec![data.y.clone()];
            standardize(&mut c);
            (c.remove(0), 1)
        } else {
            let classes = data.y.iter().fold(0.0f64, |m, v| m.max(*v)) as usize + 1;
            if loss == Loss::Logistic && classes == 2 {
                (data.y.clone(), 1)
            } else {
                let t = data
                    .y
                    .iter()
                    .flat_map(|y| (0..classes).map(move |k| f64::from(u8::from(k == *y as usize))))
                    .collect();
                (t, classes)
            }
        };
        let problem = LinearProblem {
            features: &features,
            width,
            targets: &targets,
            mask: None,
            outputs,
            loss,
            ridge: row["predictor_ridge"].as_f64().unwrap_or(0.0),
            classes: None,
        };
        let t = std::time::Instant::now();
        let b = baseline::solve(&problem, Isa::current());
        let want = row["value"].as_f64().unwrap();
        let status = if row["status"] == "attained" {
            Attainment::Attained
        } else {
            Attainment::InfimumNotAttained
        };
        println!(
            "{} {:?} {:?} r={} value {:.15} want {:.15} diff {:.1e} gap {:.1e} {:?} {:.3}s",
            row["data"],
            loss,
            row["features"],
            problem.ridge,
            b.value,
            want,
            b.value - want,
            b.value - b.lower_bound,
            b.status,
            t.elapsed().as_secs_f64()
        );
        assert!(
            (b.value - want).abs() <= 1e-10 * want.abs().max(1.0),
            "value"
        );
        assert_eq!(b.status, status);
        assert!(b.value - b.lower_bound <= 1e-9 * want.abs().max(1.0), "gap");
    }
}
