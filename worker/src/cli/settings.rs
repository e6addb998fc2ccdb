//! Options of a worker that joins a coordinator: defaults < file < environment
//! < flags, resolved once.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use common::diagnostic::{Diagnostics, Mistakes, Source};
use common::node::{self, Limits, Node, Value};
use config::{Config, ConfigError, File, FileStoredFormat, Format, Value as Setting, ValueKind};

use crate::room::Room;

/// Beginning of the names of environment variables.
const PREFIX: &str = "SWEEP_";
/// Every option, by its name in files.
const KEYS: [&str; 16] = [
    "connect",
    "slots",
    "threads",
    "name",
    "token_file",
    "ca_file",
    "cert_file",
    "key_file",
    "server_name",
    "insecure",
    "slot_memory",
    "grace",
    "spool",
    "otlp",
    "log",
    "log_format",
];

/// Options as flags.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// Where the coordinator listens, for example https://sweeps.example.org:7878; several
    /// addresses with commas between them are tried in turn.
    #[arg(long, value_name = "URL")]
    pub connect: Option<String>,
    /// Tasks computed at a time [default: cores over threads].
    #[arg(long, value_name = "N")]
    pub slots: Option<u32>,
    /// Threads of one task [default: 1].
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Name for people [default: host and process].
    #[arg(long)]
    pub name: Option<String>,
    /// File with the coordinator's token; else the variable SWEEP_TOKEN.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
    /// File with the certificate (PEM) that vouches for an https coordinator.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// File with the certificate (PEM) that this worker shows, for mutual TLS.
    #[arg(long, value_name = "FILE")]
    pub cert_file: Option<String>,
    /// File with its key (PEM).
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<String>,
    /// Name that the coordinator's certificate must have [default: the host of --connect].
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Allow http:// beyond loopback: the token and the results travel in the clear.
    #[arg(long)]
    pub insecure: bool,
    /// Memory that one slot may use, bytes [default: its share of the control group's limit].
    #[arg(long, value_name = "BYTES")]
    pub slot_memory: Option<u64>,
    /// Seconds that running tasks have to end when the worker leaves [default: 25].
    #[arg(long, value_name = "S")]
    pub grace: Option<f64>,
    /// Folder for results that are finished while no coordinator is there; the next worker with
    /// this folder delivers them [default: none, they are kept in memory].
    #[arg(long, value_name = "DIR")]
    pub spool: Option<String>,
    /// Collector of OpenTelemetry (OTLP over gRPC) that gets a span for each execution, for example
    /// http://localhost:4317.
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// What to log on standard error, for example `debug` or `worker=debug` [default: info, with
    /// --local warn].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How to log [default: text].
    #[arg(long, value_enum, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
}

/// Adds to the help of each option how else it can be given.
pub(super) fn with_variables(mut command: clap::Command) -> clap::Command {
    for key in KEYS {
        command = command.mut_arg(key, |arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.trim_end_matches('.');
            arg.long_help(format!("{help}\n[env: {}] [key: {key}]", variable(key)))
        });
    }
    command
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The options as they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where the coordinator listens.
    pub connect: Option<String>,
    /// Tasks computed at a time, at least 1.
    pub slots: u32,
    /// Threads of one task, at least 1.
    pub threads: u32,
    /// Name for people; host and process if not given.
    pub name: Option<String>,
    /// File with the token.
    pub token_file: Option<PathBuf>,
    /// File with the certificate of an authority.
    pub ca_file: Option<PathBuf>,
    /// File with the worker's own certificate.
    pub cert_file: Option<PathBuf>,
    /// File with its key.
    pub key_file: Option<PathBuf>,
    /// Name in the coordinator's certificate; the host of the address if not given.
    pub server_name: Option<String>,
    /// Plain text beyond loopback is allowed.
    pub insecure: bool,
    /// Memory of one slot, bytes.
    pub slot_memory: Option<u64>,
    /// Seconds to leave in; below Kubernetes' usual 30.
    pub grace: f64,
    /// Where results wait for a coordinator.
    pub spool: Option<PathBuf>,
    /// Who gets spans.
    pub otlp: Option<String>,
    /// Filter of the log; `info`, for a local worker `warn`, if not given.
    pub log: Option<String>,
    /// Form of the log.
    pub log_format: LogFormat,
}

