//! `--launch`: workers on other hosts through a real ssh server, and as jobs of
//! a real Slurm. Both run on loopback, in a folder of the test, with keys that
//! are thrown away.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper that fails fails its test, and one that skips says so"
)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tests::processes::{
    PATIENCE, RunningSweep, coordinator, output, program, send_signal, wait, wait_until_gone,
};
use tests::scene::count;

/// Tasks take their time and end by their budget, so that there is a middle of the sweep to disturb.
const GRID: &str = r#"
version: 1
name: launched
data: diabetes
axes:
  depth: [2, 4]
  activation: [tanh, softplus]
  seed: {start: 0, count: 20}
fixed: {body: mlp, width: 8, loss: squared}
training: {budget: {evaluations: 2000}}
"#;

struct Scene {
    folder: TempDir,
    /// Of this test alone: others run beside it, and their coordinators know theirs.
    token: String,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("grid.yaml"), GRID).unwrap();
        // The name of the folder is public, so turn it around.
        let name = folder.path().file_name().unwrap().to_string_lossy();
        let token = name.chars().rev().collect::<String>().repeat(3);
        Self { folder, token }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn sweep(&self, name: &str, options: &[&str]) -> Command {
        let mut command = coordinator();
        command
            .arg("--grid")
            .arg(self.path("grid.yaml"))
            .arg("--store")
            .arg(self.path(name))
            .arg("--out")
            .arg(self.path(&format!("{name}-out")))
            .args(options);
        command
    }

    fn summary(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}-out")).join("summary.json")).unwrap()
    }

    /// The summary of a sweep by local workers.
    fn local(&self) -> String {
        let run = output(&mut self.sweep("local", &["--local-workers", "2"]));
        assert!(run.status.success(), "{run:?}");
        self.summary("local")
    }
}

/// Whether what a test needs is there; if it must be and is not, the test fails.
fn have(programs: &[&str], required: &str) -> bool {
    let missing = programs.iter().find(|p| !Path::new(p).exists());
    let Some(missing) = missing else {
        return true;
    };
    let demanded = std::env::var_os(required).is_some();
    assert!(!demanded, "{required} is set and {missing} is not there");
    println!("skipped: there is no {missing}");
    false
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run(command: &mut Command) -> String {
    let run = output(command);
    assert!(run.status.success(), "{command:?}: {run:?}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn service(command: &mut Command, log: &Path) -> Service {
    let log = fs::File::create(log).unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    Service(child.unwrap())
}

/// Processes of this worker program that join a coordinator.
fn workers(url: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    let joins = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line
            .split(|b| *b == 0)
            .map(String::from_utf8_lossy)
            .collect();
        words[0].ends_with("/worker") && words.iter().any(|word| word == url)
    };
    pids.filter(joins).collect()
}

/// Fails if any process shows the token in its arguments, or any but the
/// coordinator in its environment.
fn token_is_not_public(token: &str, coordinator: u32) -> usize {
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        for file in ["cmdline", "environ"] {
            if pid == coordinator && file == "environ" {
                continue;
            }
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            let shown = text.windows(token.len()).any(|w| w == token.as_bytes());
            assert!(!shown, "the token is in /proc/{pid}/{file}");
            looked_at += 1;
        }
    }
    looked_at
}

/// An ssh server with one key, and a client that knows it as `ssh` in a folder
/// for PATH.
struct Ssh {
    _server: Service,
    port: u16,
    path: String,
}

