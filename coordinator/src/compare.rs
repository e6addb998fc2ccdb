//! Paired comparison of runs that differ in one thing.
//!
//! Two runs are a *pair* if they agree in all fields of their tasks, seed and
//! start included, but for the fields that are compared: the same seed draws
//! the same numbers in every cell, so what is left of the difference is the
//! field's. Runs without a partner are counted and enter nothing else.
//!
//! Differences are B − A of the values of pairs that are certified on both
//! sides. Their median has a 95 % percentile-bootstrap interval (Efron 1979):
//! [`RESAMPLES`] resamples of the pairs, drawn from a seeded Philox. The interval
//! treats pairs as draws of their own; pairs of one data set are less
//! independent than that.
//!
//! What this module does not do: it reads no store and no grid.

use std::collections::{BTreeMap, HashMap};

use common::rng::{Philox, Purpose};
use common::summary::tolerance;
use serde::Serialize;
use serde_json::{Map, Value};

/// Resamples of a bootstrap.
pub const RESAMPLES: u32 = 2_000;

/// Fields of a task by dotted name, seed and start among them.
pub type Fields = BTreeMap<String, Value>;

/// A recorded run as it is compared.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The whole specification.
    pub fields: Fields,
    /// The end point's value.
    pub value: f64,
    /// Whether it is certified.
    pub certified: bool,
    /// The value of its baseline.
    pub baseline: Option<f64>,
}

/// A difference, with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Median over the pairs.
    pub median: f64,
    /// Lower end of the 95 % interval.
    pub lower95: f64,
    /// Upper end.
    pub upper95: f64,
}

/// One value of the compared fields against another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The compared fields on side A.
    pub a: Map<String, Value>,
    /// On side B.
    pub b: Map<String, Value>,
    /// Pairs.
    pub pairs: u64,
    /// Of them, certified on both sides: the only ones that are compared.
    pub certified_both: u64,
    /// Certified on side A alone.
    pub certified_a_only: u64,
    /// Certified on side B alone.
    pub certified_b_only: u64,
    /// Certified on neither side.
    pub certified_neither: u64,
    /// Runs of side A that have no partner.
    pub unpaired_a: u64,
    /// Runs of side B that have no partner.
    pub unpaired_b: u64,
    /// Pairs in which B is lower by more than 1e-9·max(1, |A|).
    pub b_lower: u64,
    /// Pairs in which B is higher by more than that.
    pub b_higher: u64,
    /// The other pairs.
    pub equal: u64,
    /// value of B − value of A.
    pub difference: Option<Interval>,
    /// Whether some pair's baselines differ: then values are in different units, and the excess over
    /// the baseline is the fairer number.
    pub baselines_differ: bool,
    /// Excess of B − excess of A.
    pub excess_difference: Option<Interval>,
}

/// Nested objects as dotted names.
pub fn flatten(value: &Value) -> Fields {
    fn walk(prefix: &str, value: &Value, into: &mut Fields) {
        match value {
            // These are values of one field, not groups of fields.
            Value::Object(map)
                if matches!(prefix, "" | "regularizer" | "budget" | "certificate") =>
            {
                for (key, value) in map {
                    let name = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}.{key}")
                    };
                    walk(&name, value, into);
                }
            }
            other => {
                into.insert(prefix.to_owned(), other.clone());
            }
        }
    }
    let mut fields = Fields::new();
    walk("", value, &mut fields);
    fields
}

/// Fields whose values on the two sides have nothing in common; never the seed.
pub fn differing(a: &[Entry], b: &[Entry]) -> Vec<String> {
    let values = |entries: &[Entry]| {
        let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in entries {
            for (name, value) in &entry.fields {
                let known = found.entry(name.clone()).or_default();
                if !known.contains(value) {
                    known.push(value.clone());
                }
            }
        }
        found
    };
    let (of_a, of_b) = (values(a), values(b));
    let names = of_a.keys().filter(|name| *name != "seed");
    names
        .filter(|name| {
            of_b.get(*name)
                .is_some_and(|others| !of_a[*name].iter().any(|v| others.contains(v)))
        })
        .cloned()
        .collect()
}

