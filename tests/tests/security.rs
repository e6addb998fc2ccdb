//! Who may join and who may not: tokens, certificates, secrets. What strangers can do to a sweep: nothing.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{
    PATIENCE, RunningSweep, children, coordinator, output, program, wait, worker,
};
use tests::scene::url_of;
use tests::strangers::{garbage, port_of, say};

const GRID: &str = r#"
version: 1
name: guarded
data: diabetes
axes:
  activation: [tanh, softplus]
  seed: {start: 0, count: 6}
fixed: {body: mlp, depth: 1, width: 4, loss: squared}
"#;
const TOKEN: &str = "a token of the test's own";

struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("grid.yaml"), GRID).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An authority and certificates; twice the same name gives the same ones.
    fn certificates(&self, name: &str) -> PathBuf {
        let out = self.path(name);
        if !out.exists() {
            let mut command = coordinator();
            command.args(["certs", "--host", "cluster.example", "--out"]);
            let run = output(command.arg(&out));
            assert!(run.status.success(), "{run:?}");
        }
        out
    }

    /// A sweep by a program; the name is that of its store and its results.
    fn sweep_by(&self, program: Command, name: &str, local_workers: u32) -> Command {
        let mut command = program;
        command
            .arg("--grid")
            .arg(self.path("grid.yaml"))
            .arg("--store")
            .arg(self.path(name))
            .arg("--out")
            .arg(self.path(&format!("{name}-out")))
            .args(["--local-workers", &local_workers.to_string()]);
        command
    }

    fn sweep(&self, name: &str, local_workers: u32) -> Command {
        self.sweep_by(coordinator(), name, local_workers)
    }

    fn summary(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}-out")).join("summary.json")).unwrap()
    }

    /// The summary of a run that nobody disturbs.
    fn undisturbed(&self) -> String {
        let run = output(&mut self.sweep("undisturbed", 1));
        assert!(run.status.success(), "{run:?}");
        self.summary("undisturbed")
    }
}

/// The coordinator's options for mutual TLS.
fn mutual_tls<'a>(command: &'a mut Command, certificates: &Path) -> &'a mut Command {
    command
        .arg("--tls-cert")
        .arg(certificates.join("server.pem"))
        .arg("--tls-key")
        .arg(certificates.join("server-key.pem"))
        .arg("--tls-client-ca")
        .arg(certificates.join("ca.pem"))
}

/// A worker that knows an authority and the token.
fn knowing(url: &str, authority: &Path) -> Command {
    let mut command = worker();
    command
        .args(["--connect", url, "--slots", "1", "--ca-file"])
        .arg(authority.join("ca.pem"))
        .env("SWEEP_TOKEN", TOKEN);
    command
}

/// Shows certificates of an authority.
fn showing(mut command: Command, authority: &Path) -> Command {
    command
        .arg("--cert-file")
        .arg(authority.join("worker.pem"))
        .arg("--key-file")
        .arg(authority.join("worker-key.pem"));
    command
}

fn error_of(run: &Output) -> String {
    String::from_utf8_lossy(&run.stderr).into_owned()
}

/// A command that must end with exit code 2 and say all of this.
fn refused(command: &mut Command, parts: &[&str]) {
    let run = output(command);
    let text = error_of(&run);
    assert_eq!(run.status.code(), Some(2), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
}

#[test]
fn mutual_tls_changes_no_byte_of_the_summary() {
    let scene = Scene::new();
    let undisturbed = scene.undisturbed();
    let own = scene.certificates("own");

    let mut command = scene.sweep("remote", 0);
    mutual_tls(&mut command, &own)
        .args(["--listen", "0.0.0.0:0"])
        .env("SWEEP_TOKEN", TOKEN);
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);
    assert!(url.starts_with("https://"), "{url}");
    let mut joined = showing(knowing(&url, &own), &own).spawn().unwrap();
    assert!(sweep.finish().success());
    assert!(wait(&mut joined).success());
    assert_eq!(scene.summary("remote"), undisturbed);

    // Local workers need no certificate, whatever --listen asks of others.
    let mut command = scene.sweep("local", 2);
    mutual_tls(&mut command, &own)
        .args(["--listen", "0.0.0.0:0"])
        .env("SWEEP_TOKEN", TOKEN);
    let run = output(&mut command);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("local"), undisturbed);
}

