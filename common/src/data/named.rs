//! The data sets shipped with the program; `data/README.md` gives source,
//! licence and citation of each.

use ndarray::{Array2, s};

use super::dataset::{Dataset, TargetKind};
use super::table::Cells;
use super::{csv, error::DataError};
use crate::spec::{NAMED_DATA, named_image};

/// What is not in a shipped file itself.
struct Named {
    name: &'static str,
    bytes: &'static [u8],
    /// How many of the last columns are targets.
    targets: usize,
    kind: TargetKind,
}

macro_rules! shipped {
    ($name:literal, $targets:literal, $kind:expr) => {
        Named {
            name: $name,
            bytes: include_bytes!(concat!("../../data/", $name, ".csv")),
            targets: $targets,
            kind: $kind,
        }
    };
}

const SHIPPED: [Named; NAMED_DATA.len()] = [
    shipped!("diabetes", 1, TargetKind::Values),
    shipped!("linnerud", 3, TargetKind::Values),
    shipped!("iris", 1, TargetKind::Classes { classes: 3 }),
    shipped!("wine", 1, TargetKind::Classes { classes: 3 }),
    shipped!("breast_cancer", 1, TargetKind::Classes { classes: 2 }),
    shipped!("digits", 1, TargetKind::Classes { classes: 10 }),
];

/// A shipped data set.
///
/// # Errors
/// `UnknownName`, with the names that exist.
pub fn named(name: &str) -> Result<Dataset, DataError> {
    let set = SHIPPED.iter().find(|set| set.name == name);
    let set = set.ok_or_else(|| DataError::UnknownName {
        name: name.to_owned(),
        known: NAMED_DATA.join(", "),
    })?;
    let table = csv::read(set.bytes).expect("the tests read every shipped file");
    let mut numbers = Array2::zeros((table.rows, table.columns.len()));
    for (column, mut to) in table.columns.iter().zip(numbers.columns_mut()) {
        if let Cells::Numbers(values) = &column.cells {
            to.iter_mut().zip(values).for_each(|(to, v)| *to = *v);
        }
    }
    let inputs = table.columns.len() - set.targets;
    let part = |range: std::ops::Range<usize>| numbers.slice(s![.., range]).to_owned();
    let (x, y) = (part(0..inputs), part(inputs..table.columns.len()));
    let mut dataset = Dataset::new(x, y, set.kind, None);
    dataset.image = named_image(name);
    Ok(dataset)
}
