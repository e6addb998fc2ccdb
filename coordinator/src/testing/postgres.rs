//! A private PostgreSQL server for tests: a cluster in a temporary folder, behind a Unix socket.
//!
//! A shell watches over each server. It holds the reading end of a pipe from this process: when
//! this process ends in whatever way, the server is stopped and its folder removed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// When set to 1, a test that needs the server programs fails without them instead of saying
/// that it was skipped.
pub const REQUIRE: &str = "SWEEP_REQUIRE_POSTGRES";

/// A running server. Dropped, it is gone with everything in it.
#[derive(Debug)]
pub struct PostgresServer {
    folder: PathBuf,
    programs: Programs,
    watch: Child,
    databases: AtomicU32,
}

/// Where the server's programs are, and how they are run.
#[derive(Clone, Debug)]
struct Programs {
    folder: PathBuf,
    /// The server refuses to run as root.
    as_postgres: bool,
}

impl Programs {
    fn find() -> Option<Self> {
        let debian = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten();
        let debian = debian.filter_map(Result::ok).map(|e| e.path().join("bin"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
        // Links elsewhere do not find the programs beside them.
        let folder = debian.chain(path).find(|f| f.join("initdb").exists())?;
        let as_postgres = rustix::process::geteuid().is_root();
        Some(Self {
            folder,
            as_postgres,
        })
    }

    fn command(&self, program: &str) -> Command {
        let program = self.folder.join(program);
        if self.as_postgres {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    }
}

impl PostgresServer {
    /// The server that the tests of this process share; `None`, and a word about it, if the
    /// programs are missing.
    ///
    /// # Panics
    /// If they are missing and [`REQUIRE`] is set, or do not work.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<PostgresServer>> = OnceLock::new();
        // No test of it cuts the power.
        SHARED
            .get_or_init(|| Self::start(&["fsync = off"]))
            .as_ref()
    }

    /// A server of a test's own, with lines for its configuration.
    ///
    /// # Panics
    /// As [`PostgresServer::shared`].
    pub fn start(settings: &[&str]) -> Option<Self> {
        let folder = tempfile::Builder::new()
            .prefix("pg-")
            .tempdir()
            .expect("a temporary folder");
        // Removed by the watching shell.
        Self::start_in(folder.keep(), settings)
    }

    /// The same in an empty folder, which goes with it.
    ///
    /// # Panics
    /// As [`PostgresServer::shared`].
    pub fn start_in(folder: PathBuf, settings: &[&str]) -> Option<Self> {
        let Some(programs) = Programs::find() else {
            let required = std::env::var(REQUIRE).is_ok_and(|value| value == "1");
            assert!(!required, "PostgreSQL is not installed, and {REQUIRE} is 1");
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
            }
            let _ = std::fs::remove_dir_all(&folder);
            return None;
        };
        let mode = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&folder, mode).expect("the folder is ours");
        let data = folder.join("data");
        let mut initdb = programs.command("initdb");
        initdb
            .args([
                "--auth",
                "trust",
                "--username",
                "postgres",
                "--encoding",
                "UTF8",
            ])
            .args([
                "--locale",
                "C",
                "--no-sync",
                "--no-instructions",
                "--wal-segsize",
                "1",
            ])
            .arg("--pgdata")
            .arg(&data);
        run(initdb.current_dir("/"));
        let mut lines = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nmax_connections = 200\n\
             shared_buffers = 16MB\nmax_wal_size = 64MB\nautovacuum = off\n",
            folder.display()
        );
        for line in settings {
            lines.push_str(line);
            lines.push('\n');
        }
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .expect("the server has a configuration");
        file.write_all(lines.as_bytes()).expect("it can be written");
        let server = Self {
            watch: watch(&programs, &folder),
            folder,
            programs,
            databases: AtomicU32::new(0),
        };
        server.go();
        Some(server)
    }

    /// Its folder: the data are in `data`, the log is `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets it run again after a [`PostgresServer::stop`].
    ///
    /// # Panics
    /// If it does not.
    pub fn go(&self) {
        self.control(&["start", "--log"], Some(&self.folder.join("log")));
    }

    /// Makes a folder the server's own.
    ///
    /// # Panics
    /// If that is not allowed.
    pub fn give(&self, folder: &Path) {
        if self.programs.as_postgres {
            run(Command::new("chown").arg("postgres").arg(folder));
        }
    }

    /// Lets it run again if it has stopped by itself; what came of it.
    pub fn try_go(&self) -> String {
        let mut command = self.programs.command("pg_ctl");
        command.args(["--wait", "--silent", "--pgdata"]);
        command
            .arg(self.folder.join("data"))
            .args(["start", "--log"]);
        command.arg(self.folder.join("log")).current_dir("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        match command.status() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Stops it: `fast` ends all sessions, `immediate` is a crash.
    ///
    /// # Panics
    /// If it does not stop.
    pub fn stop(&self, mode: &str) {
        self.control(&["stop", "--mode", mode], None);
    }

    fn control(&self, arguments: &[&str], last: Option<&Path>) {
        let mut command = self.programs.command("pg_ctl");
        command.args(["--wait", "--silent", "--pgdata"]);
        command.arg(self.folder.join("data")).args(arguments);
        command.args(last).current_dir("/");
        run(&mut command);
    }

    /// A new database; its URL.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        let socket = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{socket}/{database}")
    }

    /// Runs SQL in a database, given by name or URL; what it prints, without ornaments.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let url = if database.contains("://") {
            database.to_owned()
        } else {
            self.url(database)
        };
        let mut psql = Command::new(self.programs.folder.join("psql"));
        psql.args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--dbname",
        ]);
        psql.args([&url, "--command", sql]).current_dir("/");
        run(&mut psql).trim().to_owned()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // Closes the pipe.
        drop(self.watch.stdin.take());
        let _ = self.watch.wait();
    }
}

fn watch(programs: &Programs, folder: &Path) -> Child {
    let user = if programs.as_postgres {
        "runuser -u postgres --"
    } else {
        ""
    };
    // Signals of a terminal are for the tests; the end of the pipe is for the shell.
    let script = format!(
        "trap '' INT HUP TERM; cd /; cat >/dev/null; \
         {user} {}/pg_ctl stop --silent --mode immediate --pgdata \"$1/data\"; rm -rf \"$1\"",
        programs.folder.display()
    );
    Command::new("sh")
        .args(["-c", &script, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell")
}

fn run(command: &mut Command) -> String {
    // The server inherits what its starter has: no pipe that would be waited for.
    let log = tempfile::tempfile().expect("a temporary file");
    let shared = || Stdio::from(log.try_clone().expect("a file can be shared"));
    let status = command
        .stdin(Stdio::null())
        .stdout(shared())
        .stderr(shared())
        .status();
    let mut text = String::new();
    {
        use std::io::{Read, Seek};
        let mut log = &log;
        log.rewind().expect("a file can be rewound");
        log.read_to_string(&mut text).expect("programs print text");
    }
    let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}\n{text}");
    text
}