/// Everything that is wrong with the options.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is no YAML, or has no such keys.
    #[error(transparent)]
    File(#[from] Mistakes),
    /// Values that cannot be used, one a line.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

/// Resolves options. `file` is a name and a text; `room` is what the process
/// may use.
///
/// # Errors
/// All mistakes.
pub fn resolve(
    file: Option<(&str, &str)>,
    environment: &BTreeMap<String, String>,
    flags: &Flags,
    room: Room,
) -> Result<Settings, SettingsError> {
    Reader {
        config: merged(file, environment, flags)?,
        mistakes: Vec::new(),
    }
    .settings(room)
}

/// The layers on top of each other.
fn merged(
    file: Option<(&str, &str)>,
    environment: &BTreeMap<String, String>,
    flags: &Flags,
) -> Result<Config, SettingsError> {
    let mut builder = Config::builder();
    if let Some((name, text)) = file {
        check_file(name, text)?;
        builder = builder.add_source(File::from_str(text, Yaml));
    }
    let known: HashMap<String, String> = KEYS
        .iter()
        .filter_map(|key| Some((key, environment.get(&variable(key))?)))
        .map(|(key, value)| (variable(key), value.clone()))
        .collect();
    let environment = config::Environment::with_prefix(PREFIX.trim_end_matches('_'))
        .prefix_separator("_")
        .source(Some(known.into_iter().collect()));
    builder = builder.add_source(environment);
    let whole = |x: Option<u32>| x.map(|x| Setting::from(u64::from(x)));
    let text = |x: &Option<String>| x.clone().map(Setting::from);
    let format = flags.log_format.and_then(|f| f.to_possible_value());
    for (key, value) in [
        ("connect", text(&flags.connect)),
        ("slots", whole(flags.slots)),
        ("threads", whole(flags.threads)),
        ("name", text(&flags.name)),
        ("token_file", text(&flags.token_file)),
        ("ca_file", text(&flags.ca_file)),
        ("cert_file", text(&flags.cert_file)),
        ("key_file", text(&flags.key_file)),
        ("server_name", text(&flags.server_name)),
        ("insecure", flags.insecure.then(|| Setting::from(true))),
        ("slot_memory", flags.slot_memory.map(Setting::from)),
        ("grace", flags.grace.map(Setting::from)),
        ("spool", text(&flags.spool)),
        ("otlp", text(&flags.otlp)),
        ("log", text(&flags.log)),
        ("log_format", format.map(|f| Setting::from(f.get_name()))),
    ] {
        builder = builder
            .set_override_option(key, value)
            .map_err(|error| SettingsError::Values(vec![error.to_string()]))?;
    }
    builder
        .build()
        .map_err(|e| SettingsError::Values(vec![e.to_string()]))
}

/// Where the value of each option comes from, in the order of [`KEYS`].
///
/// # Errors
/// Those of [`resolve`], for a file that cannot be read.
pub(super) fn origins(
    file: Option<(&str, &str)>,
    environment: &BTreeMap<String, String>,
    flags: &Flags,
) -> Result<Vec<String>, SettingsError> {
    // One resolution for each layer above the defaults: whoever changes something is the origin.
    let none = || BTreeMap::new();
    let given = |file, environment: &BTreeMap<String, String>, flags: &Flags| {
        merged(file, environment, flags)
    };
    let in_file = given(file, &none(), &Flags::default())?;
    let in_environment = given(None, environment, &Flags::default())?;
    let in_flags = given(None, &none(), flags)?;
    let has = |config: &Config, key: &str| config.get::<Setting>(key).is_ok();
    Ok(KEYS
        .iter()
        .map(|key| {
            if has(&in_flags, key) {
                format!("--{}", key.replace('_', "-"))
            } else if has(&in_environment, key) {
                variable(key)
            } else if let (Some((name, _)), true) = (file, has(&in_file, key)) {
                name.to_owned()
            } else {
                "default".to_owned()
            }
        })
        .collect())
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase())
}

