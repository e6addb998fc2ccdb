//! The JSON Schema of a grid file, for editors.
//!
//! Made from the tables that the decoder goes by, so that a field cannot be in
//! one and not in the other. A schema knows less than [`Grid::load`]: what
//! fields demand of each other, formulas, files and sums are left to it.
//!
//! [`Grid::load`]: super::Grid::load

use serde_json::{Map, Value, json};

use crate::decode::{
    ACTIVATION, Argument, BODY, DATA_KEYS, FEATURES, FIELDS, FREEZE, Field, FieldInfo,
    GENERATOR_KEYS, LOSS, Name, OPTIMIZER, SKIP, START, Shape, TEACHER_KEYS, Variants, names_below,
    resolve,
};
use crate::spec::{GeneratorKind, NAMED_DATA};

/// The JSON Schema (draft 7) of a grid file.
pub fn schema() -> Value {
    let mut definitions: Map<String, Value> = FIELDS
        .iter()
        .map(|info| (info.names[0].to_string(), value(info)))
        .collect();
    definitions.insert("file".into(), file());
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A grid of trainings",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "version": {"const": 1, "description": "Version of this format"},
            "name": {"type": "string", "maxLength": 200, "description": "The sweep's name, for people"},
            "data": reference(Field::Data),
            "axes": object("The grid is the product of these", "", Holds::Axis),
            "fixed": object("Fields with one value", "", Holds::Single),
            "zip": {
                "description": "Groups of axes that advance together",
                "type": ["array", "null"],
                "items": {"type": "array", "minItems": 2, "items": {"type": "string"}},
            },
            "exclude": {
                "description": "Combinations to leave out",
                "type": ["array", "null"],
                "items": object("Every combination with these values", "", Holds::OneOrMore),
            },
            "include": {
                "description": "Tasks beside the product; each names every axis",
                "type": ["array", "null"],
                "items": object("A task", "", Holds::OneOrMore),
            },
            "training": object("How runs are trained", "training", Holds::Single),
            "certificate": certificate(),
            "search": search(),
        },
        "definitions": definitions,
    })
}

fn certificate() -> Value {
    let mut schema = object(
        "When a run and a cell count as settled",
        "certificate",
        Holds::Single,
    );
    let own = json!({
        "min_certified": {"type": "integer", "minimum": 0, "description": "Fewest certified runs of a settled cell"},
        "min_share": {"type": "number", "minimum": 0, "maximum": 1, "description": "Smallest share of certified runs of a settled cell"},
    });
    if let (Some(Value::Object(properties)), Value::Object(own)) =
        (schema.get_mut("properties"), own)
    {
        properties.extend(own);
    }
    schema
}

fn search() -> Value {
    json!({
        "description": "Adaptive runs beside the listed ones",
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": {
            "worst": {
                "description": "Runs where the worst minimum may still get worse",
                "type": "object",
                "additionalProperties": false,
                "required": ["runs"],
                "properties": {
                    "runs": {"type": "integer", "minimum": 1},
                    "round": {"type": "integer", "minimum": 1, "default": 64},
                    "seed": {"type": "integer", "minimum": 0, "default": 0},
                },
            },
        },
    })
}

fn reference(field: Field) -> Value {
    json!({"$ref": format!("#/definitions/{}", field.name())})
}

/// What a map of fields holds for each of them.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    /// One value.
    Single,
    /// The values of an axis.
    Axis,
    /// A value, or values as of an axis.
    OneOrMore,
}

impl Holds {
    fn of(self, field: Field) -> Value {
        match self {
            Self::Single => reference(field),
            Self::Axis => axis(field),
            Self::OneOrMore => json!({"anyOf": [reference(field), axis(field)]}),
        }
    }
}

/// A map of fields below a group (or of all): names with and without dots.
fn object(description: &str, prefix: &str, holds: Holds) -> Value {
    let mut properties = Map::new();
    for name in names_below(prefix) {
        let path = if prefix.is_empty() {
            name.to_string()
        } else {
            format!("{prefix}.{name}")
        };
        let schema = match resolve(&path) {
            Some(Name::Field(field)) => holds.of(field),
            // The values of an axis of a group are maps.
            Some(Name::Group) if holds == Holds::Axis => {
                let each = object("Several fields together", &path, Holds::Single);
                json!({"type": "array", "minItems": 1, "items": each})
            }
            Some(Name::Group) => object("Several fields together", &path, holds),
            None => continue,
        };
        properties.insert(name.to_string(), schema);
    }
    json!({
        "description": description,
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn axis(field: Field) -> Value {
    let list = json!({"type": "array", "minItems": 1, "items": reference(field)});
    let mut forms = vec![list];
    if matches!(field.info().shape, Shape::Whole { .. } | Shape::Real { .. }) {
        forms.extend(rules(field));
    }
    json!({"description": field.info().doc, "anyOf": forms})
}

/// `{start, count}`, `{from, to, step}` and `{log: …}`.
fn rules(field: Field) -> Vec<Value> {
    let value = reference(field);
    let count = json!({"type": "integer", "minimum": 1});
    let form = |properties: Value, required: &[&str]| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": required,
            "properties": properties,
        })
    };
    let step = json!({"type": "number", "exclusiveMinimum": 0});
    let ends = json!({"from": value, "to": value, "count": count});
    let log = form(ends, &["from", "to", "count"]);
    let mut forms = vec![
        form(
            json!({"from": value, "to": value, "step": step}),
            &["from", "to", "step"],
        ),
        form(json!({"log": log}), &["log"]),
    ];
    if matches!(field.info().shape, Shape::Whole { .. }) {
        forms.push(form(json!({"start": value, "count": count}), &["count"]));
    }
    forms
}

