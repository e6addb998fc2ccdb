"""Everything in deploy/ that needs no cluster to be checked.

Renders the overlays with `kubectl kustomize`, validates them against the schemas of Kubernetes, asks checkov,
and looks whether what they name exists: services, ports, volumes, secrets and their keys.

    python manifests.py DEPLOY_FOLDER

Prints the rendered objects, by overlay, as JSON. `pods.py` runs them.
"""

import json
import pathlib
import re
import subprocess
import sys

import jsonschema
import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).parent
#: What can be deployed.
TARGETS = ["overlays/embedded", "overlays/postgres", "overlays/keda", "overlays/cert-manager", "job"]
#: Kinds that Kubernetes itself does not know.
OWN_SCHEMAS = {
    "ScaledObject": "scaledobject.json",
    "ServiceMonitor": "servicemonitor.json",
    "Issuer": "cert-manager.json",
    "Certificate": "cert-manager.json",
}
#: What cert-manager puts into a secret.
CERTIFICATE_KEYS = {"tls.crt", "tls.key", "ca.crt"}


def render(deploy, target):
    run = subprocess.run(
        ["kubectl", "kustomize", str(deploy / target)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{target} does not render: {run.stderr}"
    return run.stdout


def validate(target, thing):
    name = f"{target}: {thing['kind']}/{thing['metadata']['name']}"
    if thing["kind"] in OWN_SCHEMAS:
        schema = json.loads((HERE / "schemas" / OWN_SCHEMAS[thing["kind"]]).read_text())
        jsonschema.Draft202012Validator(schema).validate(thing)
        return
    try:
        kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        raise AssertionError(f"{name}: {error.message}") from error


def pods(things):
    """Each pod template with the name and labels that it gets."""
    for thing in things:
        if thing["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = thing["spec"]["template"]
            yield thing, template["metadata"]["labels"], template["spec"]


def matches(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def secrets_of_readme(deploy):
    """The secrets that deploy/README.md makes, with their keys."""
    text = (deploy / "README.md").read_text().replace("\\\n", " ")
    made = {}
    for line in text.splitlines():
        found = re.search(r"create secret generic (\S+)", line)
        if found:
            made.setdefault(found[1], set()).update(re.findall(r"--from-(?:file|literal)=([^=\s]+)=", line))
    return made


def check_names(target, things, secrets):
    """Whatever a manifest refers to is there."""
    configs = {t["metadata"]["name"]: t for t in things if t["kind"] == "ConfigMap"}
    claims = {t["metadata"]["name"] for t in things if t["kind"] == "PersistentVolumeClaim"}
    named_ports = {}
    for thing, labels, spec in pods(things):
        about = f"{target}: {thing['kind']}/{thing['metadata']['name']}"
        assert thing["metadata"]["namespace"] == "sweep", about
        own = {claim["metadata"]["name"] for claim in thing["spec"].get("volumeClaimTemplates", [])}
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        used = set()
        for container in spec["containers"]:
            for port in container.get("ports", []):
                named_ports.setdefault(port["name"], []).append((labels, port["containerPort"]))
            for mount in container["volumeMounts"]:
                assert mount["name"] in volumes or mount["name"] in own, f"{about}: no volume {mount['name']}"
                used.add(mount["name"])
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if kind in container:
                    port = container[kind]["httpGet"]["port"]
                    assert port in {p["name"] for p in container["ports"]}, f"{about}: {kind} on {port}"
        assert used == set(volumes) | own, f"{about}: volumes that nobody mounts"
        for volume in volumes.values():
            if "secret" in volume:
                known = secrets[volume["secret"]["secretName"]]
                wanted = {item["key"] for item in volume["secret"].get("items", [])}
                assert wanted <= known, f"{about}: {wanted - known} is in no secret of the README"
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims, about
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configs, about

    everyone = [labels for _, labels, _ in pods(things)]
    for thing in things:
        about = f"{target}: {thing['kind']}/{thing['metadata']['name']}"
        spec = thing.get("spec", {})
        if thing["kind"] == "Service":
            for port in spec["ports"]:
                behind = [number for labels, number in named_ports[port["targetPort"]] if matches(spec["selector"], labels)]
                # The service is headless: callers use the port of the pod.
                assert behind and all(number == port["port"] for number in behind), about
        if thing["kind"] == "NetworkPolicy":
            wanted = spec["podSelector"].get("matchLabels", {})
            assert any(matches(wanted, labels) for labels in everyone), f"{about} is for nobody"
            for rule in spec.get("ingress", []) + spec.get("egress", []):
                for port in rule["ports"]:
                    assert isinstance(port["port"], int) or port["port"] in named_ports, about
        if thing["kind"] == "PodDisruptionBudget":
            assert any(matches(spec["selector"]["matchLabels"], labels) for labels in everyone), about
        if thing["kind"] == "ServiceMonitor":
            for endpoint in spec["endpoints"]:
                assert endpoint["port"] in named_ports, about
                for ref in (endpoint["authorization"]["credentials"], endpoint["tlsConfig"]["ca"]["secret"]):
                    assert ref["key"] in secrets[ref["name"]], f"{about}: {ref}"
        if thing["kind"] == "Certificate":
            issuers = [t["metadata"]["name"] for t in things if t["kind"] == "Issuer"]
            assert spec["issuerRef"]["name"] in issuers, about
            if not spec.get("isCA"):
                assert secrets[spec["secretName"]] == CERTIFICATE_KEYS, about
        if thing["kind"] == "ScaledObject":
            targets = [t for t, _, _ in pods(things) if t["metadata"]["name"] == spec["scaleTargetRef"]["name"]]
            assert [t["kind"] for t in targets] == ["Deployment"], about
            assert "replicas" not in targets[0]["spec"], f"{about}: two would set the number of workers"


def check_policy(rendered, scratch):
    """checkov finds nothing that is not explained, and every explanation is needed."""
    explained = {}
    for line in (HERE / "findings.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            check, resource, reason = line.split(maxsplit=2)
            explained[(check, resource)] = reason
    files = []
    for target, text in rendered.items():
        path = scratch / (target.replace("/", "-") + ".yaml")
        path.write_text(text)
        files += ["-f", str(path)]
    run = subprocess.run(
        [str(pathlib.Path(sys.executable).with_name("checkov")), *files, "--framework", "kubernetes",
         "--quiet", "--skip-download", "--output", "json"],
        capture_output=True, text=True, check=False,
    )
    assert run.stdout.startswith("{"), f"checkov: {run.stdout}\n{run.stderr}"
    report = json.loads(run.stdout)
    assert report["summary"]["passed"] > 300, "checkov looked at hardly anything"
    used = set()
    for finding in report["results"]["failed_checks"]:
        check, resource = finding["check_id"], finding["resource"]
        why = {(check, resource), (check, "*")} & explained.keys()
        assert why, f"checkov: {check} {resource}: {finding['check_name']}"
        used |= why
    assert used == explained.keys(), f"no finding needs {explained.keys() - used}"
    return report["summary"]


def main():
    deploy = pathlib.Path(sys.argv[1])
    scratch = pathlib.Path(sys.argv[2])
    secrets = secrets_of_readme(deploy)
    rendered = {target: render(deploy, target) for target in TARGETS}
    objects = {}
    for target, text in rendered.items():
        things = objects[target] = list(yaml.safe_load_all(text))
        assert len(things) >= 7, target
        for thing in things:
            validate(target, thing)
        check_names(target, things, secrets)
    summary = check_policy(rendered, scratch)
    print(f"checkov: {summary['passed']} passed, {summary['failed']} explained", file=sys.stderr)
    json.dump(objects, sys.stdout)


main()