/// Reads values and collects mistakes.
struct Reader {
    config: Config,
    mistakes: Vec<String>,
}

impl Reader {
    fn settings(mut self, room: Room) -> Result<Settings, SettingsError> {
        let threads = self
            .whole("threads", u64::from(u32::MAX))
            .map_or(1, |x| x as u32);
        let slots = self.whole("slots", 4096).map(|x| x as u32);
        let slots = slots.unwrap_or((room.cores / threads).max(1));
        let grace = self.get("grace", Config::get_float).unwrap_or(25.0);
        if !(grace.is_finite() && (0.0..=86_400.0).contains(&grace)) {
            self.mistakes
                .push(format!("`grace` must be from 0 to 86400, found {grace}"));
        }
        let format = self.get("log_format", Config::get_string);
        let log_format = match format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                self.mistakes.push(format!(
                    "`log_format` must be `text` or `json`, found `{other}`"
                ));
                LogFormat::Text
            }
        };
        let settings = Settings {
            connect: self.get("connect", Config::get_string),
            slots,
            threads,
            name: self.get("name", Config::get_string),
            token_file: self.path("token_file"),
            ca_file: self.path("ca_file"),
            cert_file: self.path("cert_file"),
            key_file: self.path("key_file"),
            server_name: self.get("server_name", Config::get_string),
            insecure: self.get("insecure", Config::get_bool).unwrap_or(false),
            slot_memory: self
                .whole("slot_memory", i64::MAX as u64)
                .or_else(|| room.memory_of_a_slot(slots)),
            // −0 is 0, also where it is printed.
            grace: grace + 0.0,
            spool: self.path("spool"),
            otlp: self.collector(),
            log: self.get("log", Config::get_string),
            log_format,
        };
        if self.mistakes.is_empty() {
            Ok(settings)
        } else {
            Err(SettingsError::Values(self.mistakes))
        }
    }

    fn get<T>(
        &mut self,
        key: &str,
        read: impl Fn(&Config, &str) -> Result<T, ConfigError>,
    ) -> Option<T> {
        match read(&self.config, key) {
            Ok(value) => Some(value),
            Err(ConfigError::NotFound(_)) => None,
            Err(error) => {
                self.mistakes.push(format!("`{key}`: {error}"));
                None
            }
        }
    }

    fn collector(&mut self) -> Option<String> {
        let url = self.get("otlp", Config::get_string)?;
        if let Err(error) = common::traces::check_url(&url) {
            self.mistakes.push(format!("`otlp`: {error}"));
        }
        Some(url)
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.get(key, Config::get_string).map(PathBuf::from)
    }

    /// A number from 1 on.
    fn whole(&mut self, key: &str, most: u64) -> Option<u64> {
        let found = self.get(key, Config::get_int)?;
        match u64::try_from(found) {
            Ok(x) if (1..=most).contains(&x) => Some(x),
            _ => {
                self.mistakes
                    .push(format!("`{key}` must be from 1 to {most}, found {found}"));
                None
            }
        }
    }
}

