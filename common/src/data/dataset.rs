//! Inputs and targets as they are: checked, not yet prepared for a loss.

use ndarray::Array2;
use sha2::{Digest, Sha256};

/// What the numbers of the targets mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// One column of class indices 0 … `classes` − 1.
    Classes {
        /// How many classes there are.
        classes: usize,
    },
    /// Numbers to predict.
    Values,
    /// One number for each class: regression targets, and under a
    /// classification loss the class of the largest (of a single one, its sign).
    Scores,
    /// A file that does not say: classes under a classification loss when there
    /// is one column of integers, numbers else.
    Undecided,
}

/// A data set. All numbers are finite and −0 is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// `[n, columns]`, n ≥ 1.
    pub inputs: Array2<f64>,
    /// `[n, targets]`; 0 where not observed.
    pub targets: Array2<f64>,
    /// What they mean.
    pub kind: TargetKind,
    /// 1 where a target is observed, else 0, `[n, targets]`; `None` if all are.
    pub mask: Option<Array2<f64>>,
    /// `[height, width, channels]` of a row of inputs.
    pub image: Option<[usize; 3]>,
    /// One for each input column.
    pub input_names: Vec<String>,
    /// One for each target column.
    pub target_names: Vec<String>,
    /// One for each class, where the file had names.
    pub class_names: Vec<String>,
    /// Row, from 1, and text of the first cell that is no number in a target column where most
    /// are, if nobody said that it holds classes.
    pub text_target: Option<(usize, String)>,
}

impl Dataset {
    /// A data set without names. Drops a mask of ones and clears −0 and what is
    /// not observed, so that equal data are equal.
    pub(super) fn new(
        inputs: Array2<f64>,
        targets: Array2<f64>,
        kind: TargetKind,
        mask: Option<Array2<f64>>,
    ) -> Self {
        let mut set = Self {
            input_names: (0..inputs.ncols()).map(|j| format!("x{j}")).collect(),
            target_names: (0..targets.ncols()).map(|j| format!("y{j}")).collect(),
            class_names: Vec::new(),
            text_target: None,
            inputs,
            targets,
            kind,
            mask: mask.filter(|m| m.iter().any(|v| *v != 1.0)),
            image: None,
        };
        // Adding +0 turns −0 into 0.
        set.inputs.iter_mut().for_each(|v| *v += 0.0);
        set.targets.iter_mut().for_each(|v| *v += 0.0);
        if let Some(mask) = &set.mask {
            let targets = set.targets.iter_mut().zip(mask);
            targets
                .filter(|(_, m)| **m == 0.0)
                .for_each(|(v, _)| *v = 0.0);
        }
        set
    }

    /// n.
    pub fn rows(&self) -> usize {
        self.inputs.nrows()
    }

    /// SHA-256 of what the numbers are: inputs, targets, their kind and mask.
    ///
    /// Names and the shape of images are not part of it (a network that reads
    /// the shape has it in its own specification).
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"dataset/1");
        let (tag, classes) = match self.kind {
            TargetKind::Classes { classes } => (0, classes),
            TargetKind::Values => (1, 0),
            TargetKind::Scores => (2, 0),
            TargetKind::Undecided => (3, 0),
        };
        let masked = u64::from(self.mask.is_some());
        let sizes = [
            self.inputs.nrows(),
            self.inputs.ncols(),
            self.targets.ncols(),
            classes,
        ];
        for word in sizes.map(|s| s as u64).into_iter().chain([tag, masked]) {
            hash.update(word.to_le_bytes());
        }
        let empty = Array2::zeros((0, 0));
        for array in [
            &self.inputs,
            &self.targets,
            self.mask.as_ref().unwrap_or(&empty),
        ] {
            for value in array {
                hash.update(value.to_bits().to_le_bytes());
            }
        }
        hash.finalize().into()
    }
}
