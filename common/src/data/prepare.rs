//! Preprocessing, CONTRACT §1: from a data set to what a network reads.
//!
//! With `standardize` an input column becomes (x − mean)/deviation: the
//! population standard deviation, two passes, sums in row order. A column whose
//! values are all equal becomes 0 and is left out of φ and of dense bodies;
//! convolutions keep it. Without `standardize` inputs are taken as they are,
//! constant columns included.
//!
//! | targets | loss | y |
//! |---|---|---|
//! | K classes | `cross_entropy` | one-hot, K columns |
//! | | `logistic`; `squared_hinge` | 2 classes: one column, the second class is 1, the first 0 (−1); more: one column a class |
//! | | `squared`, `huber`, `log_cosh` | one-hot, K columns, never standardised |
//! | | `poisson` | error |
//! | numbers | `squared`, `huber`, `log_cosh` | standardised like inputs, over the observed rows; a constant column becomes 0 |
//! | | `poisson` | as they are, ≥ 0 |
//! | | `cross_entropy` | as they are, ≥ 0, rows summing to 1 |
//! | | `logistic`; `squared_hinge` | as they are, each 0 or 1 (−1 or 1) |
//!
//! Which targets count as classes, see [`TargetKind`].

use ndarray::{Array2, ArrayView2};

use super::dataset::{Dataset, TargetKind};
use super::error::PrepareError;
use super::features::{checked_count, feature_matrix};
use super::file::rank_labels;
use crate::spec::{Body, Features, Loss};

/// What decides the preparation of a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preparation {
    /// The loss.
    pub loss: Loss,
    /// Whether inputs and regression targets are standardised.
    pub standardize: bool,
    /// φ.
    pub features: Features,
    /// Whether φ ends with the constant 1.
    pub intercept: bool,
}

/// A data set as a network reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// What dense bodies read, `[n, d_in]`.
    pub x_body: Array2<f64>,
    /// What `conv` reads, `[n, columns]`; `None` when that is `x_body`.
    pub x_conv: Option<Array2<f64>>,
    /// φ, `[n, d_φ]`.
    pub phi: Array2<f64>,
    /// Targets in the loss's encoding, `[n, d_y]`; 0 where not observed.
    pub y: Array2<f64>,
    /// 1 where a target is observed, else 0, `[n, d_y]`; `None` if all are.
    pub mask: Option<Array2<f64>>,
    /// The class of each row, where the targets are classes.
    pub classes: Option<ClassLabels>,
    /// Input columns that `x_body` and φ read, in order.
    pub kept: Vec<usize>,
    /// How each input column was moved and scaled; a constant one has deviation 0.
    pub input_scales: Vec<Scale>,
    /// The same for each column of y.
    pub target_scales: Vec<Scale>,
}

impl Prepared {
    /// What a body reads of the inputs.
    pub fn inputs_of(&self, body: &Body) -> ArrayView2<'_, f64> {
        match (body, &self.x_conv) {
            (Body::Conv, Some(x)) => x.view(),
            _ => self.x_body.view(),
        }
    }
}

/// The classes of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLabels {
    /// 0 … `count` − 1, `None` where not observed.
    pub labels: Vec<Option<u32>>,
    /// K.
    pub count: usize,
}

/// prepared = (raw − mean)/deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Mean of the column.
    pub mean: f64,
    /// Population standard deviation; 0 for a constant column.
    pub deviation: f64,
}

impl Scale {
    /// Leaves numbers as they are.
    pub const NONE: Self = Self {
        mean: 0.0,
        deviation: 1.0,
    };

    fn apply(self, value: f64) -> f64 {
        if self.deviation == 0.0 {
            0.0
        } else {
            (value - self.mean) / self.deviation
        }
    }
}

/// The sizes that [`prepare`] would give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// n.
    pub rows: usize,
    /// Columns of `x_body`.
    pub inputs: usize,
    /// Columns of the raw inputs, which `conv` reads.
    pub columns: usize,
    /// d_φ.
    pub phi: usize,
    /// d_y.
    pub outputs: usize,
    /// Whether some target is not observed.
    pub has_mask: bool,
}

