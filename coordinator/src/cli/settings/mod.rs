//! Settings in layers: defaults < file < environment < flags.

mod check;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use config::{Config, Map, Source, Value, ValueKind};
use serde_json::Value as Json;

use super::log::Log;
use crate::launch;
use crate::notify::NotifyUrl;
use crate::progress::Display;
use crate::store::Address;
use crate::sweep::KeepMinima;
use crate::tls::Tls;
use check::check;

/// What makes the exit code bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailOn {
    /// Errors only.
    #[default]
    Nothing,
    /// A violation inside the theorem, too.
    Violation,
}

/// Settings of a sweep.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where workers connect; a free port of the loopback interface if `None`.
    pub listen: Option<SocketAddr>,
    /// The store: a folder or a database.
    pub store: Address,
    /// Folder of the results; below the store if `None`.
    pub out: Option<PathBuf>,
    /// Local worker processes.
    pub local_workers: u32,
    /// Which minima are kept.
    pub minima: KeepMinima,
    /// How progress is shown.
    pub progress: Display,
    /// What makes the exit code bad.
    pub fail_on: FailOn,
    /// A token that lets remote workers join.
    pub token: Option<Secret>,
    /// A token that lets administrators in.
    pub admin_token: Option<Secret>,
    /// Dashboard, metrics and health; none of them if `None`.
    pub http: Option<HttpSettings>,
    /// Who is told of a sweep's end and of the first violation.
    pub notify: Option<NotifyUrl>,
    /// Collector of OpenTelemetry that gets the spans of attempts.
    pub otlp: Option<String>,
    /// TLS for `listen` and `http`; plain text if `None`.
    pub tls: Option<Arc<Tls>>,
    /// What is logged, and how.
    pub log: Log,
    /// Workers elsewhere that are started; none if `None`.
    pub launch: Option<launch::Plan>,
    /// `HOST:PORT` under which others reach `listen`, if it is not its own.
    pub advertise: Option<String>,
    /// What is allowed and should not be, for people.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Variables that make local workers log and trace alike.
    pub fn for_workers(&self) -> Vec<(&'static str, String)> {
        let mut variables = self.log.for_workers();
        variables.extend(self.otlp.clone().map(|url| ("SWEEP_OTLP", url)));
        variables
    }

    /// Those of a sweep that nobody outside takes part in.
    pub fn local(store: Address, local_workers: u32, progress: Display) -> Self {
        Self {
            listen: None,
            store,
            out: None,
            local_workers,
            minima: KeepMinima::None,
            progress,
            fail_on: FailOn::Nothing,
            token: None,
            admin_token: None,
            http: None,
            notify: None,
            otlp: None,
            tls: None,
            log: Log::default(),
            launch: None,
            advertise: None,
            warnings: Vec::new(),
        }
    }
}

/// Where the dashboard, metrics and health are served, and to whom.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Where browsers, scrapers and probes connect.
    pub address: SocketAddr,
    /// Names, beside addresses and that of the host, under which it may be called.
    pub hosts: Vec<String>,
    /// A token that lets people read; one is drawn for the run if `None`.
    pub token: Option<Secret>,
}

