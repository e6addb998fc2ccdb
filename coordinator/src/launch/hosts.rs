//! The list of hosts of `--launch ssh:FILE`.
//!
//! A host a line, as `ssh` takes it, and perhaps options:
//!
//! ```text
//! # name            options
//! node1             slots=8
//! ada@node2         worker=/opt/sweep/worker config=/opt/sweep/worker.yaml
//! [2001:db8::7]     port=2222 threads=2
//! ```
//!
//! Anything else about a host (keys, jump hosts) stands in `~/.ssh/config`.

use super::WorkerCommand;

/// A host to start a worker on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As `ssh` takes it: `host` or `user@host`.
    pub name: String,
    /// The port of its ssh server, if it is not the usual one.
    pub port: Option<u16>,
    /// How its worker is started.
    pub worker: WorkerCommand,
}

/// Reads a list; all mistakes at once, each with its place.
///
/// # Errors
/// The mistakes, one a line.
pub fn parse(file: &str, text: &str) -> Result<Vec<Host>, String> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut mistakes = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        match host(line) {
            Ok(host)
                if hosts
                    .iter()
                    .any(|h| h.name == host.name && h.port == host.port) =>
            {
                mistakes.push(format!(
                    "{file}:{}: `{}` stands there twice; give it more slots instead",
                    number + 1,
                    host.name
                ));
            }
            Ok(host) => hosts.push(host),
            Err(what) => mistakes.push(format!("{file}:{}: {what}", number + 1)),
        }
    }
    if hosts.is_empty() && mistakes.is_empty() {
        mistakes.push(format!("{file}: no host; write one a line, `user@host`"));
    }
    if mistakes.is_empty() {
        Ok(hosts)
    } else {
        Err(mistakes.join("\n"))
    }
}

fn host(line: &str) -> Result<Host, String> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or("");
    // It would be an option of `ssh`, or several words for its shell.
    let plain = |c: char| c.is_ascii_alphanumeric() || "@._-:[]%".contains(c);
    if name.starts_with('-') || name.is_empty() || !name.chars().all(plain) {
        return Err(format!("`{name}` is no host; write `host` or `user@host`"));
    }
    // Brackets keep an address of IPv6 apart from a port; `ssh` wants none.
    let name = name.replace(['[', ']'], "");
    let mut host = Host {
        name,
        port: None,
        worker: WorkerCommand {
            program: "worker".into(),
            ..WorkerCommand::default()
        },
    };
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(format!(
                "`{word}` is no option; write KEY=VALUE with one of slots, threads, worker, \
                 config, port"
            ));
        };
        let number = || match value.parse::<u32>() {
            Ok(n) if (1..=4096).contains(&n) => Ok(Some(n)),
            _ => Err(format!("`{key}` is `{value}`, no number from 1 to 4096")),
        };
        match key {
            "slots" => host.worker.slots = number()?,
            "threads" => host.worker.threads = number()?,
            "worker" if !value.is_empty() => host.worker.program = value.into(),
            "config" if !value.is_empty() => host.worker.config = Some(value.into()),
            "worker" | "config" => return Err(format!("`{key}` is empty")),
            "port" => match value.parse::<u16>() {
                Ok(port) if port > 0 => host.port = Some(port),
                _ => return Err(format!("`port` is `{value}`, no number from 1 to 65535")),
            },
            _ => {
                return Err(format!(
                    "there is no option `{key}`; the options are slots, threads, worker, config, \
                     port"
                ));
            }
        }
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_a_line_with_options_and_remarks() {
        let text = "# ours\n\nnode1 slots=8 # the big one\n ada@node2  worker=/opt/w port=2222\n\
                    [2001:db8::7] threads=2 config=/etc/w.yaml\n";
        let hosts = parse("hosts.txt", text).unwrap();
        let names: Vec<&str> = hosts.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, ["node1", "ada@node2", "2001:db8::7"]);
        assert_eq!(hosts[0].worker.slots, Some(8));
        assert_eq!(hosts[0].worker.program.to_str(), Some("worker"));
        assert_eq!(hosts[1].port, Some(2222));
        assert_eq!(hosts[1].worker.program.to_str(), Some("/opt/w"));
        assert_eq!(hosts[2].worker.threads, Some(2));
        assert!(hosts[2].worker.config.is_some());
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_a_way_out() {
        let text = "node1 slots=0\n-oProxyCommand=evil\nnode2 slot=3\nnode3 fast\nnode4 port=70000\n\
                    node5\nnode5\nnode6 worker=\n$(id)\n";
        let error = parse("hosts.txt", text).unwrap_err();
        let expected = [
            "hosts.txt:1: `slots` is `0`, no number from 1 to 4096",
            "hosts.txt:2: `-oProxyCommand=evil` is no host; write `host` or `user@host`",
            "hosts.txt:3: there is no option `slot`; the options are slots, threads, worker, \
             config, port",
            "hosts.txt:4: `fast` is no option; write KEY=VALUE with one of slots, threads, worker, \
             config, port",
            "hosts.txt:5: `port` is `70000`, no number from 1 to 65535",
            "hosts.txt:7: `node5` stands there twice; give it more slots instead",
            "hosts.txt:8: `worker` is empty",
            "hosts.txt:9: `$(id)` is no host; write `host` or `user@host`",
        ];
        assert_eq!(error.lines().collect::<Vec<_>>(), expected);
        assert!(parse("h", "# nobody\n").unwrap_err().contains("no host"));
    }
}
