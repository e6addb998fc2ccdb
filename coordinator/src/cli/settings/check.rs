//! From texts to values, all mistakes at once.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FailOn, HttpSettings, Secret, Settings};
use crate::cli::log::Log;
use crate::launch;
use crate::notify::NotifyUrl;
use crate::progress::Display;
use crate::store::Address;
use crate::sweep::KeepMinima;
use crate::tls::{Files, Tls};

/// Checks the values of all keys, each with its origin.
///
/// # Errors
/// A line for each mistake.
pub(super) fn check(origins: &[(&'static str, String, String)]) -> Result<Settings, String> {
    let mut check = Check {
        origins,
        mistakes: Vec::new(),
        unusable: Vec::new(),
        warnings: Vec::new(),
    };
    let (listen, http) = (check.address("listen"), check.address("http"));
    let tls = check.tls(listen, http);
    let advertise = check.advertise();
    let launch = check.launch(listen, advertise.is_some());
    let local_workers = check.local_workers();
    let minima = match check.text("minima") {
        "worst" => KeepMinima::Worst,
        "all" => KeepMinima::All,
        "none" => KeepMinima::None,
        _ => check.wrong("minima", "none of worst, all, none", KeepMinima::Worst),
    };
    let progress = <Display as clap::ValueEnum>::from_str(check.text("progress"), false);
    let progress = progress.unwrap_or_else(|_| {
        let what = "none of auto, bar, plain, json, none";
        check.wrong("progress", what, Display::default())
    });
    let fail_on = match check.text("fail_on") {
        "" | "nothing" => FailOn::Nothing,
        "violation" => FailOn::Violation,
        _ => {
            let what = "not `violation`, which is all there is";
            check.wrong("fail_on", what, FailOn::Nothing)
        }
    };
    if check.text("cpu_level") != common::math::NUMERIC_LEVEL {
        let what = "no numeric level of this version; it has one, fma64-1";
        check.wrong("cpu_level", what, ());
    }
    let [token, admin_token, http_token] = check.tokens();
    let notify = check.notify();
    let otlp = check.otlp();
    let http = http.map(|address| HttpSettings {
        address,
        hosts: names(check.text("http_host")),
        token: http_token,
    });
    let log = Log::new(check.text("log"), check.text("log_format")).unwrap_or_else(|message| {
        check.unusable.push(format!("error: {message}"));
        Log::default()
    });
    let store = check.store();
    let out = check.text("out");
    let out = (!out.is_empty()).then(|| PathBuf::from(out));
    check.folder("out", out.as_deref());
    let Check {
        mut mistakes,
        unusable,
        warnings,
        ..
    } = check;
    mistakes.extend(unusable);
    let store = match store {
        Some(store) if mistakes.is_empty() => store,
        _ => return Err(mistakes.join("\n")),
    };
    Ok(Settings {
        listen,
        store,
        out,
        local_workers,
        minima,
        progress,
        fail_on,
        token,
        admin_token,
        http,
        notify,
        otlp,
        tls: tls.map(Arc::new),
        log,
        launch,
        advertise,
        warnings,
    })
}

/// The values under way, and what is wrong with them.
struct Check<'a> {
    /// Key, value, where it came from.
    origins: &'a [(&'static str, String, String)],
    /// Values that are none.
    mistakes: Vec<String>,
    /// Values that are, and cannot be used here.
    unusable: Vec<String>,
    warnings: Vec<String>,
}

impl<'a> Check<'a> {
    /// Value and origin of a key.
    fn of(&self, key: &str) -> (&'a str, &'a str) {
        let found = self.origins.iter().find(|o| o.0 == key);
        found.map_or(("", ""), |o| (o.1.as_str(), o.2.as_str()))
    }