impl Settings {
    /// In the notation of the file, with the origin of each value beside it.
    pub fn to_yaml(&self, origins: &[String]) -> String {
        let text = |x: &str| serde_json::Value::from(x).to_string();
        let path = |x: &Option<PathBuf>| x.as_ref().map(|x| text(&x.to_string_lossy()));
        let format = self.log_format.to_possible_value();
        let rows = [
            ("connect", self.connect.as_deref().map(text)),
            ("slots", Some(self.slots.to_string())),
            ("threads", Some(self.threads.to_string())),
            ("name", self.name.as_deref().map(text)),
            ("token_file", path(&self.token_file)),
            ("ca_file", path(&self.ca_file)),
            ("cert_file", path(&self.cert_file)),
            ("key_file", path(&self.key_file)),
            ("server_name", self.server_name.as_deref().map(text)),
            ("insecure", Some(self.insecure.to_string())),
            ("slot_memory", self.slot_memory.map(|x| x.to_string())),
            ("grace", Some(self.grace.to_string())),
            ("spool", path(&self.spool)),
            ("otlp", self.otlp.as_deref().map(text)),
            ("log", self.log.as_deref().map(text)),
            ("log_format", format.map(|f| f.get_name().to_owned())),
        ];
        let rows =
            rows.map(|(key, value)| format!("{key}: {}", value.unwrap_or("null".to_owned())));
        let width = rows.iter().map(|row| row.chars().count()).max();
        let width = width.unwrap_or(0);
        let both = rows.iter().zip(origins);
        both.fold(String::new(), |mut out, (row, origin)| {
            let _ = writeln!(out, "{row:width$}  # {}", origin.escape_debug());
            out
        })
    }
}

/// All mistakes of a file's form.
fn check_file(name: &str, text: &str) -> Result<(), Mistakes> {
    let mut diagnostics = Diagnostics::new();
    if let Some(node) = node::parse(text, Limits::GRID, &mut diagnostics) {
        let mut decoder = common::decode::Decoder::wire(&mut diagnostics);
        if node.value != Value::Null
            && let Some(map) = decoder.map(&node, "the configuration")
        {
            decoder.known_keys(map, "the configuration", &KEYS);
        }
    }
    if diagnostics.has_errors() {
        let source = Source {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        return Err(Mistakes {
            source,
            diagnostics,
        });
    }
    Ok(())
}

/// The grid's YAML as a format of `config`.
#[derive(Clone, Copy, Debug)]
struct Yaml;

impl Format for Yaml {
    fn parse(
        &self,
        uri: Option<&String>,
        text: &str,
    ) -> Result<config::Map<String, Setting>, Box<dyn Error + Send + Sync>> {
        let mut diagnostics = Diagnostics::new();
        let node = node::parse(text, Limits::GRID, &mut diagnostics);
        let map = node.as_ref().and_then(Node::as_map);
        let entries = map.into_iter().flatten();
        let values = entries.filter(|entry| entry.value.value != Value::Null);
        Ok(values
            .map(|entry| (entry.key.clone(), setting(uri, &entry.value)))
            .collect())
    }
}

impl FileStoredFormat for Yaml {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["yaml", "yml", "json"]
    }
}

