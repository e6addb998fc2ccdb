//! The canonical form of a data specification: for the identity of a *grid*.
//! Tasks know their data by content only.

use std::collections::BTreeMap;

use super::{Canonical, activation, body, content};
use crate::spec::{Column, DataSpec, FileData, Generator};

pub(super) fn data_value(data: &DataSpec) -> Canonical {
    match data {
        DataSpec::Named(name) => Canonical::tagged("named", [Canonical::text(name)]),
        DataSpec::File(file) => Canonical::tagged("file", [file_value(file)]),
        DataSpec::Generate(generator) => {
            Canonical::tagged("generate", [generator_value(generator)])
        }
    }
}

fn file_value(file: &FileData) -> Canonical {
    let columns = |list: &[Column]| {
        let column = |c: &Column| match c {
            Column::Name(name) => Canonical::text(name),
            Column::Index(i) => Canonical::Whole(*i as u64),
        };
        Canonical::List(list.iter().map(column).collect())
    };
    let maybe = |list: &Option<Vec<Column>>| list.as_deref().map_or(Canonical::Null, columns);
    Canonical::Map(BTreeMap::from([
        ("file", content(&file.file.sha256)),
        ("targets", columns(&file.targets)),
        ("inputs", maybe(&file.inputs)),
        ("mask", maybe(&file.mask)),
        (
            "classes",
            file.classes.map_or(Canonical::Null, Canonical::Flag),
        ),
        (
            "target_file",
            file.target_file
                .as_ref()
                .map_or(Canonical::Null, |f| content(&f.sha256)),
        ),
    ]))
}

fn generator_value(generator: &Generator) -> Canonical {
    let whole = |x: usize| Canonical::Whole(x as u64);
    let teacher = generator.teacher.as_ref().map_or(Canonical::Null, |t| {
        Canonical::List(vec![
            body(&t.body),
            whole(t.depth),
            whole(t.width),
            whole(t.bottleneck),
            whole(t.cardinality),
            activation(&t.activation),
        ])
    });
    Canonical::Map(BTreeMap::from([
        ("generate", Canonical::text(generator.generate.name())),
        ("rows", whole(generator.rows)),
        ("inputs", whole(generator.inputs)),
        ("outputs", whole(generator.outputs)),
        ("noise", Canonical::Real(generator.noise)),
        ("seed", Canonical::Whole(generator.seed)),
        ("teacher", teacher),
        (
            "parameter",
            generator.parameter.map_or(Canonical::Null, Canonical::Real),
        ),
    ]))
}
