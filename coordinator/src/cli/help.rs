//! What `--help` adds to the options, completion scripts and manual pages.

use std::path::Path;

use clap::CommandFactory;

use super::{Cli, code, fail, print, settings};

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 internal error; 2 bad input, nothing was started; 3 done, with failed tasks; \
4 a violation inside the theorem and --fail-on violation; 130 interrupted, state kept.";

const SETTINGS: &str = "\
Settings: flags win over the environment, the environment over the file of --config, and that \
over defaults. --print-config shows each value and where it came from.";

/// Commands and what to show of them.
const EXAMPLES: [(&str, &[&str]); 21] = [
    (
        "",
        &[
            "coordinator --grid grids/quickstart.yaml",
            "coordinator --grid grid.yaml --local-workers 4 --out results",
            "SWEEP_TOKEN=… coordinator --grid grid.yaml --listen 127.0.0.1:7878",
        ],
    ),
    (
        "plan",
        &[
            "coordinator plan --grid grid.yaml",
            "coordinator plan --grid grid.yaml --pilot --workers 2,16,64",
        ],
    ),
    (
        "serve",
        &["coordinator serve --listen 0.0.0.0:7878 --tls-cert server.pem --tls-key server.key"],
    ),
    (
        "submit",
        &["coordinator submit --connect https://sweeps.example.org:7878 --grid grid.yaml --wait"],
    ),
    (
        "status",
        &[
            "coordinator status --connect https://sweeps.example.org:7878",
            "coordinator status --store ./sweeps --json",
        ],
    ),
    (
        "watch",
        &["coordinator watch --connect https://sweeps.example.org:7878 --sweep theorem"],
    ),
    (
        "summary",
        &["coordinator summary --grid grid.yaml > summary.json"],
    ),
    ("retry", &["coordinator retry --store ./sweeps --sweep 3"]),
    ("cancel", &["coordinator cancel --store ./sweeps --sweep 3"]),
    ("pause", &["coordinator pause --store ./sweeps --sweep 3"]),
    ("resume", &["coordinator resume --store ./sweeps --sweep 3"]),
    (
        "explain",
        &[
            "coordinator explain 17",
            "coordinator explain 4f9a1c --sweep theorem",
            "coordinator explain cell=3 --json",
        ],
    ),
    (
        "diff",
        &[
            "coordinator diff a.yaml b.yaml",
            "coordinator diff grid.yaml --by activation",
        ],
    ),
    (
        "verify",
        &["coordinator verify --grid grid.yaml --audit 0.05"],
    ),
    (
        "report",
        &["coordinator report --grid grid.yaml --out report.html"],
    ),
    ("init", &["coordinator init grid.yaml"]),
    ("schema", &["coordinator schema > grid.schema.json"]),
    (
        "certs",
        &["coordinator certs --out certs --host sweeps.example.org"],
    ),
    (
        "completions",
        &[
            "coordinator completions bash > /etc/bash_completion.d/coordinator",
            "coordinator completions fish > ~/.config/fish/completions/coordinator.fish",
        ],
    ),
    (
        "export",
        &[
            "coordinator export --grid grid.yaml --out runs.parquet",
            "coordinator export --sweep theorem --out - --format jsonl",
        ],
    ),
    ("bench", &["coordinator bench --case noop --tasks 100000"]),
];

/// The command line, with everything that its help says.
pub(super) fn command() -> clap::Command {
    let mut root = settings::with_variables(Cli::command());
    root = root.mut_subcommand("serve", settings::with_variables);
    let known: Vec<String> = (root.get_subcommands())
        .map(|command| command.get_name().to_owned())
        .collect();
    for (name, examples) in EXAMPLES {
        if name.is_empty() {
            let text = format!("{}\n\n{SETTINGS}\n\n{EXIT_CODES}", shown(examples));
            root = root
                .after_long_help(text)
                .after_help("`--help` says more, and `coordinator COMMAND --help` on a command.");
        } else if known.iter().any(|k| k == name) {
            root = root.mut_subcommand(name, |command| command.after_long_help(shown(examples)));
        }
    }
    root
}

fn shown(examples: &[&str]) -> String {
    let title = if examples.len() == 1 {
        "Example:"
    } else {
        "Examples:"
    };
    let lines = examples.iter().map(|example| format!("\n  {example}"));
    format!("{title}{}", lines.collect::<String>())
}

/// `completions`.
pub(super) fn completions(shell: clap_complete::Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "coordinator", &mut script);
    print(&String::from_utf8_lossy(&script));
    code::DONE
}

/// `man`: a page for the program and for each command.
pub(super) fn man(out: &Path) -> u8 {
    let written =
        std::fs::create_dir_all(out).and_then(|()| clap_mangen::generate_to(command(), out));
    match written {
        Ok(()) => code::DONE,
        Err(error) => fail(code::BAD_INPUT, &format!("{}: {error}", out.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_says_how_else_it_is_given_and_every_command_has_an_example() {
        let mut root = command();
        root.build();
        // Lines break where they may.
        let text = root.render_long_help().to_string();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in [
            "[env: SWEEP_LOCAL_WORKERS]",
            "[key: log_format]",
            "130 interrupted",
        ] {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
        for sub in root.get_subcommands_mut() {
            if sub.get_name() == "help" || sub.is_hide_set() {
                continue;
            }
            let text = sub.render_long_help().to_string();
            assert!(
                text.contains("Example"),
                "{} has no example",
                sub.get_name()
            );
        }
    }

    #[test]
    fn the_short_help_is_shorter_by_half() {
        let lines = |text: clap::builder::StyledStr| text.to_string().lines().count();
        let (short, long) = (command().render_help(), command().render_long_help());
        assert!(2 * lines(short) < lines(long));
    }
}
