//! HTTP for tests: a client of few lines, and a browser that is driven with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::processes::PATIENCE;

/// With `1` in this variable a test fails where it would have been skipped.
const REQUIRE: &str = "SWEEP_REQUIRE_CHROMIUM";

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, lines in lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// Sends one request and reads the answer to its end.
///
/// # Panics
/// If there is no answer.
pub fn request(address: &str, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let host = if head.to_ascii_lowercase().contains("\nhost:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let named = head.to_ascii_lowercase().contains("\ncontent-length:");
    let length = if named || body.is_empty() && !head.starts_with("POST") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let (line, more) = head.split_once('\n').unwrap_or((head, ""));
    let more: String = more.lines().map(|line| format!("{line}\r\n")).collect();
    let text = format!("{line} HTTP/1.1\r\n{host}{length}{more}Connection: close\r\n\r\n{body}");
    // A server that refuses need not read it all.
    let _ = stream.write_all(text.as_bytes());
    let answer = read_answer(&mut stream);
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok());
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Answer {
        status: status.unwrap_or_else(|| panic!("no answer to {line}: {text}")),
        head,
        body,
    }
}

/// Everything up to the end of the answer: its length where it names one (chromedriver keeps the
/// connection, whatever it is asked for), else the end of the connection.
fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut part = [0; 16 << 10];
    while !is_whole(&answer) {
        match stream.read(&mut part) {
            Ok(n) if n > 0 => answer.extend_from_slice(&part[..n]),
            _ => break,
        }
    }
    answer
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    let Some(start) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return false;
    };
    length.is_some_and(|length| answer.len() >= start + 4 + length)
}

fn unchunk(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || size > rest.len() {
            break;
        }
        out.push_str(&rest[..size]);
        text = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// Chromium, without a window, driven by chromedriver.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts it; `None` if it is not installed.
    ///
    /// # Panics
    /// If it is installed and does not start, or if it must be there
    /// (`SWEEP_REQUIRE_CHROMIUM`) and is not.
    pub fn start() -> Option<Self> {
        let found = ["/usr/bin/chromedriver", "/usr/bin/chromium"];
        if !found.iter().all(|path| Path::new(path).exists()) {
            assert!(
                !std::env::var(REQUIRE).is_ok_and(|value| value == "1"),
                "chromium and chromium-driver are not installed, and {REQUIRE} is 1"
            );
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: chromium and chromium-driver are not installed");
            }
            return None;
        }
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new(found[0])
            .arg("--port=0")
            // With the browser that it starts, so that both can be ended.
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut said = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = said
            .find_map(|line| {
                let line = line.expect("chromedriver speaks");
                let port = line.split("successfully on port ").nth(1)?;
                port.trim_end_matches('.').parse::<u16>().ok()
            })
            .expect("chromedriver names its port");
        std::thread::spawn(move || said.for_each(drop));
        let folder = format!("--user-data-dir={}", profile.path().display());
        let options = json!({
            "binary": found[1],
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", "--window-size=1280,1000", folder,
            ],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Self {
            driver,
            address: format!("127.0.0.1:{port}"),
            session: String::new(),
            _profile: profile,
        };
        let begun = browser.call("POST /session", &wanted);
        let session = begun["sessionId"].as_str().expect("a session");
        browser.session = session.to_owned();
        Some(browser)
    }

    fn call(&self, line: &str, body: &Value) -> Value {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let head = format!("{line}\nContent-Type: application/json");
        let answer = request(&self.address, &head, &body);
        let value = answer.json()["value"].clone();
        assert_eq!(answer.status, 200, "{line}: {value:#}");
        value
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.call(&format!("POST /session/{}/{what}", self.session), body)
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// What a script returns.
    pub fn eval(&self, script: &str) -> Value {
        let body = json!({"script": format!("return ({script})"), "args": []});
        self.post("execute/sync", &body)
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it does not become true.
    pub fn wait_for(&self, expression: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let value = self.eval(expression);
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return value;
            }
            let page = || self.eval("document.body.innerText");
            assert!(Instant::now() < until, "{expression} of:\n{}", page());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn element(&self, selector: &str) -> String {
        let quoted = json!(selector);
        self.wait_for(&format!("!!document.querySelector({quoted})"));
        let body = json!({"using": "css selector", "value": selector});
        let found = self.post("element", &body);
        let name = found.as_object().and_then(|o| o.values().next());
        let name = name.and_then(Value::as_str).expect("an element");
        name.to_owned()
    }

    /// Presses what a selector finds first, as a mouse does.
    pub fn click(&self, selector: &str) {
        // A page that is drawn anew between the two calls has another such element.
        for _ in 0..20 {
            let element = self.element(selector);
            let path = format!("/session/{}/element/{element}/click", self.session);
            let head = format!("POST {path}\nContent-Type: application/json");
            let answer = request(&self.address, &head, "{}");
            if answer.status == 200 {
                return;
            }
            let error = answer.json()["value"]["error"].clone();
            assert_eq!(error, "stale element reference", "{selector}: {answer:?}");
        }
        panic!("{selector} is drawn anew all the time");
    }

    /// Types into what a selector finds first.
    pub fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("element/{element}/value"), &json!({"text": text}));
    }

    /// What the browser has complained about.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|e| e["level"] == "SEVERE");
        severe.map(|e| e["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser with it; what does not answer is killed.
        let path = format!("DELETE /session/{}", self.session);
        let asked = std::panic::catch_unwind(|| request(&self.address, &path, ""));
        drop(asked);
        let group = format!("-{}", self.driver.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.driver.wait();
    }
}
