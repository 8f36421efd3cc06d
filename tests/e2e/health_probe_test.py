"""The real grpc-health-probe, as manifests run it: by its exit codes."""

import os
import subprocess

import pytest
from harness import programs
from harness.certificates import Authority

PROBE = os.environ.get("SANDBOXD_TEST_HEALTH_PROBE")
pytestmark = pytest.mark.skipif(
    not PROBE, reason="grpc-health-probe is not there: it takes a newer Go than Debian 12 has")

SERVING, NO_CONNECTION, CALL_FAILED, NOT_SERVING = 0, 2, 3, 4


def probe(address, *args):
    return subprocess.run([PROBE, "-addr=" + address, "-connect-timeout=20s", "-rpc-timeout=20s",
                           *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          check=False, encoding="utf-8")


def test_nobody_there():
    done = subprocess.run([PROBE, "-addr=127.0.0.1:1", "-connect-timeout=200ms"], check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    assert done.returncode == NO_CONNECTION


@pytest.mark.parametrize("name, code", [
    ("", SERVING), ("sandbox.v1.SandboxService", SERVING), ("readiness", SERVING),
    ("liveness", SERVING), ("no.such.Service", CALL_FAILED)])
def test_a_pod_that_serves(pods, name, code):
    done = probe(pods[0].address, "-service=" + name)
    assert done.returncode == code, done.stdout


def test_a_pod_that_drains_is_alive_and_not_ready(local):
    pod = programs.Pod(local.url, None, "--drain-settle=60s", "--drain-budget=1s")
    pod.terminate()
    pod.wait_log('"draining"')
    programs.wait_until(lambda: probe(pod.address).returncode == NOT_SERVING, what="NOT_SERVING")
    assert probe(pod.address, "-service=readiness").returncode == NOT_SERVING
    assert probe(pod.address, "-service=liveness").returncode == SERVING
    pod.terminate()  # the second time means at once
    pod.process.wait(30)


def test_a_pod_with_tls_and_keys(local, tmp_path):
    authority = Authority(tmp_path)
    cert, key = authority.sign("pod", usage="serverAuth")
    own_cert, own_key = authority.sign("probe", usage="clientAuth")
    keys = tmp_path / "keys"
    keys.write_text("key a sha256:%s\n" % ("0" * 64), encoding="ascii")
    pod = programs.Pod(local.url, None, "--tls-cert=%s" % cert, "--tls-key=%s" % key,
                       "--tls-client-ca=%s" % authority.path, "--auth-keys=%s" % keys)
    trust = ["-tls", "-tls-ca-cert=%s" % authority.path]
    done = probe(pod.address, *trust, "-tls-client-cert=%s" % own_cert,
                 "-tls-client-key=%s" % own_key)
    assert done.returncode == SERVING, done.stdout
    done = probe(pod.address, *trust)
    assert done.returncode == CALL_FAILED and "certificate" in done.stdout, done.stdout
    pod.stop()