#[test]
fn who_cannot_prove_what_is_asked_is_told_so_and_the_sweep_is_unharmed() {
    let scene = Scene::new();
    let undisturbed = scene.undisturbed();
    let (own, other) = (scene.certificates("own"), scene.certificates("other"));
    let mut command = scene.sweep("guarded", 0);
    mutual_tls(&mut command, &own)
        .args(["--listen", "0.0.0.0:0"])
        .env("SWEEP_TOKEN", TOKEN);
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);

    let mut wrong_authority = showing(knowing(&url, &other), &own);
    refused(
        &mut wrong_authority,
        &["not from the authority in `ca_file`"],
    );
    let mut wrong_name = showing(knowing(&url, &own), &own);
    wrong_name.args(["--server-name", "elsewhere.example"]);
    let parts = ["not for elsewhere.example, but for", "cluster.example"];
    refused(&mut wrong_name, &parts);
    let mut no_certificate = knowing(&url, &own);
    refused(&mut no_certificate, &["`cert_file` and `key_file`"]);
    let mut unknown_certificate = showing(knowing(&url, &own), &other);
    let parts = ["does not know the authority of this worker's certificate"];
    refused(&mut unknown_certificate, &parts);
    let mut wrong_token = showing(knowing(&url, &own), &own);
    wrong_token.env("SWEEP_TOKEN", "another token altogether");
    refused(&mut wrong_token, &["token"]);
    let mut no_token = showing(knowing(&url, &own), &own);
    refused(no_token.env_remove("SWEEP_TOKEN"), &["token"]);
    let mut plain = worker();
    plain.args(["--connect", &url.replace("https", "http")]);
    refused(plain.env("SWEEP_TOKEN", TOKEN), &["https://"]);

    let port = port_of(&url);
    // What a browser, a scanner and a broken client would send.
    let answer = say(port, b"GET / HTTP/1.1\r\n\r\n");
    assert!(answer.contains("this port speaks TLS"), "{answer}");
    for garbage in garbage() {
        say(port, &garbage);
    }
    say(port, &[&[22, 3, 1, 0xff, 0xff][..], &garbage()[0]].concat());

    let mut right = showing(knowing(&url, &own), &own);
    let mut joined = right
        .args(["--server-name", "cluster.example"])
        .spawn()
        .unwrap();
    assert!(sweep.finish().success());
    assert!(wait(&mut joined).success());
    assert_eq!(scene.summary("guarded"), undisturbed);
}

#[test]
fn a_wrong_file_is_told_at_the_start_and_nothing_is_started() {
    let scene = Scene::new();
    let (own, other) = (scene.certificates("own"), scene.certificates("other"));
    let open = |files: &[(&str, PathBuf)]| {
        let mut command = scene.sweep("refused", 0);
        command
            .args(["--listen", "0.0.0.0:0"])
            .env("SWEEP_TOKEN", TOKEN);
        for (flag, file) in files {
            command.arg(flag).arg(file);
        }
        command
    };
    let (certificate, key) = (own.join("server.pem"), own.join("server-key.pem"));
    let text = scene.path("grid.yaml");
    refused(&mut open(&[]), &["--tls-cert", "--insecure"]);
    let parts = ["need --tls-key"];
    refused(&mut open(&[("--tls-cert", certificate.clone())]), &parts);
    let pair = |certificate: &Path, key: &Path| {
        [
            ("--tls-cert", certificate.to_owned()),
            ("--tls-key", key.to_owned()),
        ]
    };
    let nowhere = scene.path("no-such.pem");
    refused(
        &mut open(&pair(&nowhere, &key)),
        &["no-such.pem", "No such file"],
    );
    refused(
        &mut open(&pair(&text, &key)),
        &["grid.yaml holds no certificate"],
    );
    refused(
        &mut open(&pair(&certificate, &text)),
        &["holds no private key"],
    );
    let parts = ["does not belong to the certificate"];
    refused(
        &mut open(&pair(&certificate, &other.join("server-key.pem"))),
        &parts,
    );
    let damaged = scene.path("damaged.pem");
    let whole = fs::read_to_string(&certificate).unwrap();
    fs::write(&damaged, whole.replacen("MII", "!!!", 1)).unwrap();
    refused(
        &mut open(&pair(&damaged, &key)),
        &["damaged.pem is damaged"],
    );
    let mut mutual = pair(&certificate, &key).to_vec();
    mutual.push(("--tls-client-ca", text.clone()));
    refused(&mut open(&mutual), &["grid.yaml holds no certificate"]);
    let mut tokenless = open(&pair(&certificate, &key));
    refused(tokenless.env_remove("SWEEP_TOKEN"), &["need a token"]);
    assert!(!scene.path("refused").exists(), "nothing was started");

    // The worker's files, before it connects anywhere.
    let url = "https://127.0.0.1:9";
    refused(worker().args(["--connect", url]), &["`ca_file`"]);
    let mut command = knowing(url, &own);
    refused(
        command.arg("--cert-file").arg(&certificate),
        &["`key_file`"],
    );
    let mut command = knowing(url, &own);
    command.arg("--cert-file").arg(own.join("worker.pem"));
    command.arg("--key-file").arg(other.join("worker-key.pem"));
    refused(&mut command, &["does not belong to the certificate"]);
    let mut command = worker();
    command.args(["--connect", url, "--ca-file"]).arg(&text);
    refused(&mut command, &["`ca_file`", "holds no certificate"]);
    refused(
        worker().args(["--connect", "http://192.0.2.1:9"]),
        &["--insecure"],
    );
}

