//! `--http`: who may see and change what, and the pages in a real browser.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use tests::processes::{PATIENCE, RunningSweep, coordinator, output, worker};
use tests::web::{Answer, Browser, request};

const ADMIN: &str = "a token of the test's administrator";

/// A sweep with a dashboard.
struct Scene {
    folder: TempDir,
    running: RunningSweep,
    address: String,
    token: String,
}

impl Scene {
    fn new(seeds: u32, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The seed comes first, so that every cell is met at once.
        let grid = format!(
            "version: 1\nname: quagga\ndata: diabetes\naxes:\n  seed: {{start: 0, count: {seeds}}}\n  \
             activation: [tanh, softplus]\n  depth: [1, 2]\nfixed: {{body: mlp, width: 4}}\n"
        );
        fs::write(folder.path().join("grid.yaml"), grid).unwrap();
        let mut command = coordinator();
        command
            .arg("--grid")
            .arg(folder.path().join("grid.yaml"))
            .arg("--store")
            .arg(folder.path().join("store"))
            .args(["--http", "127.0.0.1:0", "--local-workers", "1"])
            .args(more)
            .env("SWEEP_ADMIN_TOKEN", ADMIN);
        let mut running = RunningSweep::start(&mut command);
        let said = running.wait_for(|line| {
            let message = line["message"].as_str();
            message.is_some_and(|m| m.starts_with("dashboard: "))
        });
        let link = said["message"].as_str().unwrap().split(' ').nth(1).unwrap();
        let (address, token) = link.split_once("/#token=").unwrap();
        Self {
            address: address.split_once("://").unwrap().1.to_owned(),
            token: token.to_owned(),
            folder,
            running,
        }
    }

    fn ask(&self, head: &str) -> Answer {
        request(&self.address, head, "")
    }

    fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(&format!("GET {path}\nAuthorization: Bearer {token}"))
    }

    fn change(&self, what: &str, token: &str) -> Answer {
        self.ask(&format!(
            "POST /api/sweeps/1/{what}\nAuthorization: Bearer {token}"
        ))
    }

    fn recorded(&self) -> u64 {
        let state = self.get("/api/state", &self.token).json();
        state["sweeps"][0]["moment"]["recorded"].as_u64().unwrap()
    }
}

#[test]
fn strangers_learn_whether_it_lives_and_nothing_else() {
    let mut scene = Scene::new(2_000, &[]);
    scene.running.wait_for_recorded(1);
    for open in [
        "/healthz",
        "/readyz",
        "/",
        "/sweeps/1",
        "/app.js",
        "/draw.js",
        "/app.css",
    ] {
        let answer = scene.ask(&format!("GET {open}"));
        assert_eq!(answer.status, 200, "{open}");
        assert!(
            answer
                .head
                .contains("content-security-policy: default-src 'none'")
        );
        assert!(
            !answer.body.contains("quagga"),
            "{open} speaks of the sweep"
        );
    }
    let closed = [
        "/metrics",
        "/api/state",
        "/api/events",
        "/api/workers",
        "/api/sweeps/1",
        "/api/sweeps/1/failures",
        "/api/nothing",
    ];
    for path in closed {
        for token in ["", "a wrong token of some length", &scene.token[1..]] {
            assert_eq!(scene.get(path, token).status, 401, "{path} {token}");
        }
    }
    // Neither a name that resolves here by surprise, nor a page of another site, nor a large body.
    let bearer = format!("Authorization: Bearer {}", scene.token);
    let status = |head: &str| scene.ask(&format!("{head}\n{bearer}")).status;
    assert_eq!(status("GET /api/state"), 200);
    assert_eq!(status("GET /api/state\nHost: evil.example"), 421);
    assert_eq!(status("GET /api/state\nOrigin: http://evil.example"), 403);
    assert_eq!(status("POST /api/sweeps/1/pause\nOrigin: null"), 403);
    assert_eq!(status("POST /api/session\nContent-Length: 100000000"), 413);
    assert_eq!(
        status(&format!("GET /healthz{}", "\nX: y".repeat(100))),
        431
    );
}

