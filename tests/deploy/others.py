"""What deploy/ has beside manifests: the Dockerfile, the Compose file, the units of systemd.

No container engine is needed: what is looked at is whether the files and options that they name exist.

    python others.py REPOSITORY COORDINATOR WORKER
"""

import pathlib
import re
import shlex
import subprocess
import sys

import yaml

REPOSITORY = pathlib.Path(sys.argv[1])
DEPLOY = REPOSITORY / "deploy"
PROGRAMS = {pathlib.Path(path).name: path for path in sys.argv[2:4]}


def options(words):
    """The options that a program knows, in the form that a command line asks for."""
    program = pathlib.Path(words[0]).name
    command = [word for word in words[1:2] if not word.startswith("-")]
    run = subprocess.run([PROGRAMS[program], *command, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", run.stdout))


def check_command(about, words):
    assert words[0].startswith("/usr/local/bin/"), about
    for word in words[1:]:
        if word.startswith("--"):
            name = word.split("=")[0]
            assert name in options(words), f"{about}: {words[0]} has no option {name}"


def compose():
    file = yaml.safe_load((DEPLOY / "docker-compose.yaml").read_text())
    used = set()
    for name, service in file["services"].items():
        used |= set(service.get("secrets", []))
        assert set(service["networks"]) <= file["networks"].keys(), name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in file["volumes"], f"{name}: {volume}"
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert (context / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
            check_command(f"service {name}", service["command"])
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            for word in service["command"]:
                secret = re.search(r"=/run/secrets/(\S+)", word)
                assert not secret or secret[1] in service["secrets"], f"{name}: {word}"
    assert used == file["secrets"].keys(), used ^ file["secrets"].keys()


def dockerfile():
    text = (DEPLOY / "Dockerfile").read_text()
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for path in line.split()[:-1]:
            assert (REPOSITORY / path).exists(), f"COPY {path}: it does not exist"
            assert path in kept, f"COPY {path}: Dockerfile.dockerignore leaves it out"
    members = re.search(r"members = (\[.*?\])", (REPOSITORY / "Cargo.toml").read_text(), re.DOTALL)[1]
    for member in re.findall(r'"([^"]+)"', members):
        assert member.split("/")[0] in kept, f"the package {member} is not copied"
    for manifest in REPOSITORY.glob("*/Cargo.toml"):
        for script in re.findall(r'^build = "../([^"]+)"', manifest.read_text(), re.MULTILINE):
            assert script in kept, f"{manifest} builds with {script}, which is not copied"
    wanted = re.search(r'rust-version = "([\d.]+)"', (REPOSITORY / "Cargo.toml").read_text())[1]
    assert f"FROM rust:{wanted}-" in text, f"the image builds with another Rust than {wanted}"
    # The base has these and no more: glibc and libgcc.
    for path in PROGRAMS.values():
        needed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        names = set(re.findall(r"^\s*(\S+?)\.so", needed, re.MULTILINE))
        extra = {pathlib.Path(n).name for n in names} - {"linux-vdso", "libgcc_s", "libm", "libc", "ld-linux-x86-64", "ld-linux-aarch64"}
        assert not extra, f"{path} needs {extra}, which the base does not have"


def systemd():
    for path in (DEPLOY / "systemd").glob("*.service"):
        text = path.read_text().replace("\\\n", " ")
        command = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)[1]
        check_command(path.name, shlex.split(command))
        credentials = set(re.findall(r"^LoadCredential=([^:]+):", text, re.MULTILINE))
        used = set(re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/(\S+)", command))
        assert used == credentials, f"{path.name}: {used ^ credentials}"


compose()
dockerfile()
systemd()