    fn text(&self, key: &str) -> &'a str {
        self.of(key).0
    }

    /// Notes a mistake, and goes on with another value.
    fn wrong<T>(&mut self, key: &str, what: &str, instead: T) -> T {
        let (value, origin) = self.of(key);
        let mistake = format!("error: {origin}: `{value}` is {what}");
        self.mistakes.push(mistake);
        instead
    }

    fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let address = self.text(key);
        let found = address.to_socket_addrs().ok().and_then(|mut a| a.next());
        if found.is_none() && !address.is_empty() {
            let what = "no address; write HOST:PORT, for example 0.0.0.0:7878";
            self.wrong(key, what, ());
        }
        found
    }

    /// Certificates, and whether the addresses may go without.
    fn tls(&mut self, listen: Option<SocketAddr>, http: Option<SocketAddr>) -> Option<Tls> {
        let insecure = match self.text("insecure") {
            "true" | "1" => true,
            "false" | "0" | "" => false,
            _ => self.wrong("insecure", "neither true nor false", false),
        };
        let files = tls_files(|key| self.text(key)).unwrap_or_else(|message| {
            self.unusable.push(format!("error: {message}"));
            None
        });
        let in_the_clear = self.text("tls_cert").is_empty();
        for (key, address) in [("listen", listen), ("http", http)] {
            let Some(address) = address.filter(|a| in_the_clear && !a.ip().is_loopback()) else {
                continue;
            };
            if insecure {
                self.warnings.push(format!(
                    "--insecure: {address} is open to the network without TLS; whoever can \
                     listen there reads the token and every result"
                ));
            } else {
                let what = "open to the network, so tokens and results would travel in the \
                            clear; give --tls-cert and --tls-key (`coordinator certs` makes some \
                            to begin with), listen on loopback behind a tunnel, or say --insecure";
                self.wrong(key, what, ());
            }
        }
        let files = files?;
        self.warnings.extend(files.warning());
        Tls::load(files)
            .map_err(|error| self.unusable.push(format!("error: TLS: {error}")))
            .ok()
    }

    fn advertise(&mut self) -> Option<String> {
        let address = self.text("advertise");
        if !address.is_empty() && !is_host_and_port(address) {
            let what = "no address; write HOST:PORT, for example sweeps.example.org:7878";
            self.wrong("advertise", what, ());
        }
        (!address.is_empty()).then(|| address.to_owned())
    }

    fn launch(&mut self, listen: Option<SocketAddr>, advertised: bool) -> Option<launch::Plan> {
        let how = self.text("launch");
        if how.is_empty() {
            return None;
        }
        match listen {
            Some(address) if address.ip().is_loopback() && !advertised => {
                self.warnings.push(format!(
                    "--launch: workers on other machines cannot reach {address}; --listen on an \
                     address that they can, or --advertise one that leads here"
                ));
            }
            Some(_) => {}
            None => {
                let what = "of no use without --listen HOST:PORT: workers could not connect";
                self.wrong("launch", what, ());
            }
        }
        launch::Plan::read(how)
            .map_err(|error| {
                let lines = error.lines().map(|line| format!("error: --launch: {line}"));
                self.unusable.extend(lines);
            })
            .ok()
    }

    fn local_workers(&mut self) -> u32 {
        match self.text("local_workers") {
            // Who has others compute is perhaps on a machine that many share.
            "" if !self.text("launch").is_empty() => 0,
            "" => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            number => match number.parse() {
                Ok(count) if count <= 4096 => count,
                _ => self.wrong("local_workers", "no number from 0 to 4096", 0),
            },
        }
    }

    /// Those of the workers, of the administration and of the dashboard; no two are equal.
    fn tokens(&mut self) -> [Option<Secret>; 3] {
        let tokens = [
            self.secret("token_file", "SWEEP_TOKEN"),
            self.secret("admin_token_file", "SWEEP_ADMIN_TOKEN"),
            self.secret("http_token_file", "SWEEP_HTTP_TOKEN"),
        ];
        let whose = ["the workers'", "the administration's", "the dashboard's"];
        for (at, token) in tokens.iter().enumerate() {
            for (other, earlier) in tokens[..at].iter().enumerate() {
                if let (Some(token), Some(earlier)) = (token, earlier)
                    && token.0 == earlier.0
                {
                    let (own, others) = (whose[at], whose[other]);
                    let line = format!("error: {own} token is {others}: give it another one");
                    self.unusable.push(line);
                }
            }
        }
        tokens
    }

    fn secret(&mut self, key: &str, variable: &str) -> Option<Secret> {
        let token = match self.text(key) {
            "" => std::env::var(variable).ok()?,
            path => match common::secret::read(Path::new(path)) {
                Ok(token) => {
                    let own = rustix::process::geteuid().as_raw();
                    let exposed = common::secret::exposed(Path::new(path), own);
                    self.warnings.extend(exposed);
                    token
                }
                Err(error) => {
                    let what = format!("no file that can be read: {error}");
                    return self.wrong(key, &what, None);
                }
            },
        };
        let token = token.trim();
        if token.is_empty() {
            return None;
        }
        if token.len() < 16 {
            self.unusable.push(format!(
                "error: {variable}: the token is shorter than 16 characters"
            ));
        }
        // Anything else would never arrive: it travels in a header.
        if !token.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            let text = "the token has characters that no header may have";
            self.unusable.push(format!("error: {variable}: {text}"));
        }
        Some(Secret(token.to_owned()))
    }

    fn notify(&mut self) -> Option<NotifyUrl> {
        match self.text("notify") {
            "" => None,
            url => url
                .parse()
                // The value may contain a secret, so it is not repeated.
                .map_err(|error| self.unusable.push(format!("error: notify: {error}")))
                .ok(),
        }
    }

    fn otlp(&mut self) -> Option<String> {
        let url = match self.text("otlp") {
            "" => return None,
            url => url.to_owned(),
        };
        match common::traces::check_url(&url) {
            Ok(()) => Some(url),
            Err(error) => {
                self.unusable.push(format!("error: otlp: {error}"));
                None
            }
        }
    }

    fn store(&mut self) -> Option<Address> {
        let (text, from) = self.of("store");
        let store = text.parse::<Address>();
        match &store {
            // The value may contain a password, so it is not repeated.
            Err(error) => self.unusable.push(format!("error: {from}: {error}")),
            Ok(Address::Postgres(url)) if url.has_password() && from == "--store" => {
                self.unusable.push(
                    "error: --store: a password in an argument is seen by everybody on this \
                     machine; put the address into SWEEP_STORE or the file of --config, or the \
                     password into PGPASSWORD or a password file (~/.pgpass)"
                        .to_owned(),
                );
            }
            Ok(Address::Directory(folder)) => self.folder("store", Some(folder)),
            Ok(Address::Postgres(_)) => {}
        }
        store.ok()
    }

    /// Whether there can be a folder; it is made when everything else is right.
    fn folder(&mut self, key: &str, path: Option<&Path>) {
        if let Some(obstacle) = path.and_then(obstacle) {
            self.wrong(key, &obstacle, ());
        }
    }
}