fn value(info: &FieldInfo) -> Value {
    let mut schema = match info.shape {
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Real { min, above, null } => {
            let bound = if above { "exclusiveMinimum" } else { "minimum" };
            let kind = if null {
                json!(["number", "null"])
            } else {
                json!("number")
            };
            json!({"type": kind, bound: min})
        }
        Shape::Own => own(info.field),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".into(), info.doc.into());
    }
    schema
}

fn own(field: Field) -> Value {
    match field {
        Field::Data => data(),
        Field::Features => variants(&FEATURES),
        Field::Body => variants(&BODY),
        Field::Activation => variants(&ACTIVATION),
        Field::Skip => variants(&SKIP),
        Field::Loss => variants(&LOSS),
        Field::Optimizer => variants(&OPTIMIZER),
        Field::Start => variants(&START),
        Field::Freeze => json!({"anyOf": [variants(&FREEZE), {"type": "null"}]}),
        _ => json!({
            "type": ["array", "null"],
            "items": size(),
            "minItems": 3,
            "maxItems": 3,
        }),
    }
}

fn variants(variants: &Variants) -> Value {
    let list = || variants.list.iter();
    let plain: Vec<&str> = list()
        .filter(|v| !matches!(v.argument, Argument::Required(_)))
        .map(|v| v.name)
        .collect();
    let mut forms = vec![json!({"enum": plain})];
    for variant in list().filter(|v| v.argument != Argument::None) {
        forms.push(json!({
            "type": "object",
            "additionalProperties": false,
            "required": [variant.name],
            "properties": {variant.name: argument(variant.name)},
        }));
    }
    json!({"anyOf": forms})
}

fn argument(variant: &str) -> Value {
    match variant {
        "polynomial" => size(),
        "fourier" => json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["count"],
            "properties": {
                "count": size(),
                "scale": {"type": "number", "exclusiveMinimum": 0, "default": 1},
                "seed": {"type": "integer", "minimum": 0, "default": 0},
            },
        }),
        "table" | "point" => json!({"$ref": "#/definitions/file"}),
        "leaky_relu" => json!({"type": "number"}),
        "formula" => json!({"type": ["string", "number"], "description": "A formula in t"}),
        "huber" => json!({"type": "number", "exclusiveMinimum": 0}),
        _ => json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {"scale": {"type": "number", "exclusiveMinimum": 0, "default": 1}},
        }),
    }
}

fn size() -> Value {
    json!({"type": "integer", "minimum": 1})
}

fn file() -> Value {
    json!({
        "description": "A file, relative to the grid",
        "anyOf": [
            {"type": "string", "minLength": 1},
            {
                "type": "object",
                "additionalProperties": false,
                "required": ["path"],
                "properties": {"path": {"type": "string", "minLength": 1}, "sha256": hash()},
            },
        ],
    })
}

fn hash() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})
}

fn data() -> Value {
    let column = json!({"type": ["string", "integer"]});
    let columns = json!({"anyOf": [column, {"type": "array", "minItems": 1, "items": column}]});
    let maybe_columns = json!({"anyOf": [columns, {"type": "null"}]});
    let properties: Map<String, Value> = DATA_KEYS
        .iter()
        .map(|&key| {
            let schema = match key {
                "file" => json!({"type": "string", "minLength": 1}),
                "sha256" => hash(),
                "targets" => columns.clone(),
                "classes" => json!({"type": ["boolean", "null"]}),
                "target_file" => json!({"$ref": "#/definitions/file"}),
                _ => maybe_columns.clone(),
            };
            (key.to_string(), schema)
        })
        .collect();
    let mut forms = vec![
        json!({"enum": NAMED_DATA}),
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "properties": {"name": {"enum": NAMED_DATA}},
        }),
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["file"],
            "properties": properties,
        }),
    ];
    forms.extend(GeneratorKind::NAMED.map(|(_, kind)| generator(kind)));
    json!({"anyOf": forms})
}

fn generator(kind: GeneratorKind) -> Value {
    let mut properties = Map::new();
    for key in GENERATOR_KEYS {
        let schema = match key {
            "generate" => json!({"const": kind.name()}),
            "noise" => json!({"type": "number", "minimum": 0, "default": 0}),
            "seed" => json!({"type": "integer", "minimum": 0, "default": 0}),
            _ => size(),
        };
        properties.insert(key.into(), schema);
    }
    if kind == GeneratorKind::Teacher {
        for key in TEACHER_KEYS {
            let schema = match key {
                "body" => reference(Field::Body),
                "activation" => reference(Field::Activation),
                _ => size(),
            };
            properties.insert(key.into(), schema);
        }
    }
    if let Some((key, default)) = kind.parameter() {
        let schema = json!({"type": "number", "exclusiveMinimum": 0, "default": default});
        properties.insert(key.into(), schema);
    }
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["generate", "rows"],
        "properties": properties,
    })
}
