//! The fields of a run: one table for names, types, ranges and defaults.
//!
//! The decoder, the grid's axes, the JSON Schema and the cells of a summary
//! all go by [`Field::info`]. A field has one canonical name and may be called
//! by others: `start` and `training.start`, `regularizer.predictor_ridge` and
//! `predictor_ridge`.

use std::sync::Arc;

use crate::spec::{
    Activation, Body, Budget, CellSpec, DataSpec, Features, Loss, ModelSpec, Optimizer,
    Regularizer, Skip, Start, TaskSpec, Tolerances,
};

/// Everything that a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`FieldInfo::doc` describes each")]
pub enum Field {
    Data,
    Standardize,
    Features,
    Intercept,
    Body,
    Depth,
    Width,
    Bottleneck,
    Cardinality,
    Activation,
    Skip,
    Freeze,
    Image,
    Loss,
    PredictorRidge,
    BodyDecay,
    HeadDecay,
    Optimizer,
    Polish,
    Evaluations,
    Seconds,
    Gradient,
    Curvature,
    KinkMargin,
    Seed,
    Start,
}

/// What a field's value looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number of `min ..= max`.
    Whole {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// A finite number.
    Real {
        /// Smallest.
        min: f64,
        /// Whether `min` itself is out of range.
        above: bool,
        /// Whether `null` is a value.
        null: bool,
    },
    /// A notation of its own.
    Own,
}

/// What is known about a field.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// The field.
    pub field: Field,
    /// Its names; the first is the canonical one.
    pub names: &'static [&'static str],
    /// What its value looks like.
    pub shape: Shape,
    /// One line for people.
    pub doc: &'static str,
}

/// The value of one field.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types of the fields")]
pub enum Setting {
    Flag(bool),
    Whole(u64),
    Real(f64),
    Seconds(Option<f64>),
    Data(Arc<DataSpec>),
    Features(Features),
    Body(Body),
    Activation(Activation),
    Skip(Skip),
    Image(Option<[usize; 3]>),
    Loss(Loss),
    Optimizer(Optimizer),
    Start(Start),
}

const fn whole(min: u64, max: u64) -> Shape {
    Shape::Whole { min, max }
}

const fn at_least_zero() -> Shape {
    Shape::Real {
        min: 0.0,
        above: false,
        null: false,
    }
}

const fn above_zero(null: bool) -> Shape {
    Shape::Real {
        min: 0.0,
        above: true,
        null,
    }
}

/// Layers, units and branches beyond this are a slip of the finger, not a plan.
const LARGEST_SIZE: u64 = 1_000_000;

macro_rules! fields {
    ($($field:ident $names:expr, $shape:expr, $doc:expr;)*) => {
        /// All fields, in the order in which they are shown.
        pub const FIELDS: &[FieldInfo] = &[$(FieldInfo {
            field: Field::$field,
            names: &$names,
            shape: $shape,
            doc: $doc,
        }),*];
    };
}

fields! {
    Data ["data"], Shape::Own, "Where inputs and targets come from";
    Standardize ["standardize"], Shape::Flag, "Whether inputs (and regression targets) are standardised";
    Features ["features"], Shape::Own, "The feature map of the baseline and of the outer skip";
    Intercept ["intercept"], Shape::Flag, "Whether the features end with the constant 1";
    Body ["body"], Shape::Own, "The family of the learned representation";
    Depth ["depth"], whole(1, LARGEST_SIZE), "Hidden layers or blocks";
    Width ["width"], whole(1, LARGEST_SIZE), "Units of a layer, or channels of `conv`";
    Bottleneck ["bottleneck"], whole(1, LARGEST_SIZE), "Inner width of `bottleneck`, and of one branch of `aggregated`";
    Cardinality ["cardinality"], whole(1, LARGEST_SIZE), "Branches of `aggregated`";
    Activation ["activation"], Shape::Own, "The nonlinearity: a name or a formula in t";
    Skip ["skip"], Shape::Own, "Which skip connection reaches around the body";
    Freeze ["freeze"], Shape::Own, "`body` keeps the body's parameters at their start";
    Image ["image"], Shape::Own, "Image shape of one row of inputs, for `conv`";
    Loss ["loss"], Shape::Own, "The loss of one row, averaged over all rows";
    PredictorRidge ["regularizer.predictor_ridge", "predictor_ridge"], at_least_zero(), "Strength of the ridge on the predictor; keeps the theorem";
    BodyDecay ["regularizer.body_decay", "body_decay"], at_least_zero(), "Strength of the decay on the body; keeps the theorem";
    HeadDecay ["regularizer.head_decay", "head_decay"], at_least_zero(), "Strength of the decay on the head; breaks the theorem";
    Optimizer ["optimizer", "training.optimizer"], Shape::Own, "First phase of the training";
    Polish ["polish", "training.polish"], Shape::Flag, "Whether the polish to a certificate follows the first phase";
    Evaluations ["budget.evaluations", "training.budget.evaluations"], whole(0, 1_000_000_000_000_000), "Work of a run: one objective-and-gradient counts 1";
    Seconds ["budget.seconds", "training.budget.seconds"], above_zero(true), "Seconds of a run; makes a sweep non-reproducible";
    Gradient ["certificate.gradient"], above_zero(false), "Largest gradient entry of a certified minimum, relative to the objective";
    Curvature ["certificate.curvature"], above_zero(false), "Largest negative curvature of a certified minimum, relative to the largest curvature";
    KinkMargin ["certificate.kink_margin"], at_least_zero(), "Smallest distance of an inactive unit from its kink";
    Seed ["seed"], whole(0, u64::MAX), "Key of all random draws of a run";
    Start ["start", "training.start"], Shape::Own, "How the first parameters are drawn or given";
}