/// The sizes of a preparation, and whether it can be done, without its arrays.
///
/// # Errors
/// Those of [`prepare`], but for numbers that overflow.
pub fn facts(set: &Dataset, how: &Preparation) -> Result<Facts, PrepareError> {
    let kept = kept_columns(set, how.standardize).len();
    let encoding = Encoding::of(set, how.loss)?;
    Ok(Facts {
        rows: set.rows(),
        inputs: kept,
        columns: set.inputs.ncols(),
        phi: checked_count(how.features, set.rows(), kept, how.intercept)?,
        outputs: encoding.columns(set),
        has_mask: set.mask.is_some(),
    })
}

/// Prepares a data set; see the [module](self).
///
/// # Errors
/// [`PrepareError`], with row and column where one is to blame.
pub fn prepare(set: &Dataset, how: &Preparation) -> Result<Prepared, PrepareError> {
    let encoding = Encoding::of(set, how.loss)?;
    let kept = kept_columns(set, how.standardize);
    let (x, input_scales) = if how.standardize {
        let scales = scales(&set.inputs, None, "input column")?;
        (scaled(&set.inputs, &scales), scales)
    } else {
        (set.inputs.clone(), vec![Scale::NONE; set.inputs.ncols()])
    };
    let (x_body, x_conv) = if kept.len() == x.ncols() {
        (x, None)
    } else {
        (x.select(ndarray::Axis(1), &kept), Some(x))
    };
    let phi = feature_matrix(x_body.view(), how.features, how.intercept)?;
    let (y, target_scales) = match &encoding {
        Encoding::Classes(classes) => {
            let y = classes.encode();
            let scales = vec![Scale::NONE; y.ncols()];
            (y, scales)
        }
        Encoding::Numbers { standardize } if *standardize && how.standardize => {
            let scales = scales(&set.targets, set.mask.as_ref(), "target")?;
            let mut y = scaled(&set.targets, &scales);
            if let Some(mask) = &set.mask {
                let unobserved = y.iter_mut().zip(mask).filter(|(_, m)| **m == 0.0);
                unobserved.for_each(|(v, _)| *v = 0.0);
            }
            (y, scales)
        }
        Encoding::Numbers { .. } => (set.targets.clone(), vec![Scale::NONE; set.targets.ncols()]),
    };
    let columns = y.ncols();
    // The one mask column of classes says it for all their columns.
    let mask = set.mask.as_ref().map(|mask| match &encoding {
        Encoding::Classes(_) => Array2::from_shape_fn((set.rows(), columns), |(i, _)| {
            let observed = mask.row(i).iter().all(|v| *v == 1.0);
            f64::from(u8::from(observed))
        }),
        Encoding::Numbers { .. } => mask.clone(),
    });
    Ok(Prepared {
        x_body,
        x_conv,
        phi,
        y,
        mask,
        classes: match encoding {
            Encoding::Classes(classes) => Some(ClassLabels {
                labels: classes.labels,
                count: classes.count,
            }),
            Encoding::Numbers { .. } => None,
        },
        kept,
        input_scales,
        target_scales,
    })
}

/// Input columns that are not constant; all of them without standardisation.
fn kept_columns(set: &Dataset, standardize: bool) -> Vec<usize> {
    let columns = set.inputs.columns().into_iter().enumerate();
    columns
        .filter(|(_, column)| !standardize || column.iter().any(|v| *v != column[0]))
        .map(|(j, _)| j)
        .collect()
}