impl Ssh {
    fn start(scene: &Scene) -> Option<Self> {
        let server = "/usr/sbin/sshd";
        if !have(
            &[server, "/usr/bin/ssh", "/usr/bin/ssh-keygen"],
            "SWEEP_REQUIRE_SSHD",
        ) {
            return None;
        }
        // Where the server keeps what it does as nobody; only root needs it.
        let _ = fs::create_dir("/run/sshd");
        let key = |name: &str| {
            let path = scene.path(name);
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&path));
            path
        };
        let (host, own) = (key("host-key"), key("key"));
        let shown = |path: &Path| path.display().to_string();
        let port = free_port();
        let config = scene.write(
            "sshd_config",
            &format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}.pub\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
                shown(&host),
                shown(&own)
            ),
        );
        let log = scene.path("sshd.log");
        let mut command = Command::new(server);
        let server = service(command.args(["-D", "-e", "-f"]).arg(config), &log);
        let listens = || fs::read_to_string(&log).unwrap().contains("listening");
        until("sshd", listens);
        let config = scene.write(
            "ssh_config",
            &format!(
                "Host *\nPort {port}\nIdentityFile {}\nIdentitiesOnly yes\n\
                 StrictHostKeyChecking accept-new\nUserKnownHostsFile {}\n",
                shown(&own),
                shown(&scene.path("known_hosts"))
            ),
        );
        fs::create_dir(scene.path("bin")).unwrap();
        let text = format!(
            "#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n",
            shown(&config)
        );
        let client = scene.write("bin/ssh", &text);
        fs::set_permissions(client, fs::Permissions::from_mode(0o755)).unwrap();
        Some(Self {
            _server: server,
            port,
            path: format!(
                "{}:{}",
                shown(&scene.path("bin")),
                std::env::var("PATH").unwrap()
            ),
        })
    }
}

/// A sweep with two workers through ssh, over TLS.
fn through_ssh(scene: &Scene, ssh: &Ssh, name: &str) -> (Command, String) {
    let certificates = scene.path("certificates");
    if !certificates.exists() {
        run(coordinator().args(["certs", "--out"]).arg(&certificates));
    }
    let shown = |path: PathBuf| path.display().to_string();
    let config = format!("ca_file: {}\n", shown(certificates.join("ca.pem")));
    let config = shown(scene.write("worker.yaml", &config));
    let worker = shown(program("worker"));
    let port = ssh.port;
    let hosts = format!(
        "# two names of one host\n\
         localhost slots=1 worker={worker} config={config} port={port}\n\
         127.0.0.1 slots=1 worker={worker} config={config} port={port}\n"
    );
    let hosts = format!("ssh:{}", shown(scene.write("hosts.txt", &hosts)));
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = scene.sweep(name, &["--listen", &address, "--launch", &hosts]);
    command
        .arg("--tls-cert")
        .arg(certificates.join("server.pem"))
        .arg("--tls-key")
        .arg(certificates.join("server-key.pem"))
        .env("PATH", &ssh.path)
        .env("SWEEP_TOKEN", &scene.token);
    (command, format!("https://{address}"))
}

#[test]
fn workers_through_ssh_are_started_again_when_they_die_and_gone_at_the_end() {
    let scene = Scene::new();
    let Some(ssh) = Ssh::start(&scene) else {
        return;
    };
    let (mut command, url) = through_ssh(&scene, &ssh, "remote");
    let mut sweep = RunningSweep::start(&mut command);
    sweep.wait_for_recorded(5);
    until("the second worker", || workers(&url).len() == 2);
    assert!(token_is_not_public(&scene.token, sweep.pid()) > 10);
    let before = workers(&url);
    send_signal(before[0], "KILL");
    let said = sweep.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or("");
        message.contains("it is started again in")
    });
    assert!(
        said["message"].as_str().unwrap().contains("ended"),
        "{said}"
    );
    assert!(sweep.finish().success());
    assert_eq!(scene.summary("remote"), scene.local());
    wait_until_gone(&before);
    until("the end of the workers", || workers(&url).is_empty());
}

#[test]
fn workers_through_ssh_end_with_a_coordinator_that_is_killed_or_interrupted() {
    let scene = Scene::new();
    let Some(ssh) = Ssh::start(&scene) else {
        return;
    };
    let (mut command, url) = through_ssh(&scene, &ssh, "remote");
    let mut sweep = RunningSweep::start(&mut command);
    sweep.wait_for_recorded(3);
    let first = workers(&url);
    assert!(!first.is_empty());
    sweep.kill();
    wait_until_gone(&first);
    until("the end of a late worker", || workers(&url).is_empty());

    let (mut command, url) = through_ssh(&scene, &ssh, "remote");
    let mut sweep = RunningSweep::start(&mut command);
    sweep.wait_for_more(3);
    assert!(!workers(&url).is_empty());
    sweep.signal("INT");
    assert_eq!(sweep.finish().code(), Some(130));
    until("the end of the workers", || workers(&url).is_empty());

    let (mut command, _) = through_ssh(&scene, &ssh, "remote");
    let (ended, said) = RunningSweep::start(&mut command).finish_with_words();
    assert!(ended.success(), "{ended}: {said:#?}");
    assert_eq!(scene.summary("remote"), scene.local());
}