/// Why a path can be no folder, as far as a look tells.
fn obstacle(path: &Path) -> Option<String> {
    for at in path.ancestors() {
        let here = if at.as_os_str().is_empty() {
            Path::new(".")
        } else {
            at
        };
        match std::fs::metadata(here) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) if at == path => return Some("a file; name a folder".to_owned()),
            Ok(_) => {
                let file = here.display();
                return Some(format!("below the file {file}; name a folder"));
            }
            // Not there, or not to be looked at: what it lies in tells more.
            Err(_) => {}
        }
    }
    None
}

/// Whether a text is a host and a port; whether the host exists is for others to know.
fn is_host_and_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    parts.is_some_and(|(host, port)| {
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

/// Names with commas between.
fn names(text: &str) -> Vec<String> {
    text.split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The files of TLS, or what is missing.
fn tls_files<'a>(text: impl Fn(&str) -> &'a str) -> Result<Option<Files>, &'static str> {
    let (certificate, key, ca) = (text("tls_cert"), text("tls_key"), text("tls_client_ca"));
    match (certificate, key, ca) {
        ("", "", "") => Ok(None),
        (_, "", _) => Err("--tls-cert and --tls-client-ca need --tls-key"),
        ("", _, _) => Err("--tls-key and --tls-client-ca need --tls-cert"),
        _ => Ok(Some(Files {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: (!ca.is_empty()).then(|| ca.into()),
        })),
    }
}