#[test]
fn reading_is_not_changing_and_a_session_is_what_its_token_was() {
    let mut scene = Scene::new(2_000, &[]);
    scene.running.wait_for_recorded(1);
    let session = |token: &str| -> Value {
        let head = format!("POST /api/session\nAuthorization: Bearer {token}");
        let answer = scene.ask(&head);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.head.contains("set-cookie"), "{answer:?}");
        answer.json()
    };
    let (reader, admin) = (session(&scene.token), session(ADMIN));
    assert_eq!(
        (&reader["may_change"], &admin["may_change"]),
        (&false.into(), &true.into())
    );
    let (reader, admin) = (
        reader["session"].as_str().unwrap(),
        admin["session"].as_str().unwrap(),
    );
    for token in [reader, &scene.token] {
        assert_eq!(scene.get("/api/sweeps/1", token).status, 200);
        assert_eq!(scene.change("pause", token).status, 403);
    }
    assert_eq!(scene.change("pause", admin).status, 200);
    let paused = |wanted: &str| {
        let state = scene.get("/api/state", reader).json();
        state["sweeps"][0]["state"] == wanted
    };
    let until = std::time::Instant::now() + PATIENCE;
    while !paused("paused") {
        assert!(std::time::Instant::now() < until, "it is not paused");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(scene.change("resume", ADMIN).status, 200);
    assert_eq!(scene.change("explode", admin).status, 404);
    let end = scene.ask(&format!(
        "DELETE /api/session\nAuthorization: Bearer {admin}"
    ));
    assert_eq!(end.status, 204);
    assert_eq!(scene.change("pause", admin).status, 401);
}

#[test]
fn beyond_loopback_it_wants_tls_and_each_token_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], token: &str, words: &str| {
        let mut command = coordinator();
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--local-workers",
                "0",
                "--store",
            ])
            .arg(folder.path().join("store"))
            .args(arguments)
            .env("SWEEP_TOKEN", "a token of the test's workers")
            .env("SWEEP_HTTP_TOKEN", token)
            .env("SWEEP_ADMIN_TOKEN", ADMIN);
        let run = output(&mut command);
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!folder.path().join("store").exists(), "nothing was begun");
    };
    let own = "a token of the test's readers";
    refused(
        &["--http", "0.0.0.0:0"],
        own,
        "give --tls-cert and --tls-key",
    );
    refused(&["--http", "nowhere"], own, "write HOST:PORT");
    refused(
        &["--http", "127.0.0.1:0"],
        ADMIN,
        "the dashboard's token is the administration's",
    );
    refused(
        &["--notify", "ftp://example.org/secret"],
        own,
        "no URL that can be called",
    );
    let mut shown = coordinator();
    shown.arg("--print-config");
    shown.env("SWEEP_NOTIFY", "https://example.org/secret");
    let shown = output(&mut shown);
    let shown = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.contains("https://example.org:443/"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn with_certificates_it_speaks_tls_and_says_so_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certs");
    let mut command = coordinator();
    command.args(["certs", "--out"]).arg(&certificates);
    let run = output(&mut command);
    assert!(run.status.success(), "{run:?}");
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let (certificate, key, ca) = (file("server.pem"), file("server-key.pem"), file("ca.pem"));
    // Mutual TLS is for workers: a browser has no certificate to show.
    let scene = Scene::new(
        2_000,
        &[
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--tls-client-ca",
            &ca,
        ],
    );
    let plain = scene.ask("GET /healthz");
    assert_eq!(plain.status, 400);
    assert!(plain.body.contains("use https://"), "{plain:?}");
}