/// A secret that is never printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The flags; each also as a key of the file and as SWEEP_NAME in the environment.
#[derive(Args, Debug, Default)]
pub(super) struct Flags {
    /// Where workers connect [default: a free port on loopback]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// HOST:PORT under which workers and standbys reach --listen [default: its address, or this
    /// host's name where it listens on all]
    #[arg(long, value_name = "ADDR")]
    advertise: Option<String>,
    /// Start workers elsewhere: ssh:FILE with a host a line, or slurm:workers=N,cpus=N,time=T,…
    #[arg(long, value_name = "HOW")]
    launch: Option<String>,
    /// The store, results and what is needed to continue: a folder, or postgres://USER@HOST/NAME
    /// for a database that standbys share [default: ./sweeps]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Folder of the results [default: a folder of the sweep's name in the store]
    #[arg(long, value_name = "DIR")]
    out: Option<String>,
    /// Local worker processes, one thread each; 0 for none [default: as many as cores, none
    /// with --launch]
    #[arg(long, value_name = "N")]
    local_workers: Option<String>,
    /// Whose parameters are kept: worst, all, none [default: worst]
    #[arg(long, value_name = "WHICH")]
    minima: Option<String>,
    /// On standard error: auto (a bar on a terminal, else plain), bar, plain (lines), json (an object
    /// a line), none [default: auto]
    #[arg(long, value_name = "HOW")]
    progress: Option<String>,
    /// `violation`: exit with 4 if one is found inside the theorem
    #[arg(long, value_name = "WHAT")]
    fail_on: Option<String>,
    /// File with the token that lets remote workers join
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    token_file: Option<String>,
    /// File with the token that lets administrators in (`serve`)
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    admin_token_file: Option<String>,
    /// Where the dashboard, /metrics, /healthz and /readyz are served [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Further names, with commas between, under which --http may be called (behind a proxy, say)
    #[arg(long, value_name = "NAMES", hide_short_help = true)]
    http_host: Option<String>,
    /// File with the token that lets people and scrapers read [default: drawn for the run, and
    /// printed as a link]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    http_token_file: Option<String>,
    /// URL that gets a POST when a sweep is over and at the first violation inside the theorem; one
    /// with a secret in it belongs into SWEEP_NOTIFY
    #[arg(long, value_name = "URL", hide_short_help = true)]
    notify: Option<String>,
    /// Collector of OpenTelemetry (OTLP over gRPC) that gets a span for each attempt at a task, for
    /// example http://localhost:4317
    #[arg(long, value_name = "URL", hide_short_help = true)]
    otlp: Option<String>,
    /// Numeric level of the results; this version has one, fma64-1 [default: fma64-1]
    #[arg(long, value_name = "LEVEL", hide_short_help = true)]
    cpu_level: Option<String>,
    /// Certificate (PEM) that --listen shows: workers connect with https://
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tls_cert: Option<String>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tls_key: Option<String>,
    /// Authority (PEM) whose certificates workers must show: mutual TLS
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    tls_client_ca: Option<String>,
    /// Allow --listen beyond loopback without TLS: tokens and results travel in the clear
    #[arg(long, hide_short_help = true)]
    insecure: bool,
    /// What to log on standard error, for example `info` or `coordinator=debug` [default: error]
    #[arg(long, value_name = "FILTER", hide_short_help = true)]
    log: Option<String>,
    /// How to log: text, or json for an object a line [default: text]
    #[arg(long, value_name = "FORM", hide_short_help = true)]
    log_format: Option<String>,
    /// YAML file with any of these settings, for example `local_workers: 4` [env: SWEEP_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Where the workers of an audit come from; each flag is that of a sweep.
#[derive(Args, Debug, Default)]
pub(super) struct AuditFlags {
    /// Processes of this machine that compute; 0 for none [default: as many as cores]
    #[arg(long, value_name = "N")]
    local_workers: Option<String>,
    /// Where workers of other machines connect: worker --connect ADDR [default: none do]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// File with the token that lets them join
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// Certificate (PEM) that --listen shows
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Authority (PEM) whose certificates workers must show
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
}

impl AuditFlags {
    /// The settings of an audit with its own store in a folder.
    pub(super) fn settings(
        &self,
        store: &Path,
        insecure: bool,
        quiet: bool,
    ) -> Result<Settings, String> {
        let flags = Flags {
            local_workers: self.local_workers.clone(),
            listen: self.listen.clone(),
            token_file: self.token_file.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            tls_client_ca: self.tls_client_ca.clone(),
            insecure,
            store: Some(store.display().to_string()),
            progress: Some(if quiet { "none" } else { "plain" }.to_owned()),
            ..Flags::default()
        };
        let resolved = resolve(&flags)?;
        // What the environment says of the dashboard is about sweeps.
        Ok(Settings {
            http: None,
            notify: None,
            otlp: None,
            ..resolved.settings
        })
    }
}

/// Name and default of each setting.
const KEYS: [(&str, &str); 23] = [
    ("listen", ""),
    ("advertise", ""),
    ("launch", ""),
    ("store", "./sweeps"),
    ("out", ""),
    ("local_workers", ""),
    ("minima", "worst"),
    ("progress", "auto"),
    ("fail_on", ""),
    ("token_file", ""),
    ("admin_token_file", ""),
    ("http", ""),
    ("http_host", ""),
    ("http_token_file", ""),
    ("notify", ""),
    ("otlp", ""),
    ("tls_cert", ""),
    ("tls_key", ""),
    ("tls_client_ca", ""),
    ("cpu_level", common::math::NUMERIC_LEVEL),
    ("insecure", "false"),
    ("log", "error"),
    ("log_format", "text"),
];

/// Adds to the help of each setting how else it can be given.
pub(super) fn with_variables(mut command: clap::Command) -> clap::Command {
    for (key, _) in KEYS {
        command = command.mut_arg(key, |arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let variable = format!("SWEEP_{}", key.to_uppercase());
            arg.long_help(format!("{help}\n[env: {variable}] [key: {key}]"))
        });
    }
    command
}

