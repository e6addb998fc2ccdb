"""Starts the programs as the manifests say, word for word, and looks whether they do what the manifests expect.

Every pod becomes a process in a root of its own, read-only but for its volumes, as the user and group of its
security context, with no environment but the manifest's, on a network of the test's own where the names of the
services lead to it. Volumes of secrets hold what deploy/README.md puts there, with the mode that they have in a
cluster. Nothing is mapped or rewritten: ports, paths, arguments and variables are the manifest's.

    python pods.py OBJECTS.json COORDINATOR WORKER     (as root, on Linux)
"""

import ctypes
import fcntl
import glob
import json
import os
import pathlib
import pwd
import re
import secrets
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

#: Longest that anything is waited for: only a hang takes so long.
PATIENCE = 100
GRID = """
version: 1
name: deployed
data: diabetes
axes:
  activation: [tanh, softplus]
  seed: {start: 0, count: 20}
fixed: {body: mlp, depth: 2, width: 6, loss: squared}
"""
NAMES = "127.0.0.1 localhost coordinator coordinator-0.coordinator database\n"


def run(*words, **more):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def mount(*words):
    run("mount", *words)


def until(what, is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, f"{what} takes too long"
        time.sleep(0.05)


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        # SIOCSIFFLAGS, IFF_UP
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))


class Pod:
    """A container of a pod, as a process."""

    def __init__(self, folder, name, spec, contents, programs):
        self.container, = spec["containers"]
        self.spec = spec
        self.name = name
        self.root = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.log = folder / f"{self.root.name}.log"
        user = spec["securityContext"]
        self.user, self.group = user["runAsUser"], user["runAsGroup"]
        self.make_root(contents, programs)
        self.start()

    def make_root(self, contents, programs):
        root = self.root
        mount("-t", "tmpfs", "none", root)
        for name in ["usr", "proc", "dev", "etc"]:
            (root / name).mkdir()
        # Read-only before anything else: these are the machine's own files.
        mount("--bind", "/usr", root / "usr")
        mount("-o", "remount,bind,ro", root / "usr")
        mount("--bind", programs, root / "usr/local/bin")
        for name in ["bin", "lib", "lib64"]:
            (root / name).symlink_to(f"usr/{name}")
        mount("-t", "proc", "none", root / "proc")
        for name in ["null", "urandom"]:
            (root / "dev" / name).touch()
            mount("--bind", f"/dev/{name}", root / "dev" / name)
        (root / "etc/hosts").write_text(NAMES)
        (root / "etc/nsswitch.conf").write_text("hosts: files\n")
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for place in self.container["volumeMounts"]:
            self.fill(root / place["mountPath"].lstrip("/"), volumes.get(place["name"], {}), contents)
        assert self.container["securityContext"]["readOnlyRootFilesystem"]
        mount("-o", "remount,ro", root)

    def fill(self, place, volume, contents):
        place.mkdir(parents=True)
        source = volume.get("secret") or volume.get("configMap")
        if source is None:
            mount("-t", "tmpfs", "none", place)
            os.chown(place, self.user, self.group)
            return
        files = contents[source.get("secretName") or source["name"]]
        names = {item["key"]: item["path"] for item in source.get("items", [])} or {key: key for key in files}
        for key, name in names.items():
            path = place / name
            path.write_text(files[key])
            path.chmod(source.get("defaultMode", 0o644))
            # As the kubelet does for a pod with fsGroup.
            os.chown(path, 0, self.spec["securityContext"]["fsGroup"])

    def start(self):
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        for variable in self.container.get("env", []):
            path = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            assert path in (None, "metadata.name"), path
            environment[variable["name"]] = self.name if path else variable["value"]
        known = lambda found: environment[found[1]]
        words = [re.sub(r"\$\((\w+)\)", known, word) for word in self.container["command"] + self.container["args"]]

        def become():
            os.chroot(self.root)
            os.chdir(self.container.get("workingDir", "/"))
            os.setgroups([self.spec["securityContext"]["fsGroup"]])
            os.setgid(self.group)
            os.setuid(self.user)
            # PR_SET_NO_NEW_PRIVS
            assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0

        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                words, env=environment, preexec_fn=become, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self):
        return f"{self.name}:\n{self.log.read_text()}"

    def port(self, name):
        return next(p["containerPort"] for p in self.container["ports"] if p["name"] == name)

    def probe(self, kind):
        """What the kubelet gets to see: its calls go to the pod's address and look at no certificate."""
        get = self.container[kind]["httpGet"]
        url = f"{get['scheme'].lower()}://127.0.0.1:{self.port(get['port'])}{get['path']}"
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(url, timeout=5, context=anybody) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            assert self.process.poll() is None, self.said()
            return None

    def end(self, how, code):
        """Ends it as the kubelet does; it must be gone before the kubelet would kill it."""
        self.process.send_signal(how)
        grace = self.spec.get("terminationGracePeriodSeconds", 30)
        assert self.process.wait(grace) == code, self.said()

    def ended(self, code):
        assert self.process.wait(PATIENCE) == code, self.said()


