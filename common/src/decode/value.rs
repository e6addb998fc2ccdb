//! The fields with a notation of their own, but for the data.

use std::sync::Arc;

use super::variant::{Argument, Variant, Variants};
use super::{Decoder, Field, Setting};
use crate::diagnostic::{Diagnostic, Span};
use crate::formula::Formula;
use crate::node::{Node, Value};
use crate::spec::{Activation, Body, Features, Loss, Optimizer, Skip, Start, StartKind};

const fn plain(name: &'static str) -> Variant {
    Variant {
        name,
        argument: Argument::None,
    }
}

const fn optional(name: &'static str, example: &'static str) -> Variant {
    Variant {
        name,
        argument: Argument::Optional(example),
    }
}

const fn required(name: &'static str, example: &'static str) -> Variant {
    Variant {
        name,
        argument: Argument::Required(example),
    }
}

pub(crate) const FEATURES: Variants = Variants {
    what: "feature map",
    list: &[
        plain("linear"),
        required("polynomial", "2"),
        required("fourier", "{count: 64, scale: 1, seed: 0}"),
    ],
};

pub(crate) const BODY: Variants = Variants {
    what: "body",
    list: &[
        plain("mlp"),
        plain("residual"),
        plain("preact"),
        plain("bottleneck"),
        plain("aggregated"),
        plain("conv"),
        required("table", "z.npy"),
    ],
};

pub(crate) const ACTIVATION: Variants = Variants {
    what: "activation",
    list: &[
        plain("identity"),
        plain("relu"),
        optional("leaky_relu", "0.1"),
        plain("elu"),
        plain("selu"),
        plain("softplus"),
        plain("tanh"),
        plain("sigmoid"),
        plain("atan"),
        plain("softsign"),
        plain("gelu"),
        plain("gelu_tanh"),
        plain("silu"),
        plain("mish"),
        plain("sin"),
        plain("gaussian"),
        plain("quadratic"),
        plain("cubic"),
        plain("abs"),
        plain("relu6"),
        plain("hard_tanh"),
        plain("squared_relu"),
        required("formula", "\"t * tanh(t)\""),
    ],
};

pub(crate) const SKIP: Variants = Variants {
    what: "skip",
    list: &[plain("outer"), plain("none"), plain("chain")],
};

pub(crate) const FREEZE: Variants = Variants {
    what: "freeze",
    list: &[plain("body"), plain("none")],
};

pub(crate) const LOSS: Variants = Variants {
    what: "loss",
    list: &[
        plain("squared"),
        plain("cross_entropy"),
        plain("logistic"),
        optional("huber", "1.0"),
        plain("log_cosh"),
        plain("squared_hinge"),
        plain("poisson"),
    ],
};

pub(crate) const OPTIMIZER: Variants = Variants {
    what: "optimizer",
    list: &[
        plain("auto"),
        plain("lbfgs"),
        plain("newton"),
        plain("levenberg_marquardt"),
        plain("adam"),
        plain("sgd"),
        plain("gd"),
    ],
};

pub(crate) const START: Variants = Variants {
    what: "start",
    list: &[
        optional("standard", "{scale: 3}"),
        optional("small", "{scale: 3}"),
        optional("large", "{scale: 3}"),
        optional("saturated", "{scale: 3}"),
        optional("dead", "{scale: 3}"),
        optional("zero_residual", "{scale: 3}"),
        optional("rank_deficient", "{scale: 3}"),
        optional("duplicated", "{scale: 3}"),
        optional("subnetwork", "{scale: 3}"),
        optional("sign_flipped", "{scale: 3}"),
        optional("ascent", "{scale: 3}"),
        required("point", "point.json"),
    ],
};

/// The largest degree of polynomial features; more makes more columns than rows.
const LARGEST_DEGREE: u64 = 32;
/// The most Fourier features.
const MOST_FEATURES: u64 = 1_000_000;
/// The longest side of an image.
const LARGEST_IMAGE: u64 = 65_536;

