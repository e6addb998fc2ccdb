//! `--notify URL`: who is told, when, and over which connections.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use common::pb::{decode_evidence, encode_evidence};
use common::record::{Evidence, Outcome};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{PATIENCE, coordinator, output};

/// Somebody who is told.
struct Hook {
    address: SocketAddr,
    heard: Receiver<(String, Value)>,
}

impl Hook {
    fn http() -> Self {
        Self::listen(read_post)
    }

    fn https(certificates: &Path) -> Self {
        let file = |name: &str| certificates.join(name);
        let certificate = CertificateDer::from_pem_file(file("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(file("server-key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        Self::listen(move |stream, heard| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            read_post(StreamOwned::new(connection, stream), heard)
        })
    }

    fn listen(
        answer: impl Fn(TcpStream, &Sender<(String, Value)>) -> Option<()> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heard) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // A connection that breaks tells nothing.
                let _ = answer(stream, &sender);
            }
        });
        Self { address, heard }
    }

    /// What was heard up to now.
    fn heard(&self) -> Vec<(String, Value)> {
        self.heard.try_iter().collect()
    }
}

/// Hears the first line and the body of a request, then answers it; `None` if the connection breaks.
fn read_post(mut stream: impl Read + Write, heard: &Sender<(String, Value)>) -> Option<()> {
    let mut text = String::new();
    let mut part = [0; 4096];
    loop {
        let n = stream.read(&mut part).ok().filter(|n| *n > 0)?;
        text.push_str(&String::from_utf8_lossy(&part[..n]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let named = name.eq_ignore_ascii_case("content-length");
            named.then(|| value.trim().parse::<usize>().unwrap())
        });
        if body.len() >= length.expect("a POST says how long it is") {
            let line = head.lines().next().unwrap().to_owned();
            let body = serde_json::from_str(body).unwrap();
            // Whoever has the answer may look at once.
            heard.send((line, body)).ok()?;
            let answer = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).ok()?;
            return stream.flush().ok();
        }
    }
}

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sweep(&self, seeds: u32) -> Command {
        let grid = format!(
            "version: 1\nname: told\ndata: diabetes\naxes: {{seed: {{start: 0, count: {seeds}}}}}\n\
             fixed: {{body: mlp, depth: 1, width: 2, activation: tanh}}\n"
        );
        let file = self.path(&format!("{seeds}.yaml"));
        fs::write(&file, grid).unwrap();
        let mut command = coordinator();
        command
            .args(["--local-workers", "1", "--progress", "none", "--grid"])
            .arg(file)
            .arg("--store")
            .arg(self.path("store"));
        command
    }

    /// Puts a certified run above its baseline, as only a mistake of the program could.
    fn forge_a_violation(&self) {
        let database = self.path("store").join("store.sqlite3");
        let database = rusqlite::Connection::open(database).unwrap();
        let (number, evidence): (i64, Vec<u8>) = database
            .query_row(
                "SELECT result, evidence FROM results WHERE baseline = 0 LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        let Evidence::Run(mut run) = decode_evidence(&evidence).unwrap() else {
            panic!("a run is recorded as something else");
        };
        run.outcome = Outcome::CertifiedMinimum;
        run.value += 10.0;
        let forged = encode_evidence(&Evidence::Run(run)).to_vec();
        let sql = "UPDATE results SET evidence = ?1 WHERE result = ?2";
        let changed = database.execute(sql, rusqlite::params![forged, number]);
        assert_eq!(changed.unwrap(), 1, "the fault was injected");
    }

    fn certificates(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        let mut command = coordinator();
        let run = output(command.args(["certs", "--out"]).arg(&folder));
        assert!(run.status.success(), "{run:?}");
        folder
    }
}

fn succeeded(run: &Output) -> String {
    assert!(run.status.success(), "{run:?}");
    String::from_utf8_lossy(&run.stderr).into_owned()
}

#[test]
fn the_end_of_a_sweep_is_told() {
    let scene = Scene::new();
    let hook = Hook::http();
    let url = format!("http://{}/hook?key=1", hook.address);
    succeeded(&output(scene.sweep(2).args(["--notify", &url])));
    let heard = hook.heard();
    assert_eq!(heard.len(), 1, "{heard:#?}");
    let (line, told) = &heard[0];
    assert_eq!(line, "POST /hook?key=1 HTTP/1.1");
    assert_eq!(told["event"], "sweep_over");
    assert_eq!(
        (&told["sweep"]["name"], &told["sweep"]["state"]),
        (&"told".into(), &"finished".into())
    );
    assert_eq!(told["totals"]["recorded"], 2);
}

#[test]
fn the_first_violation_is_told_once_and_before_the_end() {
    let scene = Scene::new();
    succeeded(&output(&mut scene.sweep(3)));
    scene.forge_a_violation();
    // The extended grid takes over what is recorded.
    let hook = Hook::http();
    let url = format!("http://{}/", hook.address);
    let mut sweep = scene.sweep(40);
    let run = output(sweep.args(["--notify", &url, "--fail-on", "violation"]));
    assert_eq!(run.status.code(), Some(4), "{run:?}");
    let heard: Vec<Value> = hook.heard().into_iter().map(|(_, told)| told).collect();
    let events: Vec<_> = heard.iter().map(|told| told["event"].clone()).collect();
    assert_eq!(events, ["first_violation", "sweep_over"], "{heard:#?}");
    let violation = &heard[0];
    assert_eq!(violation["sweep"]["name"], "told");
    assert_eq!(violation["progress"]["violations"], 1);
    assert!(violation["progress"]["worst_excess"].as_f64().unwrap() > 1.0);
    assert_eq!(heard[1]["overall"]["verdict"], "violated");
}

#[test]
fn over_https_the_authority_must_be_one_that_is_trusted() {
    let scene = Scene::new();
    let certificates = scene.certificates("certs");
    let hook = Hook::https(&certificates);
    let url = format!("https://localhost:{}/hook", hook.address.port());
    let told = |authority: &Path| {
        let mut sweep = scene.sweep(2);
        sweep
            .args(["--notify", &url])
            .env("SSL_CERT_FILE", authority)
            .env_remove("SSL_CERT_DIR");
        succeeded(&output(&mut sweep))
    };
    // Somebody else's: nothing is sent, and the sweep is none the worse.
    let said = told(&scene.certificates("others").join("ca.pem"));
    assert!(said.contains("a notice was not sent"), "{said}");
    assert!(hook.heard().is_empty());
    // None at all.
    let said = told(&scene.path("no-such-file"));
    assert!(said.contains("SSL_CERT_FILE names a file"), "{said}");
    assert!(hook.heard().is_empty());
    let said = told(&certificates.join("ca.pem"));
    let heard = hook.heard();
    assert_eq!(heard.len(), 1, "{said}");
    assert_eq!(heard[0].0, "POST /hook HTTP/1.1");
    assert_eq!(heard[0].1["event"], "sweep_over");
}