#[test]
fn plain_text_on_a_network_is_allowed_only_loudly() {
    let scene = Scene::new();
    let mut command = scene.sweep("bold", 1);
    command
        .args(["--listen", "0.0.0.0:0", "--insecure", "--progress", "none"])
        .env("SWEEP_TOKEN", TOKEN);
    let run = output(&mut command);
    let text = error_of(&run);
    assert!(run.status.success(), "{text}");
    assert!(text.contains("WARNING: --insecure"), "{text}");
    assert!(text.contains("without TLS"), "{text}");
}

#[test]
fn a_secret_that_others_can_read_is_pointed_out() {
    let scene = Scene::new();
    let token = scene.path("token");
    fs::write(&token, TOKEN).unwrap();
    let own = scene.certificates("own");
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = scene.sweep(&format!("mode-{mode:o}"), 1);
        command
            .args(["--listen", "127.0.0.1:0", "--token-file"])
            .arg(&token);
        let run = output(&mut command);
        let text = error_of(&run);
        assert!(run.status.success(), "{text}");
        assert_eq!(
            text.contains("others on this machine can read"),
            warned,
            "{text}"
        );
    }
    let key = own.join("server-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let mut command = scene.sweep("key", 1);
    mutual_tls(&mut command, &own).args(["--listen", "127.0.0.1:0"]);
    let run = output(command.env("SWEEP_TOKEN", TOKEN));
    let text = error_of(&run);
    assert!(text.contains("server-key.pem; chmod 600"), "{text}");
}

#[test]
fn new_certificates_are_used_without_a_restart() {
    let scene = Scene::new();
    let (own, next) = (scene.certificates("own"), scene.certificates("next"));
    let mut command = scene.sweep("renewed", 0);
    mutual_tls(&mut command, &own)
        .args(["--listen", "127.0.0.1:0"])
        .env("SWEEP_TOKEN", TOKEN);
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);
    let mut early = showing(knowing(&url, &next), &next);
    refused(&mut early, &["not from the authority in `ca_file`"]);
    for name in ["server.pem", "server-key.pem", "ca.pem"] {
        fs::copy(next.join(name), own.join(name)).unwrap();
    }
    // They are looked at once a second at most.
    let began = Instant::now();
    while !output(&mut showing(knowing(&url, &next), &next))
        .status
        .success()
    {
        assert!(
            began.elapsed() < PATIENCE,
            "the new certificates are not used"
        );
    }
    assert!(sweep.finish().success());
}

#[test]
fn certificates_are_made_once_and_their_keys_are_private() {
    let scene = Scene::new();
    let out = scene.certificates("own");
    let before: Vec<Vec<u8>> = files(&out).iter().map(|f| fs::read(f).unwrap()).collect();
    assert_eq!(before.len(), 6);
    for file in files(&out) {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let is_key = file.to_string_lossy().contains("-key");
        assert_eq!(
            mode,
            if is_key { 0o600 } else { 0o644 },
            "{}",
            file.display()
        );
    }
    fs::remove_file(out.join("server.pem")).unwrap();
    let mut again = coordinator();
    again.args(["certs", "--out"]).arg(&out);
    refused(&mut again, &["ca.pem", "nothing is overwritten"]);
    assert!(!out.join("server.pem").exists(), "all or nothing");
    let mut odd = coordinator();
    odd.args(["certs", "--host", "no name", "--out"])
        .arg(scene.path("odd"));
    refused(&mut odd, &["--host no name"]);
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

/// What others can see of all processes: their arguments.
fn arguments() -> Vec<u8> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|e| fs::read(e.path().join("cmdline")).ok())
        .flatten()
        .collect()
}