class Place:
    """Where one overlay is deployed: what its README has made before."""

    def __init__(self, folder, programs):
        self.folder, self.programs = folder, programs
        self.tls = folder / "tls"
        run(programs / "coordinator", "certs", "--out", self.tls, "--host", "coordinator", "--host", "database")
        self.tokens = {name: secrets.token_urlsafe(24) for name in ("worker", "admin", "http", "database")}
        read = lambda name: (self.tls / name).read_text()
        both = {"ca.crt": read("ca.pem")}
        store = "store: postgres://sweep@database/sweeps?sslrootcert=/etc/sweep/database/ca.crt\n"
        self.contents = {
            "sweep-tokens": {name: self.tokens[name] for name in ("worker", "admin", "http")},
            "sweep-coordinator-tls": {**both, "tls.crt": read("server.pem"), "tls.key": read("server-key.pem")},
            "sweep-worker-tls": {**both, "tls.crt": read("worker.pem"), "tls.key": read("worker-key.pem")},
            "sweep-database": {
                **both,
                "coordinator.yaml": store,
                "pgpass": f"database:5432:sweeps:sweep:{self.tokens['database']}\n",
            },
        }

    def pod(self, name, spec):
        return Pod(self.folder, name, spec, self.contents, self.programs)

    def laptop(self, command, *more):
        """The administration through a port-forward, which ends at localhost."""
        admin = self.folder / "admin"
        admin.write_text(self.tokens["admin"])
        admin.chmod(0o600)
        return run(
            self.programs / "coordinator", command, "--connect", "https://localhost:7878", "--server-name", "coordinator",
            "--admin-token-file", admin, "--ca-file", self.tls / "ca.pem", "--cert-file", self.tls / "worker.pem",
            "--key-file", self.tls / "worker-key.pem", *more,
        )

    def metrics(self):
        trusted = ssl.create_default_context(cafile=self.tls / "ca.pem")
        request = urllib.request.Request(
            "https://localhost:8080/metrics", headers={"Authorization": f"Bearer {self.tokens['http']}"}
        )
        with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
            return answer.read().decode()

    def database(self):
        """PostgreSQL under the name `database`, over TLS and with a password."""
        programs = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        owner = pwd.getpwnam("postgres")
        home = self.folder / "postgres"
        home.mkdir()
        for name in ("server.pem", "server-key.pem"):
            shutil.copy(self.tls / name, home / name)
            os.chown(home / name, owner.pw_uid, owner.pw_gid)
        os.chown(home, owner.pw_uid, owner.pw_gid)
        self.folder.chmod(0o711)
        become = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": home}
        run(programs / "initdb", "-D", home / "data", "-A", "scram-sha-256", "--auth-local=trust", **become)
        options = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": home, "ssl": "on",
            "ssl_cert_file": home / "server.pem", "ssl_key_file": home / "server-key.pem", "fsync": "on",
        }
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "postgres.log").open("w") as log:
            words = [programs / "postgres", "-D", home / "data", *settings]
            server = subprocess.Popen([str(w) for w in words], stdout=log, stderr=log, **become)
        ready = lambda: subprocess.run([programs / "pg_isready", "-q", "-h", home], check=False).returncode == 0
        until("PostgreSQL", ready)
        for sql in (f"CREATE ROLE sweep LOGIN PASSWORD '{self.tokens['database']}'", "CREATE DATABASE sweeps OWNER sweep"):
            run(programs / "psql", "-h", home, "-d", "postgres", "-c", sql, **become)
        return server


def templates(things, component):
    return [
        (thing, thing["spec"]["template"]["spec"])
        for thing in things
        if thing["kind"] in ("Deployment", "StatefulSet", "Job") and thing["metadata"]["name"] == component
    ]