impl Flags {
    fn get(&self, key: &str) -> Option<String> {
        match key {
            "listen" => self.listen.clone(),
            "advertise" => self.advertise.clone(),
            "launch" => self.launch.clone(),
            "store" => self.store.clone(),
            "out" => self.out.clone(),
            "local_workers" => self.local_workers.clone(),
            "minima" => self.minima.clone(),
            "progress" => self.progress.clone(),
            "fail_on" => self.fail_on.clone(),
            "token_file" => self.token_file.clone(),
            "admin_token_file" => self.admin_token_file.clone(),
            "http" => self.http.clone(),
            "http_host" => self.http_host.clone(),
            "http_token_file" => self.http_token_file.clone(),
            "notify" => self.notify.clone(),
            "otlp" => self.otlp.clone(),
            "tls_cert" => self.tls_cert.clone(),
            "tls_key" => self.tls_key.clone(),
            "tls_client_ca" => self.tls_client_ca.clone(),
            "cpu_level" => self.cpu_level.clone(),
            "insecure" => self.insecure.then(|| "true".to_owned()),
            "log" => self.log.clone(),
            "log_format" => self.log_format.clone(),
            _ => None,
        }
    }
}

/// Settings, and where each came from.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) settings: Settings,
    /// Name, value as text, origin.
    origins: Vec<(&'static str, String, String)>,
}

impl Resolved {
    /// As a file for --config would have it, with the origin of each value beside it.
    pub(super) fn describe(&self) -> String {
        let rows: Vec<(String, &str)> = (self.origins.iter())
            .map(|(name, value, origin)| (format!("{name}: {}", scalar(value)), origin.as_str()))
            .collect();
        let width = rows
            .iter()
            .map(|row| row.0.chars().count())
            .max()
            .unwrap_or(0);
        rows.iter()
            .map(|(setting, origin)| format!("{setting:width$}  # {}\n", origin.escape_debug()))
            .collect()
    }
}

/// A value in YAML; nothing is `null`, which reads as not given.
fn scalar(value: &str) -> String {
    match value {
        "" => "null".to_owned(),
        "true" | "false" => value.to_owned(),
        number if number.parse::<u64>().is_ok() => number.to_owned(),
        text => Json::from(text).to_string(),
    }
}

/// A YAML file as a layer.
#[derive(Clone, Debug)]
struct YamlFile {
    values: Map<String, Value>,
}

impl YamlFile {
    fn read(path: &PathBuf) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("--config {}: {e}", path.display()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        use common::diagnostic::Diagnostics;
        use common::node::{self, Limits};
        let source = common::diagnostic::Source {
            name: path.display().to_string(),
            text: text.to_owned(),
        };
        let mut found = Diagnostics::new();
        let root = node::parse(text, Limits::GRID, &mut found);
        let mut values = Map::new();
        if let Some(root) = root {
            settings_of(&root, path, &mut values, &mut found);
        }
        if found.has_errors() {
            return Err(found.render(&source, false));
        }
        Ok(Self { values })
    }
}

/// Checks the form of a configuration file; what its values name is not looked at.
///
/// # Errors
/// All mistakes, as text for people.
pub fn check_configuration(name: &str, text: &str) -> Result<(), String> {
    YamlFile::parse(Path::new(name), text).map(drop)
}