impl Field {
    /// What is known about it.
    pub fn info(self) -> &'static FieldInfo {
        &FIELDS[self as usize]
    }

    /// Its canonical name.
    pub fn name(self) -> &'static str {
        self.info().names[0]
    }

    /// Whether runs that differ in it may be in the same cell.
    pub fn is_of_run(self) -> bool {
        matches!(self, Self::Seed | Self::Start)
    }
}

/// What a dotted name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// One field.
    Field(Field),
    /// All fields whose names begin with it and a dot.
    Group,
}

/// What a dotted name stands for, if it is one.
pub fn resolve(path: &str) -> Option<Name> {
    let names = || {
        FIELDS
            .iter()
            .flat_map(|i| i.names.iter().map(|n| (i.field, *n)))
    };
    if let Some((field, _)) = names().find(|(_, n)| *n == path) {
        return Some(Name::Field(field));
    }
    let below = |n: &str| {
        n.strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    names().any(|(_, n)| below(n)).then_some(Name::Group)
}

/// The names that may stand where `prefix` (empty, or a group) has been opened.
pub fn names_below(prefix: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for name in FIELDS.iter().flat_map(|i| i.names) {
        let rest = if prefix.is_empty() {
            Some(*name)
        } else {
            name.strip_prefix(prefix).and_then(|r| r.strip_prefix('.'))
        };
        for candidate in rest
            .into_iter()
            .flat_map(|r| [r.split('.').next().unwrap_or(r), r])
        {
            if !names.contains(&candidate) {
                names.push(candidate);
            }
        }
    }
    names
}

/// A run while it is being put together; begins with the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The cell. Without image of shipped data, see [`Draft::finish`].
    pub cell: CellSpec,
    /// Key of every random draw.
    pub seed: u64,
    /// How the first θ is drawn or given.
    pub start: Start,
}

impl Default for Draft {
    /// The defaults of all fields; the data have none and are `""`.
    fn default() -> Self {
        Self {
            cell: CellSpec {
                data: DataSpec::Named(String::new()),
                standardize: true,
                model: ModelSpec {
                    features: Features::Linear,
                    intercept: true,
                    body: Body::Mlp,
                    depth: 1,
                    width: 8,
                    bottleneck: 0,
                    cardinality: 0,
                    activation: Activation::Tanh,
                    skip: Skip::Outer,
                    freeze: false,
                    image: None,
                },
                loss: Loss::Squared,
                regularizer: Regularizer::default(),
                optimizer: Optimizer::Auto,
                polish: true,
                budget: Budget::default(),
                certificate: Tolerances::default(),
                sweep: None,
            },
            seed: 0,
            start: Start::STANDARD,
        }
    }
}

