//! Data sets: named, files, generated.

use super::Decoder;
use crate::diagnostic::Diagnostic;
use crate::node::{Map, Node, Value};
use crate::spec::{
    Activation, Body, Column, DataSpec, FileData, Generator, GeneratorKind, NAMED_DATA, NamedFile,
    Teacher,
};

/// Keys of a data file.
pub(crate) const DATA_KEYS: [&str; 7] = [
    "file",
    "sha256",
    "targets",
    "inputs",
    "mask",
    "classes",
    "target_file",
];
/// Keys of every generator.
pub(crate) const GENERATOR_KEYS: [&str; 6] =
    ["generate", "rows", "inputs", "outputs", "noise", "seed"];
/// Keys of a teacher beside them.
pub(crate) const TEACHER_KEYS: [&str; 6] = [
    "body",
    "depth",
    "width",
    "bottleneck",
    "cardinality",
    "activation",
];

const MOST_ROWS: u64 = 100_000_000;
const MOST_COLUMNS: u64 = 1_000_000;
const LARGEST_TEACHER: u64 = 100_000;

impl Decoder<'_> {
    pub(super) fn data(&mut self, node: &Node) -> Option<DataSpec> {
        let map = match &node.value {
            Value::Str(name) => return self.named_data(node, name),
            Value::Map(map) => map,
            _ => return self.wrong_type(node, "`data`", "a name or a map"),
        };
        let forms: Vec<&str> = ["name", "file", "generate"]
            .into_iter()
            .filter(|k| map.get(k).is_some())
            .collect();
        match forms.as_slice() {
            ["name"] => {
                self.known_keys(map, "a data set", &["name"]);
                let name = map.get("name")?;
                let text = self.text(name, "the name of a data set")?;
                self.named_data(name, text)
            }
            ["file"] => self.data_file(map).map(DataSpec::File),
            ["generate"] => self.generator(node, map).map(DataSpec::Generate),
            [] => {
                let known = ["name", "file", "generate"];
                self.known_keys(map, "a data set", &known);
                if map.is_empty() {
                    let message = "a data set needs `name`, `file` or `generate`";
                    self.error(Diagnostic::error(node.span, message));
                }
                None
            }
            several => {
                let message = format!("a data set has one of {}", several.join(", "));
                self.error(Diagnostic::error(node.span, message));
                None
            }
        }
    }

    fn named_data(&mut self, node: &Node, name: &str) -> Option<DataSpec> {
        if NAMED_DATA.contains(&name) {
            return Some(DataSpec::Named(name.to_string()));
        }
        let shipped = crate::suggest::nearest(name, NAMED_DATA);
        if shipped.is_none() && (name.contains(['/', '.'])) {
            let message = format!("unknown data set `{}`", crate::diagnostic::shown(name));
            let help = "write `{file: PATH, targets: [COLUMN]}` for a file of your own";
            self.error(Diagnostic::error(node.span, message).help(help));
            return None;
        }
        self.unknown(node.span, name, "data set", &NAMED_DATA);
        None
    }

    fn data_file(&mut self, map: &Map) -> Option<FileData> {
        self.known_keys(map, "a data file", &DATA_KEYS);
        let file = self.file_parts(map.get("file")?, map.get("sha256"), "`file`");
        let targets = map
            .get("targets")
            .map_or(Some(Vec::new()), |n| self.columns(n, "`targets`"));
        let mut columns = |key: &str| match map.get(key) {
            None => Some(None),
            Some(node) if node.value == Value::Null => Some(None),
            Some(node) => self.columns(node, &format!("`{key}`")).map(Some),
        };
        let (inputs, mask) = (columns("inputs"), columns("mask"));
        let classes = match map.get("classes") {
            None => Some(None),
            Some(node) if node.value == Value::Null => Some(None),
            Some(node) => self.flag(node, "`classes`").map(Some),
        };
        let target_file = match map.get("target_file") {
            None => Some(None),
            Some(node) => self.file(node, "`target_file`").map(Some),
        };
        let (targets, mask) = (targets?, mask?);
        if let Some(mask) = &mask
            && mask.len() != targets.len().max(1)
        {
            let span = map.get("mask").map_or_else(Default::default, |n| n.span);
            let message = format!(
                "`mask` has {} columns for {} targets",
                mask.len(),
                targets.len().max(1)
            );
            self.error(Diagnostic::error(span, message));
        }
        let file = file?;
        Some(FileData {
            file: NamedFile {
                file: file.path,
                sha256: file.sha256,
            },
            targets,
            inputs: inputs?,
            mask,
            classes: classes?,
            target_file: target_file?,
        })
    }

    /// `[name, 3, …]`, or one of them alone.
    fn columns(&mut self, node: &Node, what: &str) -> Option<Vec<Column>> {
        let one = std::slice::from_ref(node);
        let items = match &node.value {
            Value::Seq(_) => self.list(node, what)?,
            _ => one,
        };
        let columns: Vec<Option<Column>> = items.iter().map(|n| self.column(n, what)).collect();
        let columns: Vec<Column> = columns.into_iter().collect::<Option<_>>()?;
        for (i, column) in columns.iter().enumerate() {
            if columns[..i].contains(column) {
                let message = format!("{what} names the same column twice");
                self.error(Diagnostic::error(items[i].span, message));
            }
        }
        Some(columns)
    }

    fn column(&mut self, node: &Node, what: &str) -> Option<Column> {
        match &node.value {
            Value::Str(name) => Some(Column::Name(name.clone())),
            Value::Int(_) => {
                let index = self.whole(node, "a column", 0, MOST_COLUMNS)?;
                usize::try_from(index).ok().map(Column::Index)
            }
            _ => self.wrong_type(node, &format!("a column of {what}"), "a name or a position"),
        }
    }

    fn generator(&mut self, node: &Node, map: &Map) -> Option<Generator> {
        let names: Vec<&str> = GeneratorKind::NAMED.iter().map(|(n, _)| *n).collect();
        let kind_node = map.get("generate")?;
        let name = self.text(kind_node, "`generate`")?;
        let Some(&(_, kind)) = GeneratorKind::NAMED.iter().find(|(n, _)| *n == name) else {
            self.unknown(kind_node.span, name, "generator", &names);
            return None;
        };
        let mut known = GENERATOR_KEYS.to_vec();
        if kind == GeneratorKind::Teacher {
            known.extend(TEACHER_KEYS);
        }
        known.extend(kind.parameter().map(|(key, _)| key));
        self.known_keys(map, "this generator", &known);

        let fixed_inputs = match kind {
            GeneratorKind::Spirals => Some(2),
            GeneratorKind::Sawtooth => Some(1),
            _ => None,
        };
        let rows = self.required_size(node, map, "rows", MOST_ROWS, None);
        let inputs = self.required_size(node, map, "inputs", MOST_COLUMNS, fixed_inputs);
        let outputs = match kind {
            GeneratorKind::Spirals | GeneratorKind::RandomLabels => 2,
            _ => 1,
        };
        let outputs = self.required_size(node, map, "outputs", MOST_COLUMNS, Some(outputs));
        if let (Some(fixed), Some(found), Some(node)) = (fixed_inputs, inputs, map.get("inputs"))
            && fixed != found
        {
            let message = format!("the generator `{name}` has {fixed} inputs, found {found}");
            self.error(Diagnostic::error(node.span, message));
        }
        let noise = map
            .get("noise")
            .map_or(Some(0.0), |n| self.real_from(n, "`noise`", 0.0, false));
        let seed = map
            .get("seed")
            .map_or(Some(0), |n| self.whole(n, "`seed`", 0, u64::MAX));
        let teacher = match kind {
            GeneratorKind::Teacher => self.teacher(map).map(Some),
            _ => Some(None),
        };
        let parameter = match kind.parameter() {
            None => Some(None),
            Some((key, default)) => self.parameter(map, kind, key, default).map(Some),
        };
        Some(Generator {
            generate: kind,
            rows: rows?,
            inputs: inputs?,
            outputs: outputs?,
            noise: noise?,
            seed: seed?,
            teacher: teacher?,
            parameter: parameter?,
        })
    }

    fn parameter(
        &mut self,
        map: &Map,
        kind: GeneratorKind,
        key: &str,
        default: f64,
    ) -> Option<f64> {
        let Some(node) = map.get(key) else {
            return Some(default);
        };
        let what = format!("`{key}`");
        match kind {
            GeneratorKind::Polynomial | GeneratorKind::Sawtooth => {
                self.whole(node, &what, 1, 32).map(|k| k as f64)
            }
            _ => self.real_from(node, &what, 0.0, true),
        }
    }

    fn teacher(&mut self, map: &Map) -> Option<Teacher> {
        let body = match map.get("body") {
            None => Some(Body::Mlp),
            Some(node) => self.body(node).filter(|body| {
                let usable = !matches!(body, Body::Conv | Body::Table(_));
                if !usable {
                    let message = format!("a teacher's body cannot be `{}`", body.name());
                    self.error(Diagnostic::error(node.span, message));
                }
                usable
            }),
        };
        let activation = map
            .get("activation")
            .map_or(Some(Activation::Tanh), |n| self.activation(n));
        let mut size = |key: &str, default: usize| match map.get(key) {
            None => Some(default),
            Some(node) => self.size(node, &format!("`{key}`"), LARGEST_TEACHER),
        };
        let (depth, width) = (size("depth", 1), size("width", 3));
        let (bottleneck, cardinality) = (size("bottleneck", 0), size("cardinality", 0));
        let (body, width, bottleneck, cardinality) = (body?, width?, bottleneck?, cardinality?);
        let place = map.get("body").map_or_else(Default::default, |n| n.span);
        let mut missing = |key: &str| {
            let message = format!("a teacher of body `{}` needs `{key}`", body.name());
            self.error(Diagnostic::error(place, message));
        };
        if matches!(body, Body::Bottleneck | Body::Aggregated) && bottleneck == 0 {
            missing("bottleneck");
        }
        if body == Body::Aggregated && cardinality == 0 {
            missing("cardinality");
        }
        Some(Teacher {
            body,
            depth: depth?,
            width,
            bottleneck,
            cardinality,
            activation: activation?,
        })
    }

    fn required_size(
        &mut self,
        owner: &Node,
        map: &Map,
        key: &str,
        max: u64,
        default: Option<usize>,
    ) -> Option<usize> {
        match (map.get(key), default) {
            (Some(node), _) => self.size(node, &format!("`{key}`"), max),
            (None, Some(default)) => Some(default),
            (None, None) => {
                let message = format!("generated data need `{key}`");
                self.error(Diagnostic::error(owner.span, message));
                None
            }
        }
    }
}
