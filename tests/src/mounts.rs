//! Small file systems in memory, to be filled up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// With 1 in this variable a test that cannot mount fails instead of saying `skipped`.
pub const REQUIRE: &str = "SWEEP_REQUIRE_MOUNT";

/// A mounted file system; gone with the value.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None`, and a word about it, where this process may not mount.
    ///
    /// # Panics
    /// If it may not and must.
    pub fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("disk-").tempdir();
        let path = folder.expect("a temporary folder").keep();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        let mounted = command.arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { path });
        }
        let _ = std::fs::remove_dir(&path);
        skipped(REQUIRE, "nothing can be mounted here");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all room that is left.
    ///
    /// # Panics
    /// If there was none.
    pub fn fill(&self) {
        let mut filler = std::fs::File::create(self.path.join("filler")).expect("a file");
        // From large to small, so that not a byte is left.
        let mut size = 1 << 16;
        let mut filled = 0;
        while size > 0 {
            match filler.write(&vec![7; size]) {
                Ok(written) if written > 0 => filled += written,
                _ => size /= 2,
            }
        }
        assert!(filled > 0, "it was full before");
    }

    /// Gives it back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn make_room(&self) {
        std::fs::remove_file(self.path.join("filler")).expect("the filler");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Says that a test cannot be run here, unless it must.
///
/// # Panics
/// If it must: the variable is 1.
pub fn skipped(variable: &str, why: &str) {
    let required = std::env::var(variable).is_ok_and(|value| value == "1");
    assert!(!required, "{why}, and {variable} is 1");
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    {
        eprintln!("skipped: {why}");
    }
}
