//! The activation language: any formula in `t`, with its derivatives.
//!
//! `Formula::parse("t / (1 + abs(t))")` gives the syntax tree (which is the
//! formula's identity, see [`crate::canon`]) and the [`Jet`]: value, first and
//! second derivative as one list of shared operations that an engine compiles.
//! Derivatives are symbolic and exact; nothing here is a finite difference.
//!
//! The language: numbers, `t`, `pi`, `e`, `+ - * / ^`, a sign before a term,
//! parentheses, `exp`, `log`, `log1p`, `sqrt`, `sin`, `cos`, `tanh`, `atan`,
//! `erf`, `sigmoid`, `softplus`, `relu`, `abs`, `sign`, `min`, `max`.
//!
//! | piece | first derivative |
//! |---|---|
//! | `relu(u)` | u′ where u > 0, else 0 |
//! | `abs(u)` | u′·sign(u), so 0 at u = 0 |
//! | `sign(u)` | 0 |
//! | `min(a, b)` | b′ where a > b, else a′ |
//! | `max(a, b)` | a′ where a > b, else b′ |
//! | `u^k`, k an integer constant, \|k\| ≤ 64 | products; k·u^{k−1}·u′ |
//! | `u^y`, y another constant | `pow`; y·u^{y−1}·u′ |
//! | `u^v` | `pow`; u^v (v′ log u + v u′/u) |
//!
//! So at a kink `relu(t)`, `max(t, c)` and `min(t, c)` have the derivative of
//! their left piece and `abs` has 0. The second derivative is that of the same
//! piece. Constant subexpressions are computed once, by the same operations.
//!
//! What this module does not do: vectorise (the engine's business) and report
//! mistakes within a file ([`crate::diagnostic`]).

mod expr;
mod graph;
mod kinks;
mod parse;
mod tree;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use expr::{Binary, Index, Node, Unary, evaluate};
pub use kinks::{Kink, OneSided};
pub use parse::{FormulaError, MAX_BYTES, MAX_DEPTH, MAX_NODES, Problem};
pub use tree::{CONSTANTS, Function, FunctionOfTwo, Operator, Tree};

use graph::Graph;

/// A checked formula in `t`. Cheap to clone; equal when the trees are equal.
#[derive(Clone, Debug)]
pub struct Formula {
    source: Arc<str>,
    tree: Arc<Tree>,
    jet: Arc<Jet>,
}

/// A formula and its first two derivatives as one list of operations.
#[derive(Clone, Debug, PartialEq)]
pub struct Jet {
    /// Operands before their use, no two nodes alike.
    pub nodes: Vec<Node>,
    /// The formula.
    pub value: Index,
    /// Its derivative by `t`.
    pub first: Index,
    /// Its second derivative.
    pub second: Index,
    /// Where `first` jumps; empty for a smooth formula.
    pub kinks: Vec<Kink>,
}

impl Formula {
    /// Reads a formula.
    ///
    /// # Errors
    /// The first mistake, with the bytes to blame.
    pub fn parse(source: &str) -> Result<Self, FormulaError> {
        let tree = parse::parse(source)?;
        let jet = Jet::new(&tree);
        Ok(Self {
            source: source.trim().into(),
            tree: Arc::new(tree),
            jet: Arc::new(jet),
        })
    }

    /// The text, as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the text says: the formula's identity.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Value, first and second derivative as operations.
    pub fn derivatives(&self) -> &Jet {
        &self.jet
    }

    /// Where the first derivative jumps.
    pub fn kinks(&self) -> &[Kink] {
        &self.jet.kinks
    }

    /// One-sided values and derivatives at the kinks whose argument is a
    /// straight line in t, by ascending position.
    pub fn one_sided_jets(&self) -> Vec<OneSided> {
        let jet = &self.jet;
        kinks::one_sided(&jet.nodes, [jet.value, jet.first, jet.second], &jet.kinks)
    }

    /// The formula, its first and its second derivative at `t`.
    pub fn jet_at(&self, t: f64) -> [f64; 3] {
        let mut values = Vec::with_capacity(self.jet.nodes.len());
        evaluate(&self.jet.nodes, t, &mut values);
        [self.jet.value, self.jet.first, self.jet.second].map(|i| values[i])
    }

    /// The formula at `t`.
    pub fn value(&self, t: f64) -> f64 {
        self.jet_at(t)[0]
    }

    /// Its first derivative at `t`.
    pub fn first(&self, t: f64) -> f64 {
        self.jet_at(t)[1]
    }

    /// Its second derivative at `t`.
    pub fn second(&self, t: f64) -> f64 {
        self.jet_at(t)[2]
    }
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

impl FromStr for Formula {
    type Err = FormulaError;

    fn from_str(source: &str) -> Result<Self, FormulaError> {
        Self::parse(source)
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl Jet {
    fn new(tree: &Tree) -> Self {
        let mut graph = Graph::default();
        let value = graph.insert(tree);
        let first = graph.derivative(value);
        let second = graph.derivative(first);
        let arguments = graph.kink_arguments(value);
        let lines: Vec<Option<f64>> = arguments.iter().map(|&u| graph.line(u)).collect();
        let slopes: Vec<Index> = arguments.iter().map(|&u| graph.derivative(u)).collect();

        let roots: Vec<Index> = [value, first, second]
            .into_iter()
            .chain(arguments)
            .chain(slopes)
            .collect();
        let (nodes, places) = graph.finish(&roots);
        let (value, first, second) = (places[0], places[1], places[2]);
        let (arguments, slopes) = places[3..].split_at(lines.len());

        let mut at_zero = Vec::new();
        evaluate(&nodes, 0.0, &mut at_zero);
        let candidates: Vec<(Kink, Option<f64>)> = lines
            .iter()
            .zip(arguments.iter().zip(slopes))
            .map(|(&line, (&argument, &slope))| {
                let root = line.map(|l| -at_zero[argument] / l);
                // Adding +0 turns a negative zero into zero.
                let position = root.filter(|t| t.is_finite()).map(|t| t + 0.0);
                (
                    Kink {
                        argument,
                        slope,
                        position,
                    },
                    line,
                )
            })
            .collect();
        let kinks = kinks::real_kinks(&nodes, [value, first], &candidates);
        Self {
            nodes,
            value,
            first,
            second,
            kinks,
        }
    }
}

#[cfg(test)]
mod tests;