/// The compared fields of an entry, and the text of all others.
fn split(entry: &Entry, by: &[String]) -> (Map<String, Value>, String) {
    let mut compared = Map::new();
    let mut rest = entry.fields.clone();
    for name in by {
        compared.insert(name.clone(), rest.remove(name).unwrap_or(Value::Null));
    }
    (compared, serde_json::to_string(&rest).unwrap_or_default())
}

/// Entries by the value of the compared fields, in the order of their first ones.
struct Group {
    value: Map<String, Value>,
    entries: Vec<(String, usize)>,
}

fn groups(entries: &[Entry], by: &[String]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let (value, rest) = split(entry, by);
        let text = serde_json::to_string(&value).unwrap_or_default();
        let at = *known.entry(text).or_insert_with(|| {
            groups.push(Group {
                value,
                entries: Vec::new(),
            });
            groups.len() - 1
        });
        groups[at].entries.push((rest, index));
    }
    groups
}

/// Compares every value of side A with every other value of side B.
pub fn between(a: &[Entry], b: &[Entry], by: &[String], seed: u64) -> Vec<Comparison> {
    let (of_a, of_b) = (groups(a, by), groups(b, by));
    let mut found = Vec::new();
    for one in &of_a {
        for other in &of_b {
            if by.is_empty() || one.value != other.value {
                found.push(compare(a, one, b, other, seed));
            }
        }
    }
    found
}

/// Compares every value of some fields with the first one, within one sweep.
pub fn within(entries: &[Entry], by: &[String], seed: u64) -> Vec<Comparison> {
    let groups = groups(entries, by);
    let Some((first, others)) = groups.split_first() else {
        return Vec::new();
    };
    others
        .iter()
        .map(|other| compare(entries, first, entries, other, seed))
        .collect()
}

fn compare(a: &[Entry], one: &Group, b: &[Entry], other: &Group, seed: u64) -> Comparison {
    let partners: HashMap<&str, usize> = other
        .entries
        .iter()
        .map(|(rest, index)| (rest.as_str(), *index))
        .collect();
    let mut c = Comparison {
        a: one.value.clone(),
        b: other.value.clone(),
        pairs: 0,
        certified_both: 0,
        certified_a_only: 0,
        certified_b_only: 0,
        certified_neither: 0,
        unpaired_a: 0,
        unpaired_b: 0,
        b_lower: 0,
        b_higher: 0,
        equal: 0,
        difference: None,
        baselines_differ: false,
        excess_difference: None,
    };
    let (mut values, mut excesses) = (Vec::new(), Vec::new());
    for (rest, index) in &one.entries {
        let Some(partner) = partners.get(rest.as_str()) else {
            c.unpaired_a += 1;
            continue;
        };
        let (x, y) = (&a[*index], &b[*partner]);
        c.pairs += 1;
        match (x.certified, y.certified) {
            (true, true) => c.certified_both += 1,
            (true, false) => c.certified_a_only += 1,
            (false, true) => c.certified_b_only += 1,
            (false, false) => c.certified_neither += 1,
        }
        if !(x.certified && y.certified) {
            continue;
        }
        let difference = y.value - x.value;
        let tol = tolerance(x.value);
        if difference < -tol {
            c.b_lower += 1;
        } else if difference > tol {
            c.b_higher += 1;
        } else {
            c.equal += 1;
        }
        values.push(difference);
        if let (Some(of_x), Some(of_y)) = (x.baseline, y.baseline) {
            c.baselines_differ |= of_x != of_y;
            excesses.push((y.value - of_y) - (x.value - of_x));
        }
    }
    c.unpaired_b = other.entries.len() as u64 - c.pairs;
    c.difference = median_interval(values, seed);
    c.excess_difference = median_interval(excesses, seed);
    c
}

/// The median with its 95 % percentile-bootstrap interval; `None` for no numbers.
pub fn median_interval(mut numbers: Vec<f64>, seed: u64) -> Option<Interval> {
    numbers.sort_by(f64::total_cmp);
    let n = u32::try_from(numbers.len()).ok().filter(|n| *n > 0)?;
    let rng = Philox::new(seed);
    let mut medians = Vec::with_capacity(RESAMPLES as usize);
    let mut counts = vec![0u32; numbers.len()];
    for resample in 0..RESAMPLES {
        counts.fill(0);
        for draw in 0..n {
            let at = rng.below(u64::from(n), Purpose::Bootstrap, 0, resample, draw);
            counts[at as usize] += 1;
        }
        medians.push(median_of_counted(&numbers, &counts));
    }
    medians.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        let at = (q * f64::from(RESAMPLES - 1)).round();
        medians[at as usize]
    };
    Some(Interval {
        median: median_of_counted(&numbers, &vec![1; numbers.len()]),
        lower95: quantile(0.025),
        upper95: quantile(0.975),
    })
}