#[test]
fn metrics_are_open_metrics_with_bounded_labels() {
    let mut scene = Scene::new(500, &[]);
    scene.running.wait_for_recorded(3);
    let answer = scene.get("/metrics", &scene.token);
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("application/openmetrics-text"),
        "{}",
        answer.head
    );
    let text = &answer.body;
    assert!(text.ends_with("# EOF\n"), "{text}");
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} of {text}"))
            .parse()
            .unwrap()
    };
    assert_eq!(value("sweep_leads"), 1.0);
    let recorded = value("sweep_tasks{sweep=\"1\",state=\"recorded\"}");
    let tasks: f64 = ["queued", "leased", "recorded", "failed"]
        .map(|state| value(&format!("sweep_tasks{{sweep=\"1\",state=\"{state}\"}}")))
        .iter()
        .sum();
    assert_eq!(tasks, 2_000.0);
    assert!(recorded >= 3.0);
    assert!(value("sweep_tasks_queued") > 0.0);
    assert!(value("sweep_store_commits_total{outcome=\"durable\"}") > 0.0);
    assert!(value("sweep_store_commit_seconds_count") > 0.0);
    assert_eq!(value("sweep_failures_total{kind=\"panic\"}"), 0.0);
    let hex = |word: &str| word.len() >= 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let labels = text
        .lines()
        .filter_map(|l| Some(l.split_once('{')?.1.split_once('}')?.0));
    let mut words = labels.flat_map(|l| l.split(|c: char| !c.is_alphanumeric()));
    let identity = words.find(|w| hex(w));
    assert_eq!(identity, None, "no label names a task");
}

#[test]
fn what_a_page_shows_agrees_with_the_summary() {
    // The last answer before a coordinator ends need not be complete, so a standing one is asked
    // over the same store.
    let Scene {
        folder, running, ..
    } = Scene::new(3, &["--minima", "none"]);
    assert!(running.finish().success());
    let mut command = coordinator();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--local-workers", "0", "--store"])
        .arg(folder.path().join("store"))
        .env("SWEEP_TOKEN", "a token of the test's workers")
        .env("SWEEP_HTTP_TOKEN", "a token of the test's readers")
        .env("SWEEP_ADMIN_TOKEN", ADMIN);
    let mut running = RunningSweep::start(&mut command);
    let said = running.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.starts_with("dashboard: "))
    });
    let said = said["message"].as_str().unwrap();
    assert!(!said.contains("a token of"), "{said}");
    let address = said
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    running.wait_for(|line| {
        let message = line["message"].as_str();
        message.is_some_and(|m| m.starts_with("serving "))
    });
    let get = |path: &str| {
        let head = format!("GET {path}\nAuthorization: Bearer a token of the test's readers");
        let answer = request(address, &head, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    };
    let sweep = get("/api/sweeps/1");
    assert_eq!(sweep["totals"]["recorded"], 12);
    assert_eq!(sweep["outside"]["cells"], 0);
    assert_eq!(sweep["violations_inside"], 0);
    let heat = &sweep["heat"];
    assert_eq!(
        (&heat["x"]["name"], &heat["y"]["name"]),
        (&"depth".into(), &"activation".into())
    );
    let squares = heat["squares"].as_array().unwrap();
    assert_eq!(squares.len(), 4);
    for square in squares {
        assert_eq!(
            (&square["planned"], &square["runs"]),
            (&3.into(), &3.into())
        );
    }
    let cells = get("/api/sweeps/1/cells");
    assert_eq!(cells["count"], 4);
    let worst = &cells["rows"][0];
    assert_eq!(worst["excess"], sweep["overall"]["worst_excess"]);
    let id = worst["cell"].as_str().unwrap();
    let cell = get(&format!("/api/sweeps/1/cells/{id}"));
    assert_eq!(cell["runs"]["count"], 3);
    let bars = cell["distribution"]["counts"].as_array().unwrap();
    let bars: u64 = bars.iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(
        bars,
        cell["summary"]["verdicts"]["certified_minimum"]
            .as_u64()
            .unwrap()
    );
    for row in cell["runs"]["rows"].as_array().unwrap() {
        let task = row["task"].as_str().unwrap();
        let run = &get(&format!("/api/sweeps/1/cells/{id}/runs/{task}"))["run"];
        assert_eq!(run["verdict"], row["verdict"]);
        assert_eq!(run["certificate"]["value"], row["value"]);
        assert_eq!(run["state"], "recorded");
        assert!(run["curve"].as_array().unwrap().len() > 1);
    }
    let sorted = get(&format!("/api/sweeps/1/cells/{id}?sort=value"));
    assert_eq!(
        sorted["runs"]["rows"][0]["value"],
        cell["summary"]["worst"]["value"]
    );
}

