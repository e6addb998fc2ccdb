//! The page that a sweep leaves beside its summary.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use tests::processes::{coordinator, output};

const GRID: &str = "
version: 1
name: small
data: diabetes
axes:
  depth: [1, 2]
  activation: [tanh, identity]
  seed: {start: 0, count: 5}
fixed: {body: mlp, width: 3, loss: squared}
";

#[test]
fn the_report_names_every_cell_and_needs_neither_network_nor_script() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("grid.yaml"), GRID).unwrap();
    let mut sweep = coordinator();
    sweep.arg("--grid").arg(path("grid.yaml"));
    sweep.arg("--store").arg(path("store"));
    sweep
        .arg("--out")
        .arg(path("out"))
        .args(["--local-workers", "1"]);
    let run = output(&mut sweep);
    assert!(run.status.success(), "{run:?}");

    let page = std::fs::read_to_string(path("out").join("report.html")).unwrap();
    for depth in [1, 2] {
        for activation in ["tanh", "identity"] {
            let cell = format!("<th scope=\"row\">depth {depth} · {activation}</th>");
            assert!(page.contains(&cell), "{cell}");
        }
    }
    for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(
        page.contains("worker verify minima/"),
        "a kept minimum and its check"
    );

    // The store alone gives the same page but for the account of the run.
    let mut again = coordinator();
    again.arg("report").arg("--grid").arg(path("grid.yaml"));
    again.arg("--store").arg(path("store"));
    again.arg("--out").arg(path("out").join("again.html"));
    let run = output(&mut again);
    assert!(run.status.success(), "{run:?}");
    let again = std::fs::read_to_string(path("out").join("again.html")).unwrap();
    let before = |page: &str| page.split("id=\"provenance\"").next().unwrap().to_owned();
    assert_eq!(before(&page), before(&again));
}