#[test]
fn a_host_without_the_program_is_given_up_and_says_why() {
    let scene = Scene::new();
    let Some(ssh) = Ssh::start(&scene) else {
        return;
    };
    let hosts = scene.write("hosts.txt", "localhost worker=/no/such/worker\n");
    let hosts = format!("ssh:{}", hosts.display());
    let mut command = scene.sweep("none", &["--listen", "127.0.0.1:0", "--launch", &hosts]);
    let sweep = RunningSweep::start(command.env("PATH", &ssh.path));
    let (status, said) = sweep.finish_with_words();
    let said = said.join("\n");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("localhost is given up"), "{said}");
    assert!(said.contains("/no/such/worker"), "{said}");
}

#[test]
fn what_cannot_be_launched_is_told_before_anything_starts() {
    let scene = Scene::new();
    let hosts = scene.write("hosts.txt", "node1 slots=0\nnode2 fast\n");
    let hosts = format!("ssh:{}", hosts.display());
    for (options, parts) in [
        (
            vec!["--listen", "127.0.0.1:0", "--launch", &hosts],
            vec!["hosts.txt:1: `slots` is `0`", "hosts.txt:2: `fast`"],
        ),
        (
            vec!["--launch", "slurm:workers=2"],
            vec!["--launch", "--listen"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--launch", "slurm:cpus=many"],
            vec!["`cpus` is `many`"],
        ),
        (
            vec!["--listen", "127.0.0.1:0", "--advertise", "nowhere"],
            vec!["--advertise", "HOST:PORT"],
        ),
    ] {
        let run = output(&mut scene.sweep("refused", &options));
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{error}");
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing: {error}");
        }
        assert!(!scene.path("refused").exists());
    }
}

/// Slurm with one node, this machine.
struct Slurm {
    config: PathBuf,
    _services: Vec<Service>,
}

impl Slurm {
    fn start(scene: &Scene) -> Option<Self> {
        let programs = [
            "/usr/sbin/munged",
            "/usr/sbin/slurmctld",
            "/usr/sbin/slurmd",
            "/usr/bin/sbatch",
        ];
        if !have(&programs, "SWEEP_REQUIRE_SLURM") {
            return None;
        }
        for folder in ["state", "spool", "munge"] {
            fs::create_dir(scene.path(folder)).unwrap();
        }
        let open = fs::Permissions::from_mode(0o711);
        fs::set_permissions(scene.folder.path(), open.clone()).unwrap();
        fs::set_permissions(scene.path("munge"), open).unwrap();
        let mut random = [0; 1024];
        let mut source = fs::File::open("/dev/urandom").unwrap();
        std::io::Read::read_exact(&mut source, &mut random).unwrap();
        fs::write(scene.path("munge/key"), random).unwrap();
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(scene.path("munge/key"), private).unwrap();
        let option = |name: &str, file: &str| format!("--{name}={}", scene.path(file).display());
        let mut munged = Command::new(programs[0]);
        munged.args(["--foreground", "--force"]).args([
            option("socket", "munge/socket"),
            option("key-file", "munge/key"),
            option("log-file", "munge/log"),
            option("pid-file", "munge/pid"),
            option("seed-file", "munge/seed"),
        ]);
        let munged = service(&mut munged, &scene.path("munged.log"));
        until("munged", || scene.path("munge/socket").exists());

        let host = run(Command::new("hostname").arg("-s")).trim().to_owned();
        let user = run(Command::new("id").arg("-un")).trim().to_owned();
        let here = scene.folder.path().display();
        let (controller, node) = (free_port(), free_port());
        let cores = std::thread::available_parallelism().unwrap();
        let config = scene.write(
            "slurm.conf",
            &format!(
                "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\n\
                 SlurmdPort={node}\nAuthType=auth/munge\nCryptoType=crypto/munge\n\
                 AuthInfo=socket={here}/munge/socket\nSlurmUser={user}\nSlurmdUser={user}\n\
                 StateSaveLocation={here}/state\nSlurmdSpoolDir={here}/spool\n\
                 SlurmctldPidFile={here}/ctld.pid\nSlurmdPidFile={here}/slurmd.pid\n\
                 ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
                 SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\nReturnToService=2\n\
                 MailProg=/bin/true\nSchedulerParameters=sched_interval=1,batch_sched_delay=0\n\
                 NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN\n\
                 PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP \
                 OverSubscribe=FORCE:4\n"
            ),
        );
        let start = |program: &str, log: &str| {
            let mut command = Command::new(program);
            command.args(["-D", "-f"]).arg(&config);
            service(&mut command, &scene.path(log))
        };
        let controller = start(programs[1], "slurmctld.log");
        let node = start(programs[2], "slurmd.log");
        let slurm = Self {
            config,
            _services: vec![node, controller, munged],
        };
        until("a node of Slurm", || {
            let mut states = slurm.command("sinfo");
            let run = output(states.args(["--noheader", "--format=%T"]));
            String::from_utf8_lossy(&run.stdout).trim() == "idle"
        });
        Some(slurm)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("SLURM_CONF", &self.config);
        command
    }

