//! The sections of a grid file, and putting them together.

use std::collections::HashMap;
use std::sync::Mutex;

use super::dimensions::{read_axes, zip};
use super::files::{FileSource, FileTable};
use super::product::Product;
use super::selection::{exclusions, includes};
use super::space::SpaceError;
use super::{Grid, GridFile, Search, check, identity};
use crate::decode::{Decoder, Draft, Field, Given, Name, resolve};
use crate::diagnostic::{Diagnostic, Diagnostics, Mistakes, Span, shown};
use crate::node::{self, Limits, Map, Node, Value};
use crate::suggest::nearest;
use crate::summary::Rules;

/// The sections, in the order of the contract.
pub(super) const SECTIONS: [&str; 11] = [
    "version",
    "name",
    "data",
    "axes",
    "fixed",
    "zip",
    "exclude",
    "include",
    "training",
    "certificate",
    "search",
];

const LONGEST_NAME: usize = 200;
/// Most adaptive runs.
const MOST_RUNS: u64 = 1_000_000_000;
/// Most tasks of a grid; beyond it their numbers would not fit elsewhere.
const MOST_TASKS: u64 = 1 << 53;

/// Where a field has been given so far: an axis or a fixed value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) key: Span,
    pub(super) by_axis: bool,
}

pub(super) type TakenFields = HashMap<Field, Taken>;

pub(super) fn load(name: &str, bytes: &[u8], files: &dyn FileSource) -> Result<Grid, Mistakes> {
    let mut diagnostics = Diagnostics::new();
    let source = node::source(name, bytes, &mut diagnostics);
    if diagnostics.has_errors() {
        return Err(Mistakes {
            source,
            diagnostics,
        });
    }
    let mut table = FileTable::new(files);
    let parts = node::parse(&source.text, Limits::GRID, &mut diagnostics)
        .and_then(|root| sections(&root, &mut Decoder::grid(&mut diagnostics, &mut table)));
    let grid = parts.map(|parts| Grid {
        name: parts.name,
        source: source.clone(),
        sha256: identity::sha256(&parts.parts, &parts.exclusions, parts.rules, parts.search),
        parts: parts.parts,
        fixed: parts.fixed,
        rules: parts.rules,
        search: parts.search,
        files: table
            .into_read()
            .into_iter()
            .map(|(path, id)| GridFile { path, id })
            .collect(),
        cells: Mutex::default(),
    });
    match grid {
        Some(grid) if !diagnostics.has_errors() => {
            check::rules(&grid, &mut diagnostics);
            grid.mistakes(diagnostics).map(|()| grid)
        }
        _ => Err(Mistakes {
            source,
            diagnostics,
        }),
    }
}

struct Parts {
    name: String,
    parts: Vec<Product>,
    exclusions: Vec<super::space::Exclusion>,
    fixed: HashMap<Field, Span>,
    rules: Rules,
    search: Option<Search>,
}

fn sections(root: &Node, decoder: &mut Decoder<'_>) -> Option<Parts> {
    if root.value == Value::Null {
        let mistake = Diagnostic::error(root.span, "the grid is empty");
        decoder.error(mistake.help("`data: diabetes` is the shortest grid there is"));
        return None;
    }
    let map = decoder.map(root, "a grid")?;
    known_sections(decoder, map);
    if let Some(version) = map.get("version") {
        decoder.whole(version, "`version`", 1, 1);
    }
    let name = map
        .get("name")
        .and_then(|n| read_name(decoder, n))
        .unwrap_or_default();

    let mut draft = Draft::default();
    let mut taken = TakenFields::new();
    let mut places = HashMap::new();
    for given in fixed(decoder, map) {
        let other = taken.insert(
            given.field,
            Taken {
                key: given.key,
                by_axis: false,
            },
        );
        if let Some(other) = other {
            let message = format!("`{}` is given twice", given.field.name());
            decoder.error(Diagnostic::error(given.key, message).also(other.key, "first here"));
            continue;
        }
        places.insert(given.field, given.node.span);
        if let Some(setting) = decoder.setting(given.field, given.node) {
            draft.set(given.field, &setting);
        }
    }
    let rules = certificate_rules(decoder, map);
    let search = map.get("search").and_then(|n| read_search(decoder, n));

    let axes = map.get("axes").map_or_else(Vec::new, |node| {
        read_axes(decoder, node, &draft, &mut taken)
    });
    if !taken.contains_key(&Field::Data) {
        let mistake = Diagnostic::error(root.span, "the grid has no `data`");
        decoder.error(mistake.help("name a data set, for example `data: diabetes`"));
    }
    let written = map.get("axes").and_then(Node::as_map);
    let written: Vec<&str> = written
        .into_iter()
        .flat_map(|axes| axes.iter().map(|entry| entry.key.as_str()))
        .collect();
    let dimensions = zip(decoder, map.get("zip"), axes, &written);
    // What follows speaks about the axes; with mistakes in them it would only
    // repeat those.
    let sound = !decoder.diagnostics.has_errors();
    let exclusions = exclusions(decoder, map.get("exclude"), &dimensions, &draft, sound);
    let included = includes(decoder, map.get("include"), &dimensions, &draft, sound);
    if decoder.diagnostics.has_errors() {
        return None;
    }
    let place = map.entry("axes").map_or(root.span, |e| e.key_span);
    let listed = match Product::new(draft, dimensions, &exclusions) {
        Ok(product) => product,
        Err(why) => {
            let message = match why {
                SpaceError::TooLarge => {
                    "the axes have more combinations than can be counted".into()
                }
                other => other.to_string(),
            };
            decoder.error(Diagnostic::error(place, message));
            return None;
        }
    };
    let mut parts = vec![listed];
    parts.extend(included);
    let total = parts
        .iter()
        .try_fold(0_u64, |sum, p| sum.checked_add(p.space.len()));
    match total {
        Some(0) => {
            let mistake = Diagnostic::error(place, "every combination of the axes is excluded");
            decoder.error(mistake);
        }
        Some(total) if total <= MOST_TASKS => {}
        _ => {
            let message = format!("the grid has more than {MOST_TASKS} tasks");
            decoder.error(Diagnostic::error(place, message));
        }
    }
    Some(Parts {
        name,
        parts,
        exclusions,
        fixed: places,
        rules,
        search,
    })
}