/// Mean and deviation of each column over its observed rows.
fn scales(
    values: &Array2<f64>,
    mask: Option<&Array2<f64>>,
    what: &'static str,
) -> Result<Vec<Scale>, PrepareError> {
    (0..values.ncols())
        .map(|j| {
            let observed = |i: &usize| mask.is_none_or(|m| m[[*i, j]] == 1.0);
            let own = || (0..values.nrows()).filter(observed).map(|i| values[[i, j]]);
            scale(own).map_err(|Scale { mean, deviation }| PrepareError::Unscalable {
                what,
                column: j,
                mean,
                deviation,
            })
        })
        .collect()
}

/// Two passes over the values; the scale itself as error when it cannot be used.
fn scale<I: Iterator<Item = f64>>(values: impl Fn() -> I) -> Result<Scale, Scale> {
    // A target that no row observes has nothing to scale by.
    let Some(first) = values().next() else {
        return Ok(Scale {
            mean: 0.0,
            deviation: 0.0,
        });
    };
    if values().all(|v| v == first) {
        return Ok(Scale {
            mean: first,
            deviation: 0.0,
        });
    }
    let (mut sum, mut count) = (0.0, 0.0);
    for v in values() {
        sum += v;
        count += 1.0;
    }
    let mean = sum / count;
    let mut squares = 0.0f64;
    for v in values() {
        let d = v - mean;
        squares = d.mul_add(d, squares);
    }
    let deviation = (squares / count).sqrt();
    let scale = Scale { mean, deviation };
    if mean.is_finite() && deviation.is_normal() {
        Ok(scale)
    } else {
        Err(scale)
    }
}

fn scaled(values: &Array2<f64>, scales: &[Scale]) -> Array2<f64> {
    Array2::from_shape_fn(values.dim(), |(i, j)| scales[j].apply(values[[i, j]]))
}

/// How targets become y.
enum Encoding {
    Classes(Classes),
    Numbers { standardize: bool },
}

struct Classes {
    labels: Vec<Option<u32>>,
    count: usize,
    /// One column for two classes instead of one each.
    single: bool,
    /// What a column says of a row that is not of its class.
    other: f64,
}

impl Encoding {
    fn of(set: &Dataset, loss: Loss) -> Result<Self, PrepareError> {
        if loss == Loss::CrossEntropy && set.mask.is_some() {
            return Err(PrepareError::MaskUnderCrossEntropy);
        }
        let class_loss = matches!(
            loss,
            Loss::CrossEntropy | Loss::Logistic | Loss::SquaredHinge
        );
        if let (Some((row, text)), false) = (&set.text_target, class_loss) {
            return Err(PrepareError::TextTarget {
                column: set.target_names.join(", "),
                row: *row,
                text: text.clone(),
                loss: loss.name(),
            });
        }
        let (labels, count) = match set.kind {
            TargetKind::Classes { classes } => (labels(set), classes),
            TargetKind::Scores if class_loss => scores_to_classes(set),
            TargetKind::Undecided if class_loss && set.targets.ncols() == 1 => {
                integers_to_classes(set, loss)?
            }
            _ => {
                check_numbers(set, loss)?;
                return Ok(Self::Numbers {
                    standardize: matches!(loss, Loss::Squared | Loss::Huber { .. } | Loss::LogCosh),
                });
            }
        };
        if loss == Loss::Poisson {
            let loss = loss.name();
            return Err(PrepareError::ClassesUnderCounts { loss });
        }
        let mut seen = labels.iter().flatten();
        let first = seen.next();
        if seen.all(|label| Some(label) == first) {
            return Err(PrepareError::OneClass);
        }
        Ok(Self::Classes(Classes {
            labels,
            count,
            single: count == 2 && matches!(loss, Loss::Logistic | Loss::SquaredHinge),
            other: if loss == Loss::SquaredHinge {
                -1.0
            } else {
                0.0
            },
        }))
    }

    /// d_y.
    fn columns(&self, set: &Dataset) -> usize {
        match self {
            Self::Classes(classes) => classes.columns(),
            Self::Numbers { .. } => set.targets.ncols(),
        }
    }
}

impl Classes {
    fn columns(&self) -> usize {
        if self.single { 1 } else { self.count }
    }

