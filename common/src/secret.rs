//! Tokens in files: read, and who else could read them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A text of one line from a file, without the white space around it.
///
/// # Errors
/// What the system says; also when the file is larger than a token can be.
pub fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    let limit = TOKEN_LIMIT as u64 + 1;
    let read = std::fs::File::open(path)?
        .take(limit)
        .read_to_string(&mut text)?;
    if read > TOKEN_LIMIT {
        return Err(io::Error::other("it is too large to be a token"));
    }
    Ok(text.trim().to_owned())
}

/// Longest token, bytes: a header must hold it.
pub const TOKEN_LIMIT: usize = 1024;

/// A warning when others than user `own` can read a file, `None` when they
/// cannot or it is not there. A group that owns the file of another user, as
/// Kubernetes mounts its secrets, is not counted: it is how we read it.
pub fn exposed(path: &Path, own: u32) -> Option<String> {
    let file = std::fs::metadata(path).ok()?;
    let others = if file.uid() == own { 0o077 } else { 0o007 };
    (file.is_file() && file.mode() & others != 0).then(|| {
        let path = path.display();
        format!("others on this machine can read {path}; chmod 600 {path}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_that_others_can_read_is_pointed_out() {
        let path = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        std::fs::write(&path, " a token of some length\n").unwrap();
        let own = std::fs::metadata(&path).unwrap().uid();
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (mode, ours, another) in [
            (0o600, false, false),
            (0o640, true, false),
            (0o604, true, true),
            (0o644, true, true),
        ] {
            set(mode);
            assert_eq!(exposed(&path, own).is_some(), ours, "{mode:o}");
            assert_eq!(exposed(&path, own + 1).is_some(), another, "{mode:o}");
        }
        assert_eq!(read(&path).unwrap(), "a token of some length");
        std::fs::write(&path, "x".repeat(TOKEN_LIMIT + 1)).unwrap();
        assert!(read(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(read(&path).is_err() && exposed(&path, own).is_none());
    }
}