    fn jobs(&self) -> Vec<String> {
        let listed = run(self.command("squeue").args(["--noheader", "--array"]));
        listed.lines().map(str::to_owned).collect()
    }

    fn sweep(&self, scene: &Scene, name: &str, address: &str, more: &str) -> Command {
        let launch = format!(
            "slurm:workers=3,time=00:10:00,worker={},folder={}{more}",
            program("worker").display(),
            scene.folder.path().display()
        );
        let mut command = scene.sweep(name, &["--listen", address, "--launch", &launch]);
        command
            .env("SLURM_CONF", &self.config)
            .env("SWEEP_TOKEN", &scene.token);
        command
    }
}

fn token_files(scene: &Scene) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.folder.path())
        .unwrap()
        .map(|e| e.unwrap().path());
    let is_token = |path: &PathBuf| path.extension().is_some_and(|e| e == "token");
    entries.filter(is_token).collect()
}

#[test]
fn a_sweep_by_jobs_of_slurm_ends_with_the_same_bytes_and_no_job() {
    let scene = Scene::new();
    let Some(slurm) = Slurm::start(&scene) else {
        return;
    };
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");

    // A coordinator that is killed leaves its jobs behind, and the next one
    // finds them again.
    let mut command = slurm.sweep(&scene, "jobs", &address, "");
    let mut sweep = RunningSweep::start(&mut command);
    sweep.wait_for_recorded(3);
    assert!(token_is_not_public(&scene.token, sweep.pid()) > 10);
    let shown = run(slurm.command("scontrol").args(["show", "job", "--details"]));
    assert!(
        shown.contains("JobName=sweep-") && !shown.contains(&scene.token),
        "{shown}"
    );
    let mode = fs::metadata(&token_files(&scene)[0])
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(slurm.jobs().len(), 3);
    let before = workers(&url);
    sweep.kill();

    let mut command = slurm.sweep(&scene, "jobs", &address, "");
    let mut sweep = RunningSweep::start(&mut command);
    sweep.wait_for_more(3);
    assert_eq!(slurm.jobs().len(), 3, "no job more than there were");
    assert!(before.iter().any(|pid| workers(&url).contains(pid)));
    let (status, said) = sweep.finish_with_words();
    assert!(status.success(), "{said:#?}");
    assert_eq!(scene.summary("jobs"), scene.local());
    until("the end of the jobs", || slurm.jobs().is_empty());
    until("the end of the workers", || workers(&url).is_empty());
    assert_eq!(token_files(&scene), [] as [PathBuf; 0]);

    // Jobs that come to nothing are not submitted for ever; see `keeper`. What
    // Slurm refuses is told.
    let mut command = slurm.sweep(&scene, "refused", &address, ",partition=nowhere");
    let mut sweep = RunningSweep::start(&mut command);
    let said = sweep.wait_for(|line| {
        let message = line["message"].as_str().unwrap_or("");
        message.contains("no job submitted, next try in 10 s")
    });
    assert!(said.to_string().contains("sbatch says"), "{said}");
    sweep.signal("INT");
    assert_eq!(sweep.finish().code(), Some(130));
    assert_eq!(token_files(&scene), [] as [PathBuf; 0]);
}