/// A standing coordinator with a dashboard.
struct Standing {
    folder: TempDir,
    url: String,
    site: String,
    _running: RunningSweep,
}

const WORKERS: &str = "a token of the test's workers";
const READERS: &str = "a token of the test's readers";

impl Standing {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = coordinator();
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--local-workers", "0", "--store"])
            .arg(folder.path().join("store"))
            .env("SWEEP_TOKEN", WORKERS)
            .env("SWEEP_HTTP_TOKEN", READERS)
            .env("SWEEP_ADMIN_TOKEN", ADMIN);
        let mut running = RunningSweep::start(&mut command);
        running.wait_for_words("serving ");
        let said = running.said.join("\n");
        let after = |words: &str| {
            let rest = said.split(words).nth(1).unwrap_or_else(|| panic!("{said}"));
            let end = rest.find([' ', ',', '"', '/']).unwrap();
            format!("http://{}", &rest[..end])
        };
        Self {
            url: after("--connect http://"),
            site: after("dashboard: http://"),
            folder,
            _running: running,
        }
    }

    fn submit(&self, grid: &str) {
        let file = self.folder.path().join("grid.yaml");
        fs::write(&file, grid).unwrap();
        let mut command = coordinator();
        command.args(["submit", "--connect", &self.url, "--grid"]);
        let run = output(command.arg(file).env("SWEEP_ADMIN_TOKEN", ADMIN));
        assert!(run.status.success(), "{run:?}");
    }

    fn worker(&self, more: &[&str]) -> Helper {
        let mut command = worker();
        command
            .args(["--connect", &self.url, "--slots", "1"])
            .args(more)
            .env("SWEEP_TOKEN", WORKERS)
            .stderr(std::process::Stdio::null());
        Helper(command.spawn().unwrap())
    }
}