/// The programs with everything logged; a `worker` stands beside the
/// coordinator that writes down the token that it gets, and passes it on.
#[test]
fn tokens_are_in_no_log_no_argument_no_environment_of_a_slot_and_no_store() {
    let scene = Scene::new();
    let bin = scene.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy(program("coordinator"), bin.join("coordinator")).unwrap();
    let (spy, told) = (bin.join("worker"), scene.path("told"));
    let script = format!(
        "#!/bin/sh\nread -r token\nprintf '%s\\n' \"$token\" >> '{}'\n\
         {{ printf '%s\\n' \"$token\"; exec cat; }} | '{}' \"$@\"\n",
        told.display(),
        program("worker").display()
    );
    fs::write(&spy, script).unwrap();
    fs::set_permissions(&spy, fs::Permissions::from_mode(0o755)).unwrap();

    let logs = scene.path("logs");
    fs::create_dir(&logs).unwrap();
    let log = |name: &str| fs::File::create(logs.join(name)).unwrap();
    let own = scene.certificates("own");
    let mut command = scene.sweep_by(Command::new(bin.join("coordinator")), "quiet", 1);
    mutual_tls(&mut command, &own)
        .args(["--listen", "0.0.0.0:0", "--progress", "plain"])
        .env("SWEEP_TOKEN", TOKEN)
        .env("SWEEP_LOG", "trace")
        .stdin(std::process::Stdio::null())
        .stdout(log("coordinator.out"))
        .stderr(log("coordinator.err"));
    let mut sweep = command.spawn().unwrap();
    let began = Instant::now();
    let url = loop {
        let said = fs::read_to_string(logs.join("coordinator.err")).unwrap_or_default();
        if let Some((_, rest)) = said.split_once("worker --connect ")
            && let Some((url, _)) = rest.split_once('\n')
        {
            break url.to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
    };
    let mut joined = showing(knowing(&url, &own), &own);
    joined
        .env("SWEEP_LOG", "trace")
        .stdout(log("worker.out"))
        .stderr(log("worker.err"));
    let mut joined = joined.spawn().unwrap();
    let (mut seen, mut environments) = (Vec::new(), Vec::new());
    while sweep.try_wait().unwrap().is_none() {
        seen.extend(arguments());
        for slot in children(joined.id()) {
            environments.extend(fs::read(format!("/proc/{slot}/environ")).unwrap_or_default());
        }
        assert!(began.elapsed() < PATIENCE, "it hangs");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(wait(&mut sweep).success());
    assert!(wait(&mut joined).success());

    let told = fs::read_to_string(told).unwrap();
    let local = told.lines().next().unwrap();
    assert!(local.len() >= 32, "the spy has heard a token");
    assert!(holds(&seen, "--connect"), "arguments were seen");
    assert!(holds(&environments, "RAYON_NUM_THREADS"), "slots were seen");
    let logged = fs::read(logs.join("worker.err")).unwrap();
    assert!(holds(&logged, "TRACE"), "everything was logged");
    for token in [TOKEN, local] {
        assert!(
            !holds(&seen, token),
            "a token is in the arguments of a process"
        );
        assert!(!holds(&environments, token), "a slot has a token");
        for folder in ["logs", "quiet", "quiet-out"] {
            for file in files(&scene.path(folder)) {
                let content = fs::read(&file).unwrap();
                assert!(!holds(&content, token), "a token is in {}", file.display());
            }
        }
    }
}

/// Two providers in one program are a panic at the first handshake.
#[test]
fn there_is_one_provider_of_cryptography() {
    let lock = include_str!("../../Cargo.lock");
    assert!(lock.contains("name = \"ring\""));
    for name in ["aws-lc-rs", "aws-lc-sys", "openssl", "native-tls"] {
        assert!(
            !lock.contains(&format!("name = \"{name}\"")),
            "{name} came in"
        );
    }
}

/// The JSON of progress is still JSON when there is something to warn of.
#[test]
fn a_warning_among_json_is_json() {
    let scene = Scene::new();
    let mut command = scene.sweep("json", 1);
    command
        .args(["--listen", "0.0.0.0:0", "--insecure", "--progress", "json"])
        .env("SWEEP_TOKEN", TOKEN);
    let run = output(&mut command);
    let text = error_of(&run);
    let lines: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line["warning"] == true), "{text}");
}
