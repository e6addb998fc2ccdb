//! The identity of a grid: see [`Grid::sha256`](super::Grid::sha256).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Search;
use super::axis::Values;
use super::product::{Dimension, Product};
use super::space::Exclusion;
use crate::canon::{self, Tree};
use crate::decode::FIELDS;
use crate::summary::Rules;

/// The hash of a grid's content.
pub(super) fn sha256(
    parts: &[Product],
    exclusions: &[Exclusion],
    rules: Rules,
    search: Option<Search>,
) -> [u8; 32] {
    let search = search.map_or(Tree::Null, |s| {
        Tree::Seq([s.runs, s.round, s.seed].map(Tree::Int).to_vec())
    });
    let tree = Tree::map([
        ("grid", Tree::Int(1)),
        ("parts", Tree::Seq(parts.iter().map(product).collect())),
        (
            "exclude",
            Tree::Seq(exclusions.iter().map(exclusion).collect()),
        ),
        ("min_certified", Tree::Int(rules.min_certified)),
        ("min_share", Tree::Float(rules.min_share)),
        ("search", search),
    ]);
    Sha256::digest(tree.encode()).into()
}

fn product(product: &Product) -> Tree {
    let mut base = BTreeMap::new();
    for info in FIELDS {
        if product.dimension_of(info.field).is_none() {
            base.insert(info.names[0], canon::setting(&product.base.get(info.field)));
        }
    }
    let dimensions = product.dimensions.iter().map(dimension).collect();
    Tree::map([
        ("base", Tree::Map(base)),
        ("dimensions", Tree::Seq(dimensions)),
    ])
}

fn dimension(dimension: &Dimension) -> Tree {
    let columns = dimension.columns();
    let mut sorted: Vec<_> = columns.map(|(f, v)| (f.name(), values(v))).collect();
    sorted.sort_by_key(|(name, _)| *name);
    Tree::Map(sorted.into_iter().collect())
}

/// A list by its values; a rule by its first value, its step and its count.
fn values(values: &Values) -> Tree {
    match values {
        Values::List(list) => Tree::Seq(list.iter().map(|(s, _)| canon::setting(s)).collect()),
        Values::Whole { start, step, count } => Tree::map([
            ("start", Tree::Int(*start)),
            ("step", Tree::Int(*step)),
            ("count", Tree::Int(*count)),
        ]),
        Values::Real { from, step, count } => Tree::map([
            ("start", Tree::Float(*from)),
            ("step", Tree::Float(*step)),
            ("count", Tree::Int(*count)),
        ]),
    }
}

fn exclusion(exclusion: &Exclusion) -> Tree {
    let axes = exclusion.positions.iter().map(|(axis, positions)| {
        let mut sorted = positions.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let positions = sorted.into_iter().map(Tree::Int).collect();
        Tree::Seq(vec![Tree::size(*axis), Tree::Seq(positions)])
    });
    Tree::Seq(axes.collect())
}
