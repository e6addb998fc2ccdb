//! What fuzzing has kept goes through the same entrances on every change.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::panic::catch_unwind;
use std::path::Path;

use tests::fuzzing::TARGETS;

#[test]
fn what_fuzzing_has_kept_is_taken_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in TARGETS {
        let mut files = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let taken = catch_unwind(|| target(&bytes));
            assert!(taken.is_ok(), "{name} fails with {}", path.display());
            files += 1;
        }
        assert!((1..=60).contains(&files), "{files} files for {name}");
    }
}