    fn encode(&self) -> Array2<f64> {
        Array2::from_shape_fn((self.labels.len(), self.columns()), |(i, j)| {
            // The only column of two classes is that of the second.
            let class = if self.single { 1 } else { j as u32 };
            match self.labels[i] {
                None => 0.0,
                Some(label) if label == class => 1.0,
                Some(_) => self.other,
            }
        })
    }
}

fn is_observed(set: &Dataset, i: usize, j: usize) -> bool {
    set.mask.as_ref().is_none_or(|m| m[[i, j]] == 1.0)
}

fn labels(set: &Dataset) -> Vec<Option<u32>> {
    (0..set.rows())
        .map(|i| is_observed(set, i, 0).then(|| set.targets[[i, 0]] as u32))
        .collect()
}

/// The first of the largest scores; of a single score whether it is above 0.
fn scores_to_classes(set: &Dataset) -> (Vec<Option<u32>>, usize) {
    let columns = set.targets.ncols();
    let label = |i: usize| {
        let row = set.targets.row(i);
        if columns == 1 {
            return u32::from(row[0] > 0.0);
        }
        let largest = (1..columns).fold(0, |top, j| if row[j] > row[top] { j } else { top });
        largest as u32
    };
    let observed = |i: usize| (0..columns).all(|j| is_observed(set, i, j));
    let labels = (0..set.rows()).map(|i| observed(i).then(|| label(i)));
    (labels.collect(), columns.max(2))
}

fn integers_to_classes(
    set: &Dataset,
    loss: Loss,
) -> Result<(Vec<Option<u32>>, usize), PrepareError> {
    let value = |i: usize| {
        if is_observed(set, i, 0) {
            set.targets[[i, 0]]
        } else {
            f64::NAN
        }
    };
    let values: Vec<f64> = (0..set.rows()).map(value).collect();
    if let Some(i) = values.iter().position(|v| v.fract() != 0.0 && !v.is_nan()) {
        return Err(PrepareError::NotClasses {
            loss: loss.name(),
            needed: "classes",
            target: 0,
            row: i + 1,
            value: values[i],
        });
    }
    let (ranks, distinct) = rank_labels(values.iter().copied());
    let label = |r: &f64| (!r.is_nan()).then_some(*r as u32);
    Ok((ranks.iter().map(label).collect(), distinct.len()))
}

/// Whether numbers can be the targets of a loss.
fn check_numbers(set: &Dataset, loss: Loss) -> Result<(), PrepareError> {
    let (columns, needed): (&[f64], _) = match loss {
        Loss::Squared | Loss::Huber { .. } | Loss::LogCosh => return Ok(()),
        Loss::Poisson => (&[], ""),
        Loss::CrossEntropy => (&[], "classes, or one column for each class"),
        Loss::Logistic => (&[0.0, 1.0], "classes, or targets 0 and 1"),
        Loss::SquaredHinge => (&[-1.0, 1.0], "classes, or targets -1 and 1"),
    };
    let not_classes = |row: usize, target: usize, value: f64| PrepareError::NotClasses {
        loss: loss.name(),
        needed,
        target,
        row: row + 1,
        value,
    };
    for (i, row) in set.targets.rows().into_iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            let wrong = match loss {
                Loss::Poisson if *value < 0.0 => {
                    return Err(PrepareError::NegativeCount {
                        target: j,
                        row: i + 1,
                        value: *value,
                    });
                }
                Loss::Poisson => false,
                Loss::CrossEntropy => *value < 0.0 || row.len() == 1,
                _ => is_observed(set, i, j) && !columns.contains(value),
            };
            if wrong {
                return Err(not_classes(i, j, *value));
            }
        }
        if loss == Loss::CrossEntropy {
            let sum = row.iter().fold(0.0, |s, v| s + v);
            if (sum - 1.0).abs() > 1e-9 {
                return Err(PrepareError::RowSum { row: i + 1, sum });
            }
        }
    }
    Ok(())
}
