"""The real grpcurl, as a person at a prompt uses it: by reflection, with readable text both ways."""

import json
import os
import re
import subprocess

import pytest
from harness import programs

GRPCURL = os.environ.get("SANDBOXD_TEST_GRPCURL")
pytestmark = pytest.mark.skipif(
    not GRPCURL, reason="grpcurl is not there: it takes a newer Go than Debian 12 has")


@pytest.fixture
def grpcurl(pods):
    def call(*args, data=None, address=pods[0].address):
        command = [GRPCURL, "-plaintext"] + (["-d", json.dumps(data)] if data is not None else [])
        done = subprocess.run(command + [address, *args], capture_output=True, encoding="utf-8",
                              timeout=60, check=False)
        return done
    return call


def messages(text):
    """grpcurl prints one JSON object after the other."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, end = decoder.raw_decode(text[at:])
        found.append(value)
        at += end
    return found


def test_list_and_describe(grpcurl):
    listed = grpcurl("list")
    assert listed.returncode == 0, listed.stderr
    assert {"sandbox.v1.SandboxService", "grpc.health.v1.Health"} <= set(listed.stdout.split())
    described = grpcurl("describe", "sandbox.v1.SandboxService")
    assert described.returncode == 0, described.stderr
    methods = re.findall(r"rpc (\w+)", described.stdout)
    assert {"CreateSandbox", "RunCommand", "Logs", "AckLogs"} <= set(methods)
    described = grpcurl("describe", "sandbox.v1.RunCommandRequest")
    assert "string shell" in described.stdout


def test_create_write_read_run_and_logs(grpcurl, pods):
    service = "sandbox.v1.SandboxService/"

    def call(method, **data):
        done = grpcurl(service + method, data=data)
        assert done.returncode == 0, done.stderr
        return messages(done.stdout)

    (made,) = call("CreateSandbox", timeout="300s", metadata={"by": "grpcurl"})
    sandbox_id = made["sandbox"]["sandboxId"]
    (written,) = call("WriteFiles", sandbox_id=sandbox_id, files=[
        {"path": "hello.py", "text": "print('grüße aus', __file__)\n"}])
    assert written["files"][0]["path"] == "/home/user/hello.py"
    (got,) = call("ReadFile", sandbox_id=sandbox_id, path="hello.py", encoding="ENCODING_TEXT")
    assert got["text"] == "print('grüße aus', __file__)\n"
    run = call("RunCommand", sandbox_id=sandbox_id, command_id="hello", encoding="ENCODING_TEXT",
               shell="python3 hello.py; echo oops >&2; exit 2")
    events = [e for m in run for e in m.get("events", [])]
    text = [e["text"] for e in events if "text" in e]
    assert {"stream": "STREAM_STDOUT", "text": "grüße aus /home/user/hello.py\n"} in text
    assert {"stream": "STREAM_STDERR", "text": "oops\n"} in text
    assert events[-1]["exited"]["code"] == 2
    done = grpcurl(service + "Logs", address=pods[1].address, data={
        "sandbox_id": sandbox_id, "command_id": "hello", "encoding": "ENCODING_TEXT"})
    logs = [e for m in messages(done.stdout) for e in m.get("events", [])]
    assert logs[:len(events)] == events
    call("DeleteSandbox", sandbox_id=sandbox_id)
    gone = grpcurl(service + "GetSandbox", data={"sandbox_id": sandbox_id})
    assert gone.returncode != 0 and "NotFound" in gone.stderr and "SANDBOX_NOT_FOUND" in gone.stderr


def test_health(grpcurl):
    done = grpcurl("grpc.health.v1.Health/Check")
    assert messages(done.stdout) == [{"status": "SERVING"}]


def test_the_session_in_the_readme_works_as_it_stands(pods):
    """Every command of the README's grpcurl session, run in one shell, in order."""
    readme = programs.find("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    session = "".join(b for b in blocks if "grpcurl" in b)
    assert session.count("grpcurl ") >= 5
    script = session.replace("localhost:50051", pods[0].address)
    env = {**os.environ, "PATH": "%s:%s" % (os.path.dirname(GRPCURL), os.environ["PATH"])}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=env, timeout=120,
                          capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello from a sandbox" in done.stdout