/// A worker that goes when the test does.
struct Helper(std::process::Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tasks that run out of memory, as often as they are tried, until a worker has enough of it.
#[test]
fn failed_tasks_are_tried_again_by_a_button_in_a_browser() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let standing = Standing::start();
    standing.submit(
        "version: 1\nname: cramped\ndata: digits\naxes:\n  activation: [tanh, softplus]\n  depth: \
         [1, 2]\nfixed: {body: mlp, width: 32, loss: squared}\ntraining: {budget: \
         {evaluations: 20}}\n",
    );
    let cramped = standing.worker(&["--slot-memory", "12000000", "--name", "cramped"]);
    // Who may only read sees what failed, and no button.
    browser.open(&format!("{}/", standing.site));
    browser.type_into("#token", READERS);
    browser.click("form.sign button");
    browser.click("main table a");
    browser.wait_for("document.querySelector('.head .badge')?.textContent === 'finished'");
    browser.click("main a[href$='/failures']");
    let tile = |name: &str| {
        format!(
            "Number([...document.querySelectorAll('.tiles dt')].find(d => d.textContent === \
             '{name}')?.nextElementSibling.textContent.replaceAll(',', '') ?? NaN)"
        )
    };
    let aside = tile("Tasks set aside");
    browser.wait_for(&format!("{aside} > 0"));
    browser.wait_for("document.body.innerText.includes('out of memory')");
    assert_eq!(browser.eval("!!document.querySelector('#do-retry')"), false);
    browser.click("#who");
    browser.type_into("#token", ADMIN);
    browser.click("form.sign button");
    browser.wait_for("!!document.querySelector('#do-retry')");
    // Tried again where they fail again: the number of the last attempt shows that they were.
    let attempt = "document.querySelector('main tbody tr')?.firstElementChild.textContent ?? ''";
    let before = browser.eval(attempt);
    browser.click("#do-retry");
    browser
        .wait_for("document.querySelector('p[role=status]')?.textContent.includes('tried again')");
    browser.wait_for(&format!("{aside} > 0 && ({attempt}) !== {before}"));
    // And where there is room.
    drop(cramped);
    let _roomy = standing.worker(&[]);
    browser.click("#do-retry");
    browser.wait_for(&format!("{aside} === 0"));
    assert_eq!(browser.eval("!!document.querySelector('#do-retry')"), false);
    browser.open(&format!("{}/sweeps/1", standing.site));
    browser.wait_for(
        "document.querySelector('.tiles small')?.textContent.startsWith('4 of 4') && \
         document.querySelector('.head .badge')?.textContent === 'finished'",
    );
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// A cell is on the map before the scheduler comes to it.
#[test]
fn the_map_has_all_cells_of_the_grid_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    // The first cell has more tasks than the scheduler meets in this test: nobody computes any.
    let grid = "version: 1\nname: wide\ndata: diabetes\naxes:\n  depth: [1, 2, 3, 4]\n  activation: \
                [tanh, softplus, sin]\n  seed: {start: 0, count: 20000}\nfixed: {body: mlp, width: 4}\n";
    fs::write(folder.path().join("grid.yaml"), grid).unwrap();
    let mut command = coordinator();
    command
        .arg("--grid")
        .arg(folder.path().join("grid.yaml"))
        .arg("--store")
        .arg(folder.path().join("store"))
        .args(["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
        .args(["--local-workers", "0"])
        .env("SWEEP_TOKEN", WORKERS)
        .env("SWEEP_HTTP_TOKEN", READERS);
    let mut running = RunningSweep::start(&mut command);
    let said = running.wait_for_words("dashboard: ");
    let address = said.split("http://").nth(1).unwrap();
    let address = address.split('/').next().unwrap();
    running.wait_for(|line| line["planned"].as_u64().is_some_and(|n| n > 0));
    let get = |path: &str| {
        let head = format!("GET {path}\nAuthorization: Bearer {READERS}");
        let answer = request(address, &head, "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    };
    let squares = get("/api/sweeps/1")["heat"]["squares"].clone();
    let squares = squares.as_array().unwrap();
    assert_eq!(squares.len(), 12);
    for square in squares {
        assert_eq!(
            (&square["planned"], &square["runs"]),
            (&20_000.into(), &0.into()),
            "{square}"
        );
    }
    // The last one can be looked at like any other.
    let id = squares[11]["cell"].as_str().unwrap();
    let cell = get(&format!("/api/sweeps/1/cells/{id}"));
    assert_eq!(
        (&cell["planned"], &cell["summary"]["runs"]),
        (&20_000.into(), &0.into())
    );
    assert_eq!(cell["summary"]["cell"]["depth"], 4);
    assert_eq!(get("/api/sweeps/1/cells")["count"], 12);
}

/// The way of a person: by the link, to a sweep, a cell and a run; as an administrator, to pause
/// and go on.
#[test]
fn a_live_sweep_is_watched_and_steered_in_a_browser() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let scene = Scene::new(5_000, &[]);
    let site = format!("http://{}", scene.address);
    browser.open(&format!("{site}/#token={}", scene.token));
    // The token leaves the address at once.
    browser
        .wait_for("location.hash === '' && document.querySelector('h1')?.textContent === 'Sweeps'");
    assert_eq!(browser.eval("document.cookie"), "");
    // Keys reach everything: the first stop of the tabulator skips to the content.
    browser.wait_for("!!document.querySelector('main table a')");
    browser.click("main table a");
    browser.wait_for("document.querySelector('h1')?.textContent === 'quagga'");
    assert_eq!(browser.eval("document.activeElement.tagName"), "H1");
    // Progress comes by itself.
    let done = "Number(document.querySelector('.tiles small')?.textContent.split(' ')[0].replaceAll(',', ''))";
    let first = browser
        .wait_for(&format!("{done} > 0 && {done}"))
        .as_u64()
        .unwrap();
    browser.wait_for(&format!("{done} > {first}"));
    // Every square says what it is in words, and leads to its cell.
    let squares = "[...document.querySelectorAll('table.heat a')]";
    browser.wait_for(&format!("{squares}.length === 4"));
    let spoken = browser.eval(&format!(
        "{squares}.every(a => a.getAttribute('aria-label').includes('depth'))"
    ));
    assert_eq!(spoken, true);
    browser.click("input[value=progress] + *, fieldset.choice label:last-of-type");
    browser.wait_for(
        "document.querySelector('table.heat caption')?.textContent.startsWith('Progress')",
    );
    // A reader changes nothing.
    assert_eq!(browser.eval("!!document.querySelector('#do-pause')"), false);
    browser.click("table.heat a");
    browser.wait_for(
        "location.pathname.includes('/cells/') && !!document.querySelector('svg .bars rect')",
    );
    // How far the median lies below the baseline is a share of the baseline.
    browser.wait_for(
        "(() => { \
           const tile = (name) => [...document.querySelectorAll('.tiles dt')] \
             .find((d) => d.textContent === name).nextElementSibling; \
           const number = (e) => Number(e.textContent.replace('−', '-')); \
           const [baseline, median] = [tile('Baseline'), tile('Median minimum')].map(number); \
           const share = 100 * (baseline - median) / Math.abs(baseline); \
           const note = tile('Median minimum').nextElementSibling.textContent; \
           const told = note.match(/^([0-9.]+) % (above|below) the baseline$/); \
           if (!told) return note.startsWith('on the baseline') && Math.abs(share) < 0.1; \
           return Math.abs(Number(told[1]) * (told[2] === 'above' ? -1 : 1) - share) < 0.1; \
         })()",
    );
    browser.wait_for("!!document.querySelector('main tbody a[href*=\"/runs/\"]')");
    browser.click(".tiles a[href*=\"/runs/\"]");
    browser.wait_for(
        "location.pathname.includes('/runs/') && document.body.innerText.includes('λ min')",
    );
    browser.wait_for("!!document.querySelector('svg polyline')");
    browser.click(".top nav a[href='/workers']");
    browser.wait_for("document.querySelectorAll('main tbody tr').length === 1");
    // The administrator pauses, and goes on.
    browser.click("#who");
    browser.type_into("#token", "a wrong token of some length");
    browser.click("form.sign button");
    browser.wait_for(
        "document.querySelector('[role=alert].error')?.textContent.includes('opens nothing')",
    );
    browser.eval("document.querySelector('#token').value = ''");
    browser.type_into("#token", ADMIN);
    browser.click("form.sign button");
    browser.wait_for("document.querySelector('#who')?.textContent.startsWith('Administrator')");
    browser.open(&format!("{site}/sweeps/1"));
    browser.click("#do-pause");
    browser.wait_for("document.querySelector('.head .badge')?.textContent === 'paused'");
    browser.click("#do-resume");
    browser.wait_for("document.querySelector('.head .badge')?.textContent === 'running'");
    let before = scene.recorded();
    browser.wait_for(&format!("{done} > {before}"));
    // Nothing came from elsewhere, and the browser has nothing to complain about but the wrong token.
    let own = browser.eval(
        "performance.getEntriesByType('resource').every(e => e.name.startsWith(location.origin))",
    );
    assert_eq!(own, true);
    let complaints = browser.complaints();
    let others: Vec<_> = complaints
        .iter()
        .filter(|c| !c.contains("/api/session"))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    // And gives it up: asked first, then the coordinator ends by itself.
    browser.click("#do-cancel");
    browser.wait_for("document.querySelector('#ask').open");
    browser.click("#ask-yes");
    scene.running.finish();
}