/// The median of ascending numbers, each taken as often as its count says.
fn median_of_counted(numbers: &[f64], counts: &[u32]) -> f64 {
    let total: u64 = counts.iter().map(|c| u64::from(*c)).sum();
    let at = |rank: u64| {
        let mut before = 0;
        for (number, count) in numbers.iter().zip(counts) {
            before += u64::from(*count);
            if rank < before {
                return *number;
            }
        }
        f64::NAN
    };
    let (low, high) = (at((total - 1) / 2), at(total / 2));
    if low == high { low } else { 0.5 * (low + high) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(activation: &str, depth: u64, seed: u64, value: f64, certified: bool) -> Entry {
        Entry {
            fields: flatten(&json!({
                "activation": activation, "depth": depth, "seed": seed, "start": "standard",
                "regularizer": {"body_decay": 0.001},
            })),
            value,
            certified,
            baseline: Some(1.0),
        }
    }

    #[test]
    fn runs_are_paired_by_everything_but_the_compared_field() {
        let a = [
            entry("tanh", 1, 0, 0.5, true),
            entry("tanh", 1, 1, 0.6, true),
            entry("tanh", 2, 0, 0.7, false),
            entry("tanh", 4, 0, 0.7, true),
        ];
        let b = [
            // The other order, one without partner on each side.
            entry("relu", 2, 0, 0.2, true),
            entry("relu", 1, 1, 0.6, true),
            entry("relu", 1, 0, 0.4, true),
            entry("relu", 1, 9, 0.4, true),
        ];
        assert_eq!(differing(&a, &b), ["activation"]);
        let by = ["activation".to_owned()];
        let found = between(&a, &b, &by, 0);
        assert_eq!(found.len(), 1);
        let c = &found[0];
        assert_eq!((c.pairs, c.unpaired_a, c.unpaired_b), (3, 1, 1));
        assert_eq!((c.certified_both, c.certified_b_only), (2, 1));
        assert_eq!((c.b_lower, c.b_higher, c.equal), (1, 0, 1));
        let d = c.difference.unwrap();
        assert!((d.median + 0.05).abs() < 1e-15, "{d:?}");
        assert!((d.lower95 + 0.1).abs() < 1e-15 && d.upper95 == 0.0, "{d:?}");
        assert!(!c.baselines_differ);
        // The same within one sweep, against the value that comes first.
        let all: Vec<Entry> = a.iter().chain(&b).cloned().collect();
        assert_eq!(within(&all, &by, 0), found);
    }

    #[test]
    fn fields_that_share_a_value_are_not_differing() {
        let a = [
            entry("tanh", 1, 0, 0.5, true),
            entry("relu", 1, 0, 0.5, true),
        ];
        let b = [entry("relu", 2, 3, 0.5, true)];
        assert_eq!(differing(&a, &b), ["depth"]);
        // Nothing differs: the same tasks of two stores, or of two versions.
        assert!(differing(&a, &a).is_empty());
        let found = between(&a, &a, &[], 0);
        assert_eq!((found.len(), found[0].pairs, found[0].equal), (1, 2, 2));
    }

    #[test]
    fn the_interval_covers_the_median_about_as_often_as_it_says() {
        let (mut hits, trials) = (0, 200);
        for trial in 0..trials {
            let rng = Philox::new(1000 + trial);
            let sample = (0..40).map(|i| rng.normal(Purpose::DataNoise, 0, i, 0) + 2.0);
            let found = median_interval(sample.collect(), trial).unwrap();
            assert!(found.lower95 <= found.median && found.median <= found.upper95);
            hits += u64::from(found.lower95 <= 2.0 && 2.0 <= found.upper95);
        }
        // 95 % of 200 is 190; four standard errors are 12.
        assert!(hits >= 178, "{hits} of {trials}");
        assert_eq!(median_interval(Vec::new(), 0), None);
    }
}