fn known_sections(decoder: &mut Decoder<'_>, map: &Map) {
    for entry in map {
        let key = entry.key.as_str();
        if SECTIONS.contains(&key) {
            continue;
        }
        let mut mistake =
            Diagnostic::error(entry.key_span, format!("unknown section `{}`", shown(key)));
        mistake = match (nearest(key, SECTIONS), resolve(key)) {
            (_, Some(Name::Field(_) | Name::Group)) => mistake.help(format!(
                "`{key}` is a field: put it under `fixed`, or under `axes` with a list of values"
            )),
            (Some(meant), None) => mistake.help(format!("did you mean `{meant}`?")),
            (None, None) => mistake.note(format!("known are {}", SECTIONS.join(", "))),
        };
        decoder.error(mistake);
    }
}

fn read_name(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = decoder.text(node, "`name`")?;
    if name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
        let message = format!("`name` is one line of at most {LONGEST_NAME} characters");
        decoder.error(Diagnostic::error(node.span, message));
        return None;
    }
    Some(name.to_string())
}

/// The fields that have one value: from `data`, `fixed`, `training` and
/// `certificate`.
fn fixed<'n>(decoder: &mut Decoder<'_>, map: &'n Map) -> Vec<Given<'n>> {
    let mut given = Vec::new();
    if let Some(entry) = map.entry("data") {
        given.push(Given {
            field: Field::Data,
            key: entry.key_span,
            node: &entry.value,
        });
    }
    for (section, prefix, others) in [
        ("fixed", "", &[][..]),
        ("training", "training", &[]),
        (
            "certificate",
            "certificate",
            &["min_certified", "min_share"],
        ),
    ] {
        let Some(node) = map.get(section).filter(|n| n.value != Value::Null) else {
            continue;
        };
        if let Some(inner) = decoder.map(node, &format!("`{section}`")) {
            given.extend(decoder.fields(inner, prefix, others));
        }
    }
    given
}

/// The part of `certificate` that belongs to the sweep's verdict.
fn certificate_rules(decoder: &mut Decoder<'_>, map: &Map) -> Rules {
    let mut rules = Rules::default();
    let Some(certificate) = map.get("certificate").and_then(Node::as_map) else {
        return rules;
    };
    if let Some(node) = certificate.get("min_certified")
        && let Some(x) = decoder.whole(node, "`certificate.min_certified`", 0, 1_000_000_000)
    {
        rules.min_certified = x;
    }
    if let Some(node) = certificate.get("min_share")
        && let Some(x) = decoder.real_from(node, "`certificate.min_share`", 0.0, false)
    {
        rules.min_share = x;
        if x > 1.0 {
            let message = format!("`certificate.min_share` must be at most 1, found {x}");
            decoder.error(Diagnostic::error(node.span, message));
        }
    }
    rules
}

fn read_search(decoder: &mut Decoder<'_>, node: &Node) -> Option<Search> {
    if node.value == Value::Null {
        return None;
    }
    let map = decoder.map(node, "`search`")?;
    decoder.known_keys(map, "`search`", &["worst"]);
    let worst_node = map.get("worst")?;
    let worst = decoder.map(worst_node, "`worst`")?;
    decoder.known_keys(worst, "`worst`", &["runs", "round", "seed"]);
    let runs = match worst.get("runs") {
        Some(node) => decoder.whole(node, "`runs`", 1, MOST_RUNS),
        None => {
            let message = "`worst` has no `runs`: how many to add";
            decoder.error(Diagnostic::error(worst_node.span, message));
            None
        }
    };
    let mut with_default = |key: &str, default: u64, min: u64, max: u64| match worst.get(key) {
        None => Some(default),
        Some(node) => decoder.whole(node, &format!("`{key}`"), min, max),
    };
    let round = with_default("round", 64, 1, MOST_RUNS);
    let seed = with_default("seed", 0, 0, u64::MAX);
    Some(Search {
        runs: runs?,
        round: round?,
        seed: seed?,
    })
}
