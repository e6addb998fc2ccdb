//! The canonical form of a field's value, for the identity of a *grid*: data
//! by their specification and the hashes of their files. Tasks know data by
//! their arrays alone.

use std::collections::BTreeMap;

use super::encode::Tree;
use super::fields::{activation, features, loss, optimizer};
use crate::decode::Setting;
use crate::spec::{Body, Column, DataSpec, FileData, FileRef, Generator, Start};

/// The canonical form of a value.
pub(crate) fn setting(value: &Setting) -> Tree {
    match value {
        Setting::Flag(x) => Tree::Bool(*x),
        Setting::Whole(x) => Tree::Int(*x),
        Setting::Real(x) | Setting::Seconds(Some(x)) => Tree::Float(*x),
        Setting::Seconds(None) | Setting::Image(None) => Tree::Null,
        Setting::Data(data) => data_tree(data),
        Setting::Features(x) => features(*x),
        Setting::Body(x) => body(x),
        Setting::Activation(x) => activation(x),
        Setting::Skip(x) => Tree::name(x.name()),
        Setting::Image(Some(sides)) => Tree::Seq(sides.map(Tree::size).to_vec()),
        Setting::Loss(x) => loss(*x),
        Setting::Optimizer(x) => Tree::name(optimizer(*x)),
        Setting::Start(Start::Drawn { kind, scale }) => {
            Tree::Seq(vec![Tree::name(kind.name()), Tree::Float(*scale)])
        }
        Setting::Start(Start::Point(file)) => Tree::map([("point", content(file))]),
    }
}

fn content(file: &FileRef) -> Tree {
    Tree::name(&file.sha256)
}

fn body(body: &Body) -> Tree {
    match body {
        Body::Table(file) => Tree::map([("table", content(file))]),
        named => Tree::name(named.name()),
    }
}

fn data_tree(data: &DataSpec) -> Tree {
    match data {
        DataSpec::Named(name) => Tree::name(name),
        DataSpec::File(file) => file_tree(file),
        DataSpec::Generate(generator) => generator_tree(generator),
    }
}

fn file_tree(file: &FileData) -> Tree {
    let columns = |list: &[Column]| {
        let column = |c: &Column| match c {
            Column::Name(name) => Tree::name(name),
            Column::Index(i) => Tree::size(*i),
        };
        Tree::Seq(list.iter().map(column).collect())
    };
    let maybe = |list: &Option<Vec<Column>>| list.as_deref().map_or(Tree::Null, columns);
    Tree::map([
        ("file", Tree::name(&file.file.sha256)),
        ("targets", columns(&file.targets)),
        ("inputs", maybe(&file.inputs)),
        ("mask", maybe(&file.mask)),
        ("classes", file.classes.map_or(Tree::Null, Tree::Bool)),
        (
            "target_file",
            file.target_file.as_ref().map_or(Tree::Null, content),
        ),
    ])
}

fn generator_tree(generator: &Generator) -> Tree {
    let mut map = BTreeMap::from([
        ("generate", Tree::name(generator.generate.name())),
        ("rows", Tree::size(generator.rows)),
        ("inputs", Tree::size(generator.inputs)),
        ("outputs", Tree::size(generator.outputs)),
        ("noise", Tree::Float(generator.noise)),
        ("seed", Tree::Int(generator.seed)),
    ]);
    if let Some(teacher) = &generator.teacher {
        map.extend([
            ("body", body(&teacher.body)),
            ("depth", Tree::size(teacher.depth)),
            ("width", Tree::size(teacher.width)),
            ("bottleneck", Tree::size(teacher.bottleneck)),
            ("cardinality", Tree::size(teacher.cardinality)),
            ("activation", activation(&teacher.activation)),
        ]);
    }
    if let Some(parameter) = generator.parameter {
        map.insert("parameter", Tree::Float(parameter));
    }
    Tree::Map(map)
}