fn settings_of(
    root: &common::node::Node,
    path: &Path,
    values: &mut Map<String, Value>,
    found: &mut common::diagnostic::Diagnostics,
) {
    use common::diagnostic::Diagnostic;
    let Some(map) = root.as_map() else {
        found.push(Diagnostic::error(
            root.span,
            "settings are a map of names and values",
        ));
        return;
    };
    for entry in map.iter() {
        if !KEYS.iter().any(|(key, _)| *key == entry.key) {
            let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
            let mistake = Diagnostic::error(
                entry.key_span,
                format!("there is no setting `{}`", entry.key),
            );
            found.push(mistake.help(format!("the settings are {}", known.join(", "))));
            continue;
        }
        match text_of(&entry.value) {
            Some(text) => {
                let origin = path.display().to_string();
                let value = Value::new(Some(&origin), ValueKind::String(text));
                values.insert(entry.key.clone(), value);
            }
            None => found.push(Diagnostic::error(
                entry.value.span,
                format!("`{}` is one value, not a list or a map", entry.key),
            )),
        }
    }
}

/// A plain value as text.
fn text_of(node: &common::node::Node) -> Option<String> {
    use common::node::Value as NodeValue;
    match &node.value {
        NodeValue::Null => Some(String::new()),
        NodeValue::Bool(b) => Some(b.to_string()),
        NodeValue::Int(i) => Some(i.to_string()),
        NodeValue::Float(x) => Some(x.to_string()),
        NodeValue::Str(text) => Some(text.clone()),
        NodeValue::Seq(_) | NodeValue::Map(_) | NodeValue::Invalid => None,
    }
}

impl Source for YamlFile {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.values.clone())
    }
}

/// Puts the layers on top of each other.
///
/// # Errors
/// What is wrong with a value, and where it came from.
pub(super) fn resolve(flags: &Flags) -> Result<Resolved, String> {
    let path = flags
        .config
        .clone()
        .or_else(|| std::env::var_os("SWEEP_CONFIG").map(PathBuf::from));
    let file = path.as_ref().map(YamlFile::read).transpose()?;
    let mut builder = Config::builder();
    let failed = |e: config::ConfigError| e.to_string();
    for (key, default) in KEYS {
        builder = builder.set_default(key, default).map_err(failed)?;
    }
    if let Some(file) = &file {
        builder = builder.add_source(file.clone());
    }
    builder = builder.add_source(config::Environment::with_prefix("SWEEP"));
    for (key, _) in KEYS {
        builder = builder
            .set_override_option(key, flags.get(key))
            .map_err(failed)?;
    }
    let config = builder.build().map_err(failed)?;
    let mut origins = Vec::new();
    for (key, _) in KEYS {
        let value = config.get_string(key).map_err(failed)?;
        let variable = format!("SWEEP_{}", key.to_uppercase());
        let origin = if flags.get(key).is_some() {
            format!("--{}", key.replace('_', "-"))
        } else if std::env::var_os(&variable).is_some() {
            variable
        } else if let (Some(path), Some(file)) = (&path, &file)
            && file.values.contains_key(key)
        {
            path.display().to_string()
        } else {
            "default".to_owned()
        };
        origins.push((key, value, origin));
    }
    let settings = check(&origins)?;
    for (key, value, _) in &mut origins {
        if *key == "store" {
            // Without the password that may stand in it.
            *value = settings.store.to_string();
        }
        if let ("notify", Some(url)) = (*key, &settings.notify) {
            *value = url.to_string();
        }
    }
    Ok(Resolved { settings, origins })
}

/// The defaults but for store and local workers, whatever file and environment say.
///
/// # Errors
/// What is wrong with a value.
pub(crate) fn bare(store: &Path, local_workers: u32) -> Result<Settings, String> {
    let of = |(key, default): (&'static str, &str)| {
        let value = match key {
            "store" => store.display().to_string(),
            "local_workers" => local_workers.to_string(),
            "progress" => "none".to_owned(),
            _ => default.to_owned(),
        };
        (key, value, "default".to_owned())
    };
    check(&KEYS.map(of))
}