impl Draft {
    /// Puts a value into its field. A value of another field's type is ignored;
    /// the decoder never makes one.
    pub fn set(&mut self, field: Field, setting: &Setting) {
        use Setting as S;
        let cell = &mut self.cell;
        let model = &mut cell.model;
        let size = |x: u64| usize::try_from(x).unwrap_or(usize::MAX);
        match (field, setting) {
            (Field::Data, S::Data(data)) => cell.data = DataSpec::clone(data),
            (Field::Standardize, S::Flag(x)) => cell.standardize = *x,
            (Field::Features, S::Features(x)) => model.features = *x,
            (Field::Intercept, S::Flag(x)) => model.intercept = *x,
            (Field::Body, S::Body(x)) => model.body = x.clone(),
            (Field::Depth, S::Whole(x)) => model.depth = size(*x),
            (Field::Width, S::Whole(x)) => model.width = size(*x),
            (Field::Bottleneck, S::Whole(x)) => model.bottleneck = size(*x),
            (Field::Cardinality, S::Whole(x)) => model.cardinality = size(*x),
            (Field::Activation, S::Activation(x)) => model.activation = x.clone(),
            (Field::Skip, S::Skip(x)) => model.skip = *x,
            (Field::Freeze, S::Flag(x)) => model.freeze = *x,
            (Field::Image, S::Image(x)) => model.image = *x,
            (Field::Loss, S::Loss(x)) => cell.loss = *x,
            (Field::PredictorRidge, S::Real(x)) => cell.regularizer.predictor_ridge = *x,
            (Field::BodyDecay, S::Real(x)) => cell.regularizer.body_decay = *x,
            (Field::HeadDecay, S::Real(x)) => cell.regularizer.head_decay = *x,
            (Field::Optimizer, S::Optimizer(x)) => cell.optimizer = *x,
            (Field::Polish, S::Flag(x)) => cell.polish = *x,
            (Field::Evaluations, S::Whole(x)) => cell.budget.evaluations = *x,
            (Field::Seconds, S::Seconds(x)) => cell.budget.seconds = *x,
            (Field::Gradient, S::Real(x)) => cell.certificate.gradient = *x,
            (Field::Curvature, S::Real(x)) => cell.certificate.curvature = *x,
            (Field::KinkMargin, S::Real(x)) => cell.certificate.kink_margin = *x,
            (Field::Seed, S::Whole(x)) => self.seed = *x,
            (Field::Start, S::Start(x)) => self.start = x.clone(),
            _ => debug_assert!(false, "{field:?} cannot be {setting:?}"),
        }
    }

    /// The value of a field.
    pub fn get(&self, field: Field) -> Setting {
        use Setting as S;
        let cell = &self.cell;
        let model = &cell.model;
        match field {
            Field::Data => S::Data(Arc::new(cell.data.clone())),
            Field::Standardize => S::Flag(cell.standardize),
            Field::Features => S::Features(model.features),
            Field::Intercept => S::Flag(model.intercept),
            Field::Body => S::Body(model.body.clone()),
            Field::Depth => S::Whole(model.depth as u64),
            Field::Width => S::Whole(model.width as u64),
            Field::Bottleneck => S::Whole(model.bottleneck as u64),
            Field::Cardinality => S::Whole(model.cardinality as u64),
            Field::Activation => S::Activation(model.activation.clone()),
            Field::Skip => S::Skip(model.skip),
            Field::Freeze => S::Flag(model.freeze),
            Field::Image => S::Image(model.image),
            Field::Loss => S::Loss(cell.loss),
            Field::PredictorRidge => S::Real(cell.regularizer.predictor_ridge),
            Field::BodyDecay => S::Real(cell.regularizer.body_decay),
            Field::HeadDecay => S::Real(cell.regularizer.head_decay),
            Field::Optimizer => S::Optimizer(cell.optimizer),
            Field::Polish => S::Flag(cell.polish),
            Field::Evaluations => S::Whole(cell.budget.evaluations),
            Field::Seconds => S::Seconds(cell.budget.seconds),
            Field::Gradient => S::Real(cell.certificate.gradient),
            Field::Curvature => S::Real(cell.certificate.curvature),
            Field::KinkMargin => S::Real(cell.certificate.kink_margin),
            Field::Seed => S::Whole(self.seed),
            Field::Start => S::Start(self.start.clone()),
        }
    }

    /// The cell with what other fields imply: the image shape that shipped
    /// data have, where `conv` wants one.
    pub fn finish_cell(&self) -> CellSpec {
        let mut cell = self.cell.clone();
        if let (Body::Conv, None, DataSpec::Named(name)) =
            (&cell.model.body, cell.model.image, &cell.data)
        {
            cell.model.image = crate::spec::named_image(name);
        }
        cell
    }

    /// The run.
    pub fn finish(&self) -> TaskSpec {
        TaskSpec {
            cell: Arc::new(self.finish_cell()),
            seed: self.seed,
            start: self.start.clone(),
        }
    }
}
