//! Small file systems: one in memory, to be filled up, and one that fails and is repaired.

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

/// An ext4 file system in a file, which an error makes read-only while it is in use: as a disk that
/// fails does. What had not been synced by then is lost.
#[derive(Debug)]
pub struct Failing {
    folder: tempfile::TempDir,
}

impl Failing {
    /// `None`, and a word about it, where this process may not mount.
    ///
    /// # Panics
    /// If it may not and must.
    pub fn mount() -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("disk-").tempdir();
        let failing = Self {
            folder: folder.expect("a temporary folder"),
        };
        let image = failing.image();
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(64 << 20).expect("a file with holes");
        std::fs::create_dir(failing.path()).expect("a folder");
        let mut made = Command::new("mkfs.ext4");
        let made = made.arg("-q").arg(&image).output();
        let made = made.is_ok_and(|output| output.status.success());
        if made && failing.attach() {
            return Some(failing);
        }
        skipped(REQUIRE, "no image of a file system can be mounted here");
        None
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn attach(&self) -> bool {
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", "loop,errors=remount-ro"]);
        let mounted = command.arg(self.image()).arg(self.path()).output();
        mounted.is_ok_and(|output| output.status.success())
    }

    /// Makes it fail: nothing can be written any more.
    ///
    /// # Panics
    /// If it goes on.
    pub fn fail(&self) {
        let mut command = Command::new("findmnt");
        let found = command.args(["-n", "-o", "SOURCE"]).arg(self.path());
        let found = found.output().expect("findmnt can be run");
        let device = String::from_utf8_lossy(&found.stdout).into_owned();
        let name = device.trim().trim_start_matches("/dev/");
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(&trigger, "1").expect("ext4 has a trigger for errors");
        let written = std::fs::write(self.path().join("probe"), "x");
        assert!(written.is_err(), "it has failed and can be written to");
    }

    /// Repairs it, as an administrator does; nobody may use it.
    ///
    /// # Panics
    /// If it cannot be repaired.
    pub fn repair(&self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|s| s.success()), "somebody uses it");
        // 1: errors were corrected.
        let checked = Command::new("e2fsck").arg("-fy").arg(self.image()).output();
        let code = checked.expect("e2fsck can be run").status.code();
        assert!(matches!(code, Some(0 | 1)), "e2fsck ends with {code:?}");
        assert!(self.attach(), "a repaired file system can be mounted");
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
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