/// Slurm tells a job ahead of its limit that its time is over.
#[test]
fn a_job_whose_time_is_over_hands_back_what_it_has_and_the_next_one_goes_on() {
    let scene = Scene::new();
    let Some(slurm) = Slurm::start(&scene) else {
        return;
    };
    // More than any job gets done in two minutes.
    let endless = GRID.replace("count: 20", "count: 100000");
    fs::write(scene.path("grid.yaml"), endless).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let more = ",workers=1,time=00:02:00";
    let mut command = slurm.sweep(&scene, "timed", &address, more);
    let mut sweep = RunningSweep::start(&mut command);
    sweep.wait_for_recorded(1);
    let store = scene.path("timed");
    let jobs = "SELECT count(DISTINCT w.name) FROM results r JOIN workers w USING (worker)";
    assert_eq!(count(&store, jobs), 1);
    until("the second job", || count(&store, jobs) > 1);
    // It left in time: nothing failed, nobody was given up.
    assert_eq!(count(&store, "SELECT count(*) FROM failures"), 0);
    sweep.signal("INT");
    let (status, said) = sweep.finish_with_words();
    assert_eq!(status.code(), Some(130), "{said:#?}");
    let said = said.join("\n");
    assert!(!said.contains("given up"), "{said}");
    until("the end of the jobs", || slurm.jobs().is_empty());
}

/// The scripts of deploy/slurm, as they are.
#[test]
fn the_batch_scripts_carry_out_a_sweep() {
    let scene = Scene::new();
    let Some(slurm) = Slurm::start(&scene) else {
        return;
    };
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/slurm");
    let programs = program("worker").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let submit = |script: &str, variables: &str, more: &[&str]| {
        let mut command = slurm.command("sbatch");
        command
            .current_dir(scene.folder.path())
            .env("PATH", &path)
            .arg("--parsable")
            .arg(format!("--export=ALL,{variables}"))
            .args(more)
            .arg(scripts.join(script));
        run(&mut command)
    };
    let port = free_port();
    let variables = format!("NODE=localhost,PORT={port},WORKERS=2,CPUS=1,LIMIT=00:10:00");
    let job = submit("coordinator.sbatch", &variables, &[]);
    until("the jobs", || slurm.jobs().is_empty());
    let log = scene.path(&format!("sweep-coordinator-{}.log", job.trim()));
    let log = fs::read_to_string(log).unwrap();
    let summary = fs::read_to_string(scene.path("results/summary.json"));
    assert_eq!(summary.expect(&log), scene.local(), "{log}");
    assert!(scene.path("store.sqlite3").exists());

    // A fixed array of workers, for a coordinator that is there.
    let address = format!("127.0.0.1:{}", free_port());
    let certificates = scene.path("certificates");
    run(coordinator().args(["certs", "--out"]).arg(&certificates));
    let mut command = scene.sweep("array", &["--local-workers", "0", "--listen", &address]);
    command
        .arg("--tls-cert")
        .arg(certificates.join("server.pem"))
        .arg("--tls-key")
        .arg(certificates.join("server-key.pem"))
        .arg("--tls-client-ca")
        .arg(certificates.join("ca.pem"))
        .env("SWEEP_TOKEN", &scene.token);
    let sweep = RunningSweep::start(&mut command);
    let token = scene.write("token", &scene.token);
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let variables = format!(
        "CONNECT=https://{address},TLS={},TOKEN_FILE={}",
        certificates.display(),
        token.display()
    );
    submit(
        "workers.sbatch",
        &variables,
        &["--array=0-1", "--cpus-per-task=1"],
    );
    assert!(sweep.finish().success());
    assert_eq!(scene.summary("array"), scene.local());
    until("the end of the jobs", || slurm.jobs().is_empty());
}

