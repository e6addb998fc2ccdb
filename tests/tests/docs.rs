//! The documentation says what is so: its commands run, its links lead somewhere, its options
//! exist.
//!
//! A block marked `sh` is run as it stands, in a scratch folder that all blocks of a page share,
//! with both programs on PATH and `grids/` and `docs/` at hand. A block that cannot be run here says
//! why in its first line: `sh no-run: REASON`. Blocks with `cargo` are those that CI runs itself; of
//! those that build and then run the coordinator, that is run.
//! Blocks with another mark, or none, are for reading.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests::processes::{coordinator, output, program, worker};

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// Every page: the README, the architecture, and docs/.
fn pages() -> Vec<PathBuf> {
    let root = repository();
    let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    for folder in [root.join("docs"), root.join("deploy")] {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page| page.extension().is_some_and(|e| e == "md"));
    pages.sort();
    assert!(pages.len() > 8, "{pages:?}");
    pages
}

fn name(page: &Path) -> String {
    let name = page.strip_prefix(repository()).unwrap();
    name.display().to_string()
}

/// A fenced block.
#[derive(Debug)]
struct Block {
    line: usize,
    mark: String,
    text: String,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(mark)) => {
                open = Some(Block {
                    line: number + 1,
                    mark: mark.trim().to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed: {open:?}");
    blocks
}

#[test]
fn commands_of_the_documentation_run_as_they_stand() {
    let mut ran = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for shared in ["grids", "docs", "common"] {
            let link = scratch.path().join(shared);
            std::os::unix::fs::symlink(repository().join(shared), link).unwrap();
        }
        for block in blocks(&text) {
            let at = format!("{}:{}", name(&page), block.line);
            let Some(rest) = block.mark.strip_prefix("sh") else {
                continue;
            };
            if let Some(why) = rest.trim().strip_prefix("no-run") {
                assert!(
                    why.trim_start_matches(':').trim().len() > 10,
                    "{at}: say why it is not run: `sh no-run: REASON`"
                );
                continue;
            }
            assert!(rest.is_empty(), "{at}: `{}` is no mark", block.mark);
            // What begins with a build is run without it, by the programs that are built.
            let (text, built) = match block.text.split_once(" && target/release/coordinator ") {
                Some((build, rest)) if build.starts_with("cargo build") => {
                    (format!("coordinator {rest}"), true)
                }
                _ => (block.text.clone(), false),
            };
            if text.contains("cargo ") {
                continue;
            }
            let block = Block { text, ..block };
            if built {
                run(&block, scratch.path(), &at);
                continue;
            }
            run(&block, scratch.path(), &at);
            ran += 1;
        }
    }
    assert!(ran >= 5, "only {ran} blocks were run");
}

fn run(block: &Block, folder: &Path, at: &str) {
    let programs = program("coordinator");
    let programs = programs.parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("SWEEP_") {
            command.env_remove(variable);
        }
    }
    let done = command
        .args(["-euo", "pipefail", "-c", &block.text])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{at} ends with {}:\n{}\n{}\n{}",
        done.status,
        block.text,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Targets of `[text](target)` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        // Code in a line is none of ours; odd parts of a split at backticks are code.
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("x");
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                links.push((number + 1, target.to_owned()));
            }
        }
    }
    links
}

/// The anchors of a page, as the usual hosts make them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_the_documentation_lead_somewhere() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (line, link) in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(path)
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&target).is_ok_and(|t| anchors(&t).contains(anchor)));
            if !found {
                broken.push(format!("{}:{line}: {link}", name(&page)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(checked > 20, "only {checked} links were found");
}

fn options_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut options = BTreeSet::new();
    for part in text.split(|c: char| !word(c)) {
        if let Some(option) = part.strip_prefix("--")
            && option.starts_with(|c: char| c.is_ascii_lowercase())
        {
            options.insert(option.trim_end_matches('-').to_owned());
        }
    }
    options
}

/// The options of each command, `""` for a program without one, from its own help.
fn known(mut make: impl FnMut() -> Command) -> BTreeMap<String, BTreeSet<String>> {
    let mut help = |arguments: &[&str]| {
        let done = output(make().args(arguments).arg("--help"));
        assert!(done.status.success(), "{arguments:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let first = help(&[]);
    let commands = first.split("Commands:").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap_or("");
    // Names begin at the second column; what is further in goes on with a description.
    let names = (commands.lines())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.len() > 4, "{first}");
    let mut known = BTreeMap::new();
    for name in names.iter().filter(|name| *name != "help") {
        known.insert(name.clone(), options_in(&help(&[name])));
    }
    known.insert("man".to_owned(), options_in(&help(&["man"])));
    known.insert(String::new(), options_in(&first));
    known
}

/// A line of a shell from the name of one of the programs on: which one, and the words after it.
fn calls(line: &str) -> Vec<(&'static str, Vec<String>)> {
    let mut calls = Vec::new();
    for part in line.split(['|', ';', '&', '#']) {
        let words: Vec<&str> = part.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let word = word.trim_start_matches("target/release/");
            let program = match word {
                "coordinator" => "coordinator",
                "worker" => "worker",
                _ => continue,
            };
            // A program stands first, behind variables at most.
            if words[..at].iter().all(|w| w.contains('=')) {
                let rest = words[at + 1..].iter().map(|w| (*w).to_owned());
                calls.push((program, rest.collect()));
            }
            break;
        }
    }
    calls
}

#[test]
fn options_of_the_documentation_exist() {
    let known = BTreeMap::from([
        ("coordinator", known(coordinator)),
        ("worker", known(worker)),
    ]);
    let all: BTreeSet<String> = known
        .values()
        .flat_map(|k| k.values())
        .flatten()
        .cloned()
        .collect();
    // Of other programs.
    let others = ["release", "workspace", "factor", "coordinator", "worker"];
    let mut unknown = Vec::new();
    let mut checked = 0;
    for page in pages() {
        // What programs are to have one day is no documentation of what they have.
        if name(&page) == "docs/CONTRACT.md" {
            continue;
        }
        let text = fs::read_to_string(&page).unwrap();
        let joined = text.replace("\\\n", " ");
        for line in joined.lines() {
            // Commands in blocks, and in a line's code.
            let code = line.split('`').skip(1).step_by(2);
            let whole = std::iter::once(line).filter(|line| !line.contains('`'));
            for code in whole.chain(code) {
                for (program, words) in calls(code) {
                    let command = words.first().filter(|w| known[program].contains_key(*w));
                    let has = &known[program][command.map_or("", String::as_str)];
                    for option in options_in(&words.join(" ")) {
                        checked += 1;
                        if !has.contains(&option) {
                            unknown.push(format!("{}: --{option} in `{code}`", name(&page)));
                        }
                    }
                }
                if code.starts_with("--") {
                    for option in options_in(code) {
                        checked += 1;
                        if !all.contains(&option) && !others.contains(&option.as_str()) {
                            unknown.push(format!("{}: `{code}`", name(&page)));
                        }
                    }
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(checked > 50, "only {checked} options were found");
}
