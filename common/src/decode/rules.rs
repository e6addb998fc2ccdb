//! What fields demand of each other.
//!
//! A rule names the fields it involves; a grid checks it once for every
//! combination of *their* values, a worker once for the cell it received.
//! What needs the data themselves (columns, classes, masks) is checked where
//! they are read.

use super::Field;
use crate::spec::{Body, DataSpec, Loss, ModelSpec, Skip, TaskSpec};

/// One demand.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The fields it involves.
    pub fields: &'static [Field],
    /// What is wrong with a combination of them.
    pub check: fn(&TaskSpec) -> Option<Problem>,
}

/// What is wrong with a combination of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field to show.
    pub field: Field,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

fn problem(field: Field, message: String, help: &str) -> Option<Problem> {
    let help = (!help.is_empty()).then(|| help.to_string());
    Some(Problem {
        field,
        message,
        help,
    })
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule {
        fields: &[Field::Body, Field::Skip, Field::Bottleneck],
        check: needs_bottleneck,
    },
    Rule {
        fields: &[Field::Body, Field::Skip, Field::Bottleneck, Field::Width],
        check: bottleneck_is_narrow,
    },
    Rule {
        fields: &[Field::Body, Field::Skip, Field::Cardinality],
        check: needs_cardinality,
    },
    Rule {
        fields: &[Field::Body, Field::Skip, Field::Image, Field::Data],
        check: needs_image,
    },
    Rule {
        fields: &[Field::Data, Field::Loss],
        check: mask_needs_loss_per_output,
    },
];

fn reads_bottleneck(model: &ModelSpec) -> bool {
    model.skip != Skip::Chain && matches!(model.body, Body::Bottleneck | Body::Aggregated)
}

fn needs_bottleneck(task: &TaskSpec) -> Option<Problem> {
    let model = &task.cell.model;
    if !reads_bottleneck(model) || model.bottleneck > 0 {
        return None;
    }
    let message = format!("body `{}` needs `bottleneck`", model.body.name());
    problem(
        Field::Body,
        message,
        "give the inner width of its blocks: `bottleneck: 2`",
    )
}

fn bottleneck_is_narrow(task: &TaskSpec) -> Option<Problem> {
    let model = &task.cell.model;
    if !reads_bottleneck(model) || model.bottleneck < model.width {
        return None;
    }
    let (b, m) = (model.bottleneck, model.width);
    let message = format!("`bottleneck` must be smaller than `width`, found {b} with width {m}");
    problem(Field::Bottleneck, message, "")
}

fn needs_cardinality(task: &TaskSpec) -> Option<Problem> {
    let model = &task.cell.model;
    if model.skip == Skip::Chain || model.body != Body::Aggregated || model.cardinality > 0 {
        return None;
    }
    let message = "body `aggregated` needs `cardinality`".to_string();
    problem(
        Field::Body,
        message,
        "give the number of branches: `cardinality: 4`",
    )
}

fn needs_image(task: &TaskSpec) -> Option<Problem> {
    let model = &task.cell.model;
    if model.skip == Skip::Chain || model.body != Body::Conv || model.image.is_some() {
        return None;
    }
    let DataSpec::Named(name) = &task.cell.data else {
        let message = "body `conv` needs `image: [height, width, channels]`".to_string();
        return problem(
            Field::Body,
            message,
            "say how a row of inputs is laid out as an image",
        );
    };
    let message = format!("body `conv` needs images, and the rows of `{name}` are none");
    problem(
        Field::Body,
        message,
        "of the shipped data sets, `digits` has images",
    )
}

fn mask_needs_loss_per_output(task: &TaskSpec) -> Option<Problem> {
    let cell = &task.cell;
    match (&cell.data, cell.loss) {
        (DataSpec::File(file), Loss::CrossEntropy) if file.mask.is_some() => {
            let message = "loss `cross_entropy` cannot leave out single targets".to_string();
            problem(
                Field::Loss,
                message,
                "use a loss that is a sum over outputs, for example `logistic`",
            )
        }
        _ => None,
    }
}