fn of<T: Clone>(table: &[(&'static str, T)], name: &str) -> Option<T> {
    table
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v.clone())
}

impl Decoder<'_> {
    pub(super) fn own(&mut self, field: Field, node: &Node) -> Option<Setting> {
        Some(match field {
            Field::Data => Setting::Data(Arc::new(self.data(node)?)),
            Field::Features => Setting::Features(self.features(node)?),
            Field::Body => Setting::Body(self.body(node)?),
            Field::Activation => Setting::Activation(self.activation(node)?),
            Field::Skip => {
                let chosen = self.variant(node, &SKIP)?;
                Setting::Skip(of(&Skip::NAMED, chosen.name)?)
            }
            Field::Freeze => Setting::Flag(match node.value {
                Value::Null => false,
                _ => self.variant(node, &FREEZE)?.name == "body",
            }),
            Field::Image => Setting::Image(self.image(node)?),
            Field::Loss => Setting::Loss(self.loss(node)?),
            Field::Optimizer => {
                let chosen = self.variant(node, &OPTIMIZER)?;
                Setting::Optimizer(of(&Optimizer::NAMED, chosen.name)?)
            }
            Field::Start => Setting::Start(self.start(node)?),
            // Every other field has a shape of the table.
            _ => return None,
        })
    }

    fn features(&mut self, node: &Node) -> Option<Features> {
        let chosen = self.variant(node, &FEATURES)?;
        let Some(argument) = chosen.argument else {
            return Some(Features::Linear);
        };
        if chosen.name == "polynomial" {
            let degree = self.size(argument, "the degree", LARGEST_DEGREE)?;
            return Some(Features::Polynomial { degree });
        }
        let map = self.map(argument, "`fourier`")?;
        self.known_keys(map, "`fourier`", &["count", "scale", "seed"]);
        let count = match map.get("count") {
            Some(node) => self.size(node, "`count`", MOST_FEATURES),
            None => {
                let mistake = Diagnostic::error(argument.span, "fourier features have no `count`");
                self.error(mistake.help("write `{fourier: {count: 64, scale: 1, seed: 0}}`"));
                None
            }
        };
        let scale = map
            .get("scale")
            .map_or(Some(1.0), |n| self.real_from(n, "`scale`", 0.0, true));
        let seed = map
            .get("seed")
            .map_or(Some(0), |n| self.whole(n, "`seed`", 0, u64::MAX));
        Some(Features::Fourier {
            count: count?,
            scale: scale?,
            seed: seed?,
        })
    }

    pub(super) fn body(&mut self, node: &Node) -> Option<Body> {
        let chosen = self.variant(node, &BODY)?;
        match chosen.argument {
            None => of(&Body::NAMED, chosen.name),
            Some(file) => self.file(file, "a table").map(Body::Table),
        }
    }

    pub(super) fn activation(&mut self, node: &Node) -> Option<Activation> {
        let chosen = self.variant(node, &ACTIVATION)?;
        let Some(argument) = chosen.argument else {
            return of(&Activation::NAMED, chosen.name);
        };
        if chosen.name == "leaky_relu" {
            let slope = self.real(argument, "the slope of `leaky_relu`")?;
            return Some(Activation::LeakyRelu { slope });
        }
        self.formula(argument).map(Activation::Formula)
    }

    fn formula(&mut self, node: &Node) -> Option<Formula> {
        // A formula that is only a number is one to YAML, too.
        let number = node
            .as_f64()
            .filter(|x| x.is_finite())
            .map(|x| format!("{x:?}"));
        let text = match &number {
            Some(text) => text,
            None => self.text(node, "a formula")?,
        };
        match Formula::parse(text) {
            Ok(formula) => Some(formula),
            Err(mistake) => {
                let span = inside(node.span, text, &mistake.span);
                let message = format!("in the formula: {mistake}");
                self.error(Diagnostic::error(span, message).maybe_help(mistake.help()));
                None
            }
        }
    }

    fn image(&mut self, node: &Node) -> Option<Option<[usize; 3]>> {
        if node.value == Value::Null {
            return Some(None);
        }
        let Some([height, width, channels]) = node.as_seq() else {
            return self.wrong_type(node, "`image`", "a list `[height, width, channels]`");
        };
        let sides = [
            (height, "the height"),
            (width, "the width"),
            (channels, "the channels"),
        ];
        let [h, w, c] = sides.map(|(n, what)| self.size(n, what, LARGEST_IMAGE));
        Some(Some([h?, w?, c?]))
    }

    fn loss(&mut self, node: &Node) -> Option<Loss> {
        let chosen = self.variant(node, &LOSS)?;
        match chosen.argument {
            None => of(&Loss::NAMED, chosen.name),
            Some(delta) => {
                let delta = self.real_from(delta, "δ of `huber`", 0.0, true)?;
                Some(Loss::Huber { delta })
            }
        }
    }

    pub(super) fn start(&mut self, node: &Node) -> Option<Start> {
        let chosen = self.variant(node, &START)?;
        if chosen.name == "point" {
            return self.file(chosen.argument?, "a point").map(Start::Point);
        }
        let kind = StartKind::ALL
            .into_iter()
            .find(|k| k.name() == chosen.name)?;
        let scale = match chosen.argument {
            None => 1.0,
            Some(argument) => {
                let map = self.map(argument, &format!("`{}`", chosen.name))?;
                self.known_keys(map, "a start", &["scale"]);
                match map.get("scale") {
                    None => 1.0,
                    Some(node) => self.real_from(node, "`scale`", 0.0, true)?,
                }
            }
        };
        Some(Start::Drawn { kind, scale })
    }
}

/// The bytes of a part of a text that stood at `span`, quoted or not. A text
/// that was escaped or folded is shown as a whole.
fn inside(span: Span, text: &str, part: &std::ops::Range<usize>) -> Span {
    let length = span.range().len();
    let quotes = match length.checked_sub(text.len()) {
        Some(0) => 0,
        Some(2) => 1,
        _ => return span,
    };
    let start = span.range().start + quotes;
    Span::new(start + part.start..start + part.end)
}
