//! The log on standard error: `--log` and `--log-format`, or their variables.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::progress::LogWriter;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// As `tracing` filters are written: `info`, `coordinator=debug`.
    pub filter: String,
    /// An object a line instead of text.
    pub json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "error".to_owned(),
            json: false,
        }
    }
}

impl Log {
    /// Checks both.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn new(filter: &str, format: &str) -> Result<Self, String> {
        EnvFilter::try_new(filter)
            .map_err(|e| format!("log: `{filter}` is no filter, such as `info`: {e}"))?;
        let json = match format {
            "text" | "" => false,
            "json" => true,
            other => return Err(format!("log_format: `{other}` is neither text nor json")),
        };
        let filter = filter.to_owned();
        Ok(Self { filter, json })
    }

    /// As the environment has it, for commands without settings.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn from_environment() -> Result<Self, String> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let filter = match variable("SWEEP_LOG") {
            none if none.is_empty() => Self::default().filter,
            filter => filter,
        };
        Self::new(&filter, &variable("SWEEP_LOG_FORMAT"))
    }

    /// Variables that make local workers log alike. Their own default says less than `info` and
    /// more than errors.
    pub fn for_workers(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if *self != Self::default() {
            variables.push(("SWEEP_LOG", self.filter.clone()));
        }
        if self.json {
            variables.push(("SWEEP_LOG_FORMAT", "json".to_owned()));
        }
        variables
    }

    /// Starts it, once in a process.
    pub fn start(&self) {
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&self.filter))
            .with_writer(Stderr)
            // Whoever read standard error may be gone; telling that there would panic.
            .log_internal_errors(false);
        // A second start, in tests, changes nothing.
        let _ = if self.json {
            log.json().flatten_event(true).try_init()
        } else {
            log.with_ansi(super::colours_on_stderr()).try_init()
        };
    }
}

/// Makes writers that go around the progress bar.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_or_form_is_named() {
        let error = |filter, format| Log::new(filter, format).unwrap_err();
        assert!(error("coordinator=loud", "text").contains("coordinator=loud"));
        assert!(error("info", "xml").contains("xml"));
        assert!(Log::new("coordinator=debug,info", "json").unwrap().json);
    }
}