fn setting(uri: Option<&String>, node: &Node) -> Setting {
    let kind = match &node.value {
        Value::Null | Value::Invalid => ValueKind::Nil,
        Value::Bool(x) => ValueKind::Boolean(*x),
        Value::Int(x) => ValueKind::I128(*x),
        Value::Float(x) => ValueKind::Float(*x),
        Value::Str(x) => ValueKind::String(x.clone()),
        Value::Seq(items) => {
            ValueKind::Array(items.iter().map(|item| setting(uri, item)).collect())
        }
        Value::Map(map) => ValueKind::Table(
            map.into_iter()
                .map(|entry| (entry.key.clone(), setting(uri, &entry.value)))
                .collect(),
        ),
    };
    Setting::new(uri, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn room(cores: u32) -> Room {
        Room {
            cores,
            memory: None,
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file_and_that_over_defaults() {
        let file = "slots: 2\nthreads: 2\nname: file\nlog: debug\n";
        let variables = environment(&[
            ("SWEEP_SLOTS", "3"),
            ("SWEEP_NAME", "environment"),
            ("SWEEP_CERT_FILE", "worker.pem"),
            ("SWEEP_INSECURE", "true"),
            ("SWEEP_LISTEN", "the coordinator's"),
        ]);
        let flags = Flags {
            slots: Some(4),
            ..Flags::default()
        };
        let found = resolve(Some(("w.yaml", file)), &variables, &flags, room(8)).unwrap();
        assert_eq!((found.slots, found.threads), (4, 2));
        assert_eq!(
            (found.name.as_deref(), found.log.as_deref()),
            (Some("environment"), Some("debug"))
        );
        assert_eq!((found.grace, found.connect), (25.0, None));
        assert_eq!(
            (found.cert_file, found.key_file, found.insecure),
            (Some("worker.pem".into()), None, true)
        );
    }

    #[test]
    fn each_value_knows_where_it_came_from() {
        let file = Some(("w.yaml", "slots: 2\nthreads: 2\nname: file\nlog: null\n"));
        let variables = environment(&[("SWEEP_SLOTS", "3"), ("SWEEP_INSECURE", "true")]);
        let flags = Flags {
            slots: Some(4),
            ..Flags::default()
        };
        let found = origins(file, &variables, &flags).unwrap();
        let of = |key| found[KEYS.iter().position(|k| *k == key).unwrap()].as_str();
        assert_eq!(
            ["slots", "insecure", "name", "threads", "log", "grace"].map(of),
            [
                "--slots",
                "SWEEP_INSECURE",
                "w.yaml",
                "w.yaml",
                "default",
                "default"
            ]
        );
    }

    #[test]
    fn slots_fill_the_cores_with_their_threads() {
        let slots = |threads, cores| {
            let flags = Flags {
                threads,
                ..Flags::default()
            };
            resolve(None, &BTreeMap::new(), &flags, room(cores))
                .unwrap()
                .slots
        };
        assert_eq!(
            [slots(None, 8), slots(Some(3), 8), slots(Some(16), 8)],
            [8, 2, 1]
        );
    }

    #[test]
    fn every_bad_value_is_named_and_unknown_keys_are_shown_in_their_place() {
        let variables = environment(&[("SWEEP_SLOTS", "0"), ("SWEEP_GRACE", "soon")]);
        let flags = Flags {
            threads: Some(0),
            ..Flags::default()
        };
        let error = resolve(None, &variables, &flags, room(1))
            .unwrap_err()
            .to_string();
        for key in ["slots", "threads", "grace"] {
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
        let file = Some(("w.yaml", "slotz: 2\nsolts: 3\n"));
        let error = resolve(file, &BTreeMap::new(), &Flags::default(), room(1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("w.yaml:1:1") && error.contains("did you mean `slots`"),
            "{error}"
        );
        assert!(error.contains("w.yaml:2:1"), "{error}");
    }

    #[test]
    fn a_grace_of_minus_nothing_is_printed_as_nothing() {
        let file = Some(("w.yaml", "grace: -0.0\n"));
        let settings = resolve(file, &BTreeMap::new(), &Flags::default(), room(1)).unwrap();
        assert!(
            settings
                .to_yaml(&vec!["x".to_owned(); 64])
                .contains("grace: 0 ")
        );
    }

    #[test]
    fn what_is_printed_reads_back() {
        let flags = Flags {
            name: Some("a: \"b\"".into()),
            slot_memory: Some(5),
            ..Flags::default()
        };
        let found = resolve(None, &BTreeMap::new(), &flags, room(3)).unwrap();
        let origins = origins(None, &BTreeMap::new(), &flags).unwrap();
        assert_eq!(origins[3..5], ["--name", "default"]);
        let text = found.to_yaml(&origins);
        let again = resolve(
            Some(("w", &text)),
            &BTreeMap::new(),
            &Flags::default(),
            room(1),
        )
        .unwrap();
        assert_eq!(found, again);
    }
}
