//! The table for people.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use super::{Row, name_of};

/// Prints machine and measurements.
pub(super) fn table(rows: &[Row], machine: &str) -> anyhow::Result<()> {
    match std::io::stdout()
        .lock()
        .write_all(text(rows, machine).as_bytes())
    {
        // Whoever reads has read enough (`| head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn text(rows: &[Row], machine: &str) -> String {
    let head = ["case", "measure", "what", "median", "min", "samples", ""];
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let figures = row.figures.iter().filter_map(|(n, x)| figure(n, *x));
        let figures: Vec<String> = figures.collect();
        [
            name_of(row.case),
            name_of(row.measure),
            row.what.clone(),
            duration(row.times.median()),
            duration(row.times.min()),
            row.times.samples().to_string(),
            figures.join(", "),
        ]
    }));
    let width = |column: usize| {
        cells
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut out = format!("{machine}\n\n");
    for row in &cells {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Numbers to the right.
            let _ = if (3..6).contains(&i) {
                write!(line, "{cell:>width$}  ")
            } else {
                write!(line, "{cell:<width$}  ")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A figure in words; nothing where the row says it already.
fn figure(name: &str, x: f64) -> Option<String> {
    Some(match name {
        "floor" => format!("{:.0} % of it arithmetic at the peak rate", 100.0 * x),
        "gigaflops" => format!("{x:.1} Gflop/s"),
        "nanoseconds_an_entry" => format!("{x:.2} ns an entry"),
        "times_one" => format!("{x:.2} times one"),
        "slowest" => format!("slowest {}", duration(x)),
        _ => return None,
    })
}

/// Seconds with three digits and a fitting unit.
fn duration(seconds: f64) -> String {
    let (x, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (1e3 * s, "ms"),
        s if s >= 1e-6 => (1e6 * s, "µs"),
        s => (1e9 * s, "ns"),
    };
    let digits = match x {
        x if x < 10.0 => 2,
        x if x < 100.0 => 1,
        _ => 0,
    };
    format!("{x:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::super::clock::Times;
    use super::super::{Case, Measure};
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let shown = [6.543e-6, 5.7e-4, 0.0173, 0.5, 2.0, 8.3e-10].map(duration);
        assert_eq!(
            shown,
            [
                "6.54 µs", "570 µs", "17.3 ms", "500 ms", "2.00 s", "0.83 ns"
            ]
        );
    }

    #[test]
    fn columns_stand_below_each_other() {
        let row = Row {
            measure: Measure::Minimum,
            case: Case::S,
            what: "certified 20 of 20".to_owned(),
            times: Times::new(vec![0.1, 0.2, 0.3]),
            figures: vec![("slowest", 0.3)],
        };
        let shown = text(&[row], "a machine");
        let expected = "a machine\n\n\
            case  measure  what                median     min  samples\n\
            S     minimum  certified 20 of 20  200 ms  100 ms        3  slowest 300 ms\n";
        assert_eq!(shown, expected);
    }
}
