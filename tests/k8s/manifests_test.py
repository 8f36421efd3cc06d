"""Every overlay: taken by Kubernetes' schemas, in agreement with itself, and with sandboxd."""

import hashlib
import os
import re
import subprocess

import grpc
import pytest
from harness import api, programs
from harness.certificates import Authority
from harness.programs import API_KEY
from kubernetes import OUTSIDE_SECRETS, OVERLAYS, VERSIONS, Objects, built, documents, tool

SECRETS = {name: API_KEY for name in OUTSIDE_SECRETS}


@pytest.fixture(params=OVERLAYS)
def overlay(request):
    return request.param


@pytest.fixture
def objects(overlay):
    return Objects(overlay)


# --- schemas ---

@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "objects.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)
    return write


# Linkerd publishes its definitions in its repository alone: nothing here checks these.
UNDEFINED = "apiVersion: policy.linkerd.io/"


def defined(text):
    return "\n---\n".join(d for d in text.split("\n---\n") if UNDEFINED not in d)


def validate(what, path):
    python = tool("SANDBOXD_TEST_K8S_PYTHON", "a Python that has kubernetes-validate")
    against = ",".join(VERSIONS) if what == "own" else \
        tool("SANDBOXD_TEST_CRDS", "definitions of custom resources, which takes Go 1.21")
    return subprocess.run(
        [python, programs.find("tests/k8s/validate.py"), what, against, path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, encoding="utf-8", check=False)


@pytest.mark.parametrize("what", ["own", "custom"])
def test_schemas_take_it(overlay, file, what):
    done = validate(what, file(defined(built(overlay))))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("what, right, wrong, complaint", [
    ("own", "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "readOnlyRootFileSystem"),
    ("own", "maxUnavailable: 1", "maxUnavailable: [1]", "1.30: spec/maxUnavailable"),
    ("own", "averageValue:", "averagedValue:", "averagedValue"),
    ("custom", "interval: 15s", "interval: often", "interval: 'often' does not match"),
])
def test_schemas_find_mistakes(what, right, wrong, complaint, file):
    text = built("production")
    assert right in text
    done = validate(what, file(text.replace(right, wrong)))
    assert done.returncode == 1 and complaint in done.stdout, done.stdout


def test_the_api_servers_own_rules_take_it(overlay, file):
    """Those that schemas cannot say, in CEL, too."""
    program = tool("SANDBOXD_TEST_KUBECTL_VALIDATE", "kubectl-validate, which takes Go 1.21")
    crds = tool("SANDBOXD_TEST_CRDS", "definitions of custom resources, which takes Go 1.21")
    done = subprocess.run(
        [program, "--version", VERSIONS[0], "--local-crds", crds, file(defined(built(overlay)))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


# --- agreement ---

def selectors(objects):
    """(whose, what it selects) of everything that selects pods."""
    for d in objects.all:
        spec, name = d.get("spec", {}), "%s %s" % (d["kind"], d["metadata"]["name"])
        if d["kind"] == "Service":
            yield name, spec["selector"]
        for field in ("selector", "podSelector"):
            if d["kind"] != "Service" and "matchLabels" in spec.get(field, {}):
                yield name, spec[field]["matchLabels"]
        if d["kind"] == "Deployment":
            for spread in spec["template"]["spec"].get("topologySpreadConstraints", []):
                yield name + " spread", spread["labelSelector"]["matchLabels"]


def test_selectors_find_pods(objects):
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in objects.of("Deployment")]
    found = list(selectors(objects))
    assert len(found) >= 7
    for name, selector in found:
        matching = [p for p in pods if selector.items() <= p.items()]
        assert len(matching) == 1, "%s selects %d kinds of pods" % (name, len(matching))


def test_what_is_referred_to_is_there(objects):
    for deployment in objects.of("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        for container in pod["containers"]:
            for source in container.get("envFrom", []):
                objects.one("ConfigMap", source["configMapRef"]["name"])
            ports = {p["name"] for p in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports
        for volume in pod.get("volumes", []):
            name = volume.get("secret", {}).get("secretName")
            assert name is None or name in OUTSIDE_SECRETS
    for service in objects.of("Service"):
        pod = next(d for d in objects.of("Deployment") if service["spec"]["selector"].items()
                   <= d["spec"]["template"]["metadata"]["labels"].items())
        ports = {p["name"] for p in pod["spec"]["template"]["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports
            secure = "SANDBOXD_TLS_CERT" in objects.environment(secrets=SECRETS)
            assert port["appProtocol"] == ("tls" if secure else "http" if port["name"] == "http"
                                           else "kubernetes.io/h2c")
    for autoscaler in objects.of("HorizontalPodAutoscaler"):
        target = objects.one("Deployment", autoscaler["spec"]["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]
    for monitor in objects.of("PodMonitor"):
        assert {e["port"] for e in monitor["spec"]["podMetricsEndpoints"]} == {"admin"}


FILES = ["SANDBOXD_AUTH_KEYS", "SANDBOXD_TLS_CERT", "SANDBOXD_TLS_KEY", "SANDBOXD_TLS_CLIENT_CA"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secrets(tmp_path, authority):
    """What who installs puts into the secrets, under the names that the overlays say."""
    cert, key = authority.sign("pod", usage="serverAuth")
    digest = hashlib.sha256(b"acme's").hexdigest()
    for name, content in {
            "keys/keys": b"key acme sha256:%s\n" % digest.encode("ascii"),
            "tls/tls.crt": cert.read_bytes(), "tls/tls.key": key.read_bytes(),
            "clients/ca.crt": authority.path.read_bytes()}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def settings(objects, secrets):
    """The environment, with the files of mounted secrets where they are here."""
    env = objects.environment(secrets=SECRETS)
    mounts = {m["mountPath"] for m in objects.pod()["containers"][0].get("volumeMounts", [])}
    for name in set(FILES) & set(env):
        assert os.path.dirname(env[name]) in mounts
        env[name] = env[name].replace("/etc/sandboxd", str(secrets))
    return env


def test_sandboxd_takes_its_settings(objects, secrets):
    env = settings(objects, secrets)
    done = programs.run("service/sandboxd", "--check-config", env=env)
    assert done.returncode == 0, done.stderr
    ports = {p["name"]: p["containerPort"] for p in objects.pod()["containers"][0]["ports"]}
    assert env["SANDBOXD_LISTEN"] == "0.0.0.0:%d" % ports["grpc"]
    assert env["SANDBOXD_ADMIN_LISTEN"] == "0.0.0.0:%d" % ports["admin"]


def test_a_drain_fits_into_the_grace_period(objects):
    pod, env = objects.pod(), objects.environment(secrets=SECRETS)
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    settle, spread, budget = (int(env["SANDBOXD_DRAIN_" + name].rstrip("s"))
                              for name in ("SETTLE", "SPREAD", "BUDGET"))
    assert spread < settle + budget
    assert sleep + settle + budget + 20 <= pod["terminationGracePeriodSeconds"]


def test_sandboxd_is_restricted(objects):
    """As the Pod Security Standard has it, and a system it cannot write to."""
    pod = objects.pod()
    container = pod["containers"][0]
    security = container["securityContext"]
    assert not set(pod) & {"hostNetwork", "hostPID", "hostIPC"} and len(pod["containers"]) == 1
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is False
    assert all("hostPort" not in port for port in container["ports"])
    assert {"secret", "emptyDir"} >= {k for v in pod.get("volumes", []) for k in v if k != "name"}


def test_only_dev_lets_anything_be_privileged():
    for overlay in OVERLAYS:
        for namespace in Objects(overlay).of("Namespace"):
            level = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            assert level == ("privileged" if overlay == "dev" else "restricted")


# --- what meshes may repeat ---

def repeatable():
    """Methods that may be called twice, and have one answer."""
    found = {}
    for name in api.SERVICES:
        if name.startswith("sandbox."):
            for method in api.POOL.FindServiceByName(name).methods:
                found["/%s/%s" % (name, method.name)] = (
                    method.GetOptions().idempotency_level != 0
                    and not any(api.STREAMING["/%s/%s" % (name, method.name)]))
    return found


def istio_retries(path):
    for rule in Objects("istio").one("VirtualService")["spec"]["http"]:
        if all(re.fullmatch(m["uri"]["regex"], path) for m in rule.get("match", [])):
            return "unavailable" in rule["retries"]["retryOn"]
    raise AssertionError("%s has no route" % path)


def linkerd_retries(path):
    service, method = path[1:].split("/")
    routes = sorted(Objects("linkerd").of("GRPCRoute"), key=lambda r: "matches" not in r["spec"]["rules"][0])
    for route in routes:
        for match in route["spec"]["rules"][0].get("matches", [{}]):
            wanted = match.get("method", {"service": ".*", "method": ".*"})
            if re.fullmatch(wanted["service"], service) and re.fullmatch(wanted["method"], method):
                return "retry.linkerd.io/grpc" in route["metadata"].get("annotations", {})
    raise AssertionError("%s has no route" % path)


@pytest.mark.parametrize("retries", [istio_retries, linkerd_retries])
def test_meshes_repeat_only_what_may_be_repeated(retries):
    methods = repeatable()
    again = {path for path in methods if retries(path)}
    assert "/sandbox.v1.SandboxService/GetSandbox" in again
    assert "/sandbox.v1.SandboxService/SendInput" in methods
    assert not {path for path in again if not methods[path]}


# --- it runs ---

def test_the_programs_of_dev_work_together(data_dir):
    """Started with what the manifests say, but for the addresses of the cluster."""
    objects = Objects("dev")
    env = {**objects.environment("e2b-local"), "E2B_LOCAL_DATA_DIR": str(data_dir / "dev"),
           "E2B_LOCAL_LISTEN": "127.0.0.1:0"}
    local = programs.Program("e2b-local", [programs.find("runtime/local/e2b-local")], env)
    try:
        local.wait_ready()
        env = objects.environment()
        assert env["E2B_API_URL"] == env["E2B_SANDBOX_URL"] == "http://e2b-local:3000"
        env.update(SANDBOXD_LISTEN="127.0.0.1:0", SANDBOXD_ADMIN_LISTEN="127.0.0.1:0",
                   E2B_API_URL="http://" + local.address, E2B_SANDBOX_URL="http://" + local.address)
        pod = programs.Program("sandboxd", [programs.find("service/sandboxd")], env)
        try:
            pod.wait_ready()
            with api.channel(pod.address) as channel:
                made = api.Stub(channel).CreateSandbox(api.CreateSandboxRequest(), timeout=60)
                assert made.sandbox.sandbox_id
        finally:
            pod.stop()
    finally:
        local.stop()


@pytest.mark.parametrize("overlay", ["tls", "mtls"])
def test_callers_of_the_overlays_with_tls(local, secrets, authority, overlay):
    env = {**settings(Objects(overlay), secrets), "SANDBOXD_LISTEN": "127.0.0.1:0",
           "SANDBOXD_ADMIN_LISTEN": "127.0.0.1:0", "E2B_API_URL": local.url,
           "E2B_SANDBOX_URL": local.url}
    own = [path.read_bytes() for path in authority.sign("caller", usage="clientAuth")]
    pod = programs.Program("sandboxd", [programs.find("service/sandboxd")], env)
    try:
        pod.wait_ready()

        def listed(certificate, key):
            """How ListSandboxes ends."""
            credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), *certificate)
            with grpc.secure_channel(pod.address, credentials) as channel:
                try:
                    api.Stub(channel).ListSandboxes(api.ListSandboxesRequest(), timeout=60, metadata=(
                        ("authorization", "Bearer " + key),))
                except grpc.RpcError as error:
                    return error.code()
            return grpc.StatusCode.OK

        refused = grpc.StatusCode.UNAUTHENTICATED
        assert listed(own[::-1], "acme's") == grpc.StatusCode.OK
        assert listed(own[::-1], "another") == refused
        assert listed([], "acme's") == (refused if overlay == "mtls" else grpc.StatusCode.OK)
    finally:
        pod.stop()


def test_documents_have_a_kind_once():
    for overlay in OVERLAYS:
        names = [(d["apiVersion"], d["kind"], d["metadata"]["name"]) for d in documents(overlay)]
        assert len(names) == len(set(names))