def metrics_named(things):
    """The metrics that scaling and dashboards ask for."""
    asked = [trigger["metadata"]["query"] for t in things if t["kind"] == "ScaledObject" for trigger in t["spec"]["triggers"]]
    for board in (json.loads(t["data"]["sweeps.json"]) for t in things if t["kind"] == "ConfigMap"):
        asked += [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return sorted(set(re.findall(r"\bsweep_\w+", " ".join(asked))))


def is_up(coordinator):
    """Probes succeed with no worker in sight."""
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        until(f"{kind} of {coordinator.name}", lambda kind=kind: coordinator.probe(kind) == 200)


def standing(place, things, names):
    """Overlays with `coordinator serve`."""
    server = place.database() if "sweep-database" in json.dumps(things) else None
    (_, spec), = templates(things, "coordinator")
    coordinator = place.pod("coordinator-0", spec)
    is_up(coordinator)
    grid = place.folder / "grid.yaml"
    grid.write_text(GRID)
    place.laptop("submit", "--grid", grid)
    metrics = place.metrics()
    for name in names:
        assert re.search(rf"^{name}(\{{[^}}]*\}})? ", metrics, re.MULTILINE), f"no metric {name}:\n{metrics}"
    (_, spec), = templates(things, "worker")
    workers = [place.pod(f"worker-{n}", spec) for n in range(2)]
    until("a first result", lambda: json.loads(place.laptop("status", "--json"))["sweeps"][0]["recorded"] > 0)
    # A node is drained.
    workers[0].end(signal.SIGTERM, 0)
    place.laptop("watch")
    summary = json.loads(place.laptop("summary"))
    assert summary["totals"]["recorded"] == 40 and not summary["sweep"]["partial"], summary["totals"]
    # The coordinator is replaced; its store is not.
    coordinator.end(signal.SIGTERM, 130)
    coordinator.start()
    is_up(coordinator)
    assert json.loads(place.laptop("summary")) == summary
    workers[1].end(signal.SIGTERM, 0)
    coordinator.end(signal.SIGTERM, 130)
    if server:
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE)


def once(place, things):
    """Jobs: everything ends with the sweep."""
    grid = next(t for t in things if t["kind"] == "ConfigMap")
    # A short one, under the name of the manifest's.
    assert list(grid["data"]) == ["grid.yaml"]
    place.contents[grid["metadata"]["name"]] = {"grid.yaml": GRID}
    (_, spec), = templates(things, "coordinator")
    coordinator = place.pod("coordinator", spec)
    is_up(coordinator)
    (job, spec), = templates(things, "worker")
    # One is interrupted, as the image asks: its index must not count as completed.
    first = place.pod("worker-first", spec)
    until("a session", lambda: "sweep" in first.log.read_text() or "welcome" in first.log.read_text())
    first.end(signal.SIGINT, 130)
    refused = job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert 130 not in refused and 0 not in refused
    workers = [place.pod(f"worker-{n}", spec) for n in range(2)]
    coordinator.ended(0)
    for worker in workers:
        worker.ended(0)
    found = list(coordinator.root.glob("var/lib/sweep/*/summary.json"))
    assert len(found) == 1, coordinator.said()


def inside(objects, scratch):
    """On a network and with mounts of its own."""
    mount("--make-rprivate", "/")
    loopback_up()
    names = scratch / "hosts"
    names.write_text(NAMES)
    mount("--bind", names, "/etc/hosts")
    for target, things in json.loads(pathlib.Path(objects).read_text()).items():
        if target == "overlays/cert-manager":
            # The pods of `embedded`; only who makes their secrets differs.
            continue
        place = Place(pathlib.Path(tempfile.mkdtemp(dir=scratch)), scratch / "bin")
        began = time.monotonic()
        if target == "job":
            once(place, things)
        else:
            standing(place, things, metrics_named(things))
        print(f"{target}: runs as written, {time.monotonic() - began:.0f} s", flush=True)


def main():
    if sys.argv[1] == "--inside":
        inside(sys.argv[2], pathlib.Path(sys.argv[3]))
        return
    objects, *programs = sys.argv[1:]
    # Made and removed out here, where none of the mounts inside is to be seen.
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o711)
        folder = pathlib.Path(scratch) / "bin"
        folder.mkdir()
        for program in programs:
            shutil.copy(program, folder)
        namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        done = subprocess.run([*namespaces, sys.executable, __file__, "--inside", objects, scratch], check=False)
    sys.exit(done.returncode)


main()
