//! `coordinator bench`, small: it measures the real programs, and reads back what they left.

use serde_json::Value;
use tests::processes::{coordinator, output};

fn bench(arguments: &[&str]) -> Value {
    let out = output(coordinator().arg("bench").arg("--json").args(arguments));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&out.stdout).expect("it prints JSON")
}

fn figure(measured: &Value, what: &str) -> f64 {
    let figures = measured["cases"][0]["figures"].as_array();
    let found = figures
        .into_iter()
        .flatten()
        .find(|figure| figure["what"] == what);
    let value = found.and_then(|figure| figure["value"].as_f64());
    value.unwrap_or_else(|| panic!("no `{what}` in {measured:#}"))
}

#[test]
fn fifty_workers_record_five_thousand_tasks_once_each() {
    let measured = bench(&["--case", "load", "--workers", "50", "--tasks", "5000"]);
    assert_eq!(figure(&measured, "results recorded exactly once"), 5000.0);
    assert_eq!(figure(&measured, "executions that failed"), 0.0);
    assert!(figure(&measured, "workers connected at a time") <= 50.0);
}

#[test]
fn worker_processes_record_tasks_once_each() {
    let measured = bench(&["--case", "noop", "--tasks", "3000"]);
    assert_eq!(figure(&measured, "results recorded exactly once"), 3000.0);
    assert!(measured["machine"]["sync_ms"].as_f64().is_some());
}

#[test]
fn a_restart_finds_what_is_recorded() {
    let measured = bench(&["--case", "restart", "--tasks", "2000"]);
    assert!(figure(&measured, "restart") > 0.0);
}

#[test]
fn the_pages_of_a_large_sweep_are_asked_for() {
    let measured = bench(&["--case", "dashboard", "--tasks", "2000"]);
    assert!(figure(&measured, "a sweep's page, once more") > 0.0);
    assert!(
        figure(&measured, "… its size (a run)") > 1.0,
        "with its curve"
    );
}

#[test]
fn a_case_that_does_not_exist_is_bad_input() {
    let out = output(coordinator().args(["bench", "--case", "nothing"]));
    assert_eq!(out.status.code(), Some(2));
}