/// In place of jobs, a worker of its own: the script without Slurm.
const STAND_IN: &str = r#"#!/bin/sh
left=$#
while [ $left -gt 0 ]; do
  word=$1; shift; left=$((left - 1))
  case $word in
    --launch) shift; left=$((left - 1)); set -- "$@" --local-workers 1; echo $$ > pid-$SLURM_JOB_ID ;;
    *) set -- "$@" "$word" ;;
  esac
done
exec PROGRAM "$@"
"#;

/// The script that runs the coordinator as a job, begun; its temporary folder is `tmp-JOB`.
fn script(scene: &Scene, job: u32, save: u32) -> Child {
    use std::os::unix::process::CommandExt;
    fs::create_dir(scene.path(&format!("tmp-{job}"))).unwrap();
    let log = fs::File::create(scene.path(&format!("log-{job}"))).unwrap();
    let bin = scene.path("bin").display().to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/slurm/coordinator.sbatch");
    let mut command = Command::new("sh");
    command
        .arg(script)
        .current_dir(scene.folder.path())
        .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
        .env("TMPDIR", scene.path(&format!("tmp-{job}")))
        .env("SLURM_JOB_ID", job.to_string())
        .env("SWEEP_TOKEN", &scene.token)
        .env("NODE", "localhost")
        .env("PORT", free_port().to_string())
        .env("SAVE", save.to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0);
    command.spawn().unwrap()
}

#[test]
fn a_coordinator_that_is_killed_as_a_job_loses_no_result() {
    const RESULTS: &str = "SELECT count(*) FROM results";
    let scene = Scene::new();
    fs::write(
        scene.path("grid.yaml"),
        GRID.replace("count: 20", "count: 40"),
    )
    .unwrap();
    fs::create_dir(scene.path("bin")).unwrap();
    let stand_in = STAND_IN.replace("PROGRAM", &program("coordinator").display().to_string());
    let stand_in = scene.write("bin/coordinator", &stand_in);
    fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).unwrap();
    // What the one file that comes back holds.
    let saved = || {
        let look = scene.path("look");
        let _ = fs::remove_dir_all(&look);
        fs::create_dir(&look).unwrap();
        let copied = fs::copy(scene.path("store.sqlite3"), look.join("store.sqlite3"));
        copied.map_or(0, |_| count(&look, RESULTS))
    };

    // The node is lost: what was copied meanwhile is there.
    let mut first = script(&scene, 1, 1);
    until("a copy with results", || saved() > 0);
    let group = format!("-{}", first.id());
    run(Command::new("kill").args(["-KILL", "--", &group]));
    wait(&mut first);
    let before = saved();
    assert!(before > 0);

    // The coordinator is killed: the script copies all that it has recorded.
    let mut second = script(&scene, 2, 100_000);
    let pid = scene.path("pid-2");
    let pid = || fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok();
    until("the coordinator", || pid().is_some());
    let stores = fs::read_dir(scene.path("tmp-2")).unwrap();
    let mut stores = stores.map(|entry| entry.unwrap().path());
    let store = stores.find(|path| path.join("store.sqlite3").exists());
    let store = store.expect("it came along");
    until("more results", || count(&store, RESULTS) > before + 3);
    let recorded = count(&store, RESULTS);
    send_signal(pid().unwrap(), "KILL");
    let log = || fs::read_to_string(scene.path("log-2")).unwrap();
    assert_eq!(wait(&mut second).code(), Some(137), "{}", log());
    assert!(saved() >= recorded, "{}", log());
    assert!(!store.exists());

    let mut third = script(&scene, 3, 1);
    let ended = wait(&mut third);
    let log = fs::read_to_string(scene.path("log-3")).unwrap();
    assert!(ended.success(), "{log}");
    let summary = fs::read_to_string(scene.path("results/summary.json")).unwrap();
    assert_eq!(summary, scene.local(), "{log}");
}
