"""POST /init, which E2B's orchestrator and our daemon send to an agent, and nobody else can."""

import json
import os
import socket
import subprocess

import pytest
from harness import programs

from target import Target


class Agent:
    """Our agent by itself, with what the zygote would hand it."""

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0))
        dial = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dial.bind("")  # whatever name is free
        dial.listen()
        listener.setblocking(False)
        dial.setblocking(False)
        config = os.memfd_create("config")
        os.write(config, b"id=i1\0template=base\0user=root\0workdir=\0uids=range\0"
                         b"memory=1000000\0disk=1000000\0env:BEFORE=1\0")
        ready, theirs = socket.socketpair()
        given = (listener.fileno(), dial.fileno(), config, theirs.fileno())
        # By way of high numbers: what is handed over may lie where it is to go.
        high = [os.dup2(fd, 100 + i) for i, fd in enumerate(given)]
        moved = " ".join("%d<&%d %d<&-" % (3 + i, fd, fd) for i, fd in enumerate(high))
        self.process = subprocess.Popen(
            ["bash", "-c", 'exec "$0" ' + moved, programs.find("runtime/local/agent/agent")],
            pass_fds=high)
        self.address = "127.0.0.1:%d" % listener.getsockname()[1]
        for fd in high:
            os.close(fd)
        os.close(config)
        theirs.close()
        listener.close()
        dial.close()
        assert ready.recv(1) == b"\0"
        ready.close()

    def stop(self):
        self.process.kill()
        self.process.wait()


def envd():
    binary = os.environ.get("SANDBOXD_TEST_ENVD")
    if not binary:
        pytest.skip("SANDBOXD_TEST_ENVD does not name a build of E2B's envd")
    if os.geteuid() != 0:
        pytest.skip("E2B's envd takes root")
    return programs.Envd(binary)


@pytest.fixture(params=[Agent, envd], ids=["ours", "theirs"])
def target(request):
    agent = request.param()
    yield Target(agent.address, {}, None, True)
    agent.stop()


def init(target, body):
    """The status, and what is said of a refusal. The body is sent as it is when it is text."""
    body = body if isinstance(body, str) else json.dumps(body)
    answer = target.request("POST", "/init", body, token=False)
    return answer.status if answer.status == 204 else (answer.status, answer.body.decode().strip())


def envs(target, token=None):
    headers = {"X-Access-Token": token} if token else {}
    answer = target.request("GET", "/envs", headers=headers, token=False)
    if answer.status != 200:
        return answer.status
    return {k: v for k, v in answer.json.items() if not k.startswith("E2B_")}


def test_what_a_sandbox_is_given(target):
    assert init(target, {"envVars": {"A": "1", "B": "two words"}}) == 204
    assert envs(target) == {"A": "1", "B": "two words"}
    assert init(target, {"envVars": {"B": "2", "E2B_SANDBOX": "changed"}}) == 204
    assert envs(target) == {"B": "2"}
    assert target.request("GET", "/envs", token=False).json["E2B_SANDBOX"] in ("true", "false")
    for nothing in ({}, "", {"unknown": [1]}, {"accessToken": None, "envVars": None}):
        assert init(target, nothing) == 204
    assert envs(target) == {"B": "2"}
    assert init(target, {"envVars": {}}) == 204
    assert envs(target) == {}
    for wrong in ("{", "[]", "words"):
        assert init(target, wrong)[0] == 400


def test_the_token(target):
    assert init(target, {"accessToken": "first"}) == 204
    assert (envs(target), envs(target, "second")) == (401, 401)
    assert isinstance(envs(target, "first"), dict)
    assert init(target, {"envVars": {"A": "1"}}) == (401, "access token reset not authorized")
    assert init(target, {"accessToken": "second"}) == (401, "access token validation failed")
    assert init(target, {"accessToken": "first", "envVars": {"A": "1"}}) == 204
    assert envs(target, "first") == {"A": "1"}


def test_the_user_and_the_directory(target):
    user = {"Authorization": "Basic"}  # none: the default
    assert init(target, {"defaultUser": "root", "defaultWorkdir": "/usr"}) == 204
    assert init(target, {"defaultUser": "", "defaultWorkdir": ""}) == 204
    answer = target.unary("/filesystem.Filesystem/Stat", {"path": ""}, user, token=False)
    assert answer.json["entry"]["path"] == "/usr"
    assert init(target, {"defaultUser": "no-such-user"}) == 204
    answer = target.unary("/filesystem.Filesystem/Stat", {"path": "/"}, user, token=False)
    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")


def test_what_is_older_is_not_taken():
    """Only ours: a time in this sets the clock of E2B's machine."""
    agent = Agent()
    target = Target(agent.address, {}, None, True)
    try:
        for time, value, kept in (("2026-01-01T00:00:01Z", "1", "1"),
                                  ("2026-01-01T00:00:01Z", "2", "1"),
                                  ("2026-01-01T01:00:00.5+01:00", "3", "1"),
                                  ("2026-01-01T00:00:01.000001Z", "4", "4")):
            assert init(target, {"timestamp": time, "envVars": {"A": value}}) == 204
            assert envs(target) == {"A": kept}
        assert init(target, {"timestamp": "yesterday", "envVars": {"A": "5"}})[0] == 400
        assert init(target, {"volumeMounts": [{"name": "v"}], "envVars": {"A": "6"}})[0] == 400
        assert init(target, {"envVars": {"A": 7}})[0] == 400
        assert envs(target) == {"A": "4"}
        answer = target.request("POST", "/init", "{}", token=False)
        assert answer.headers["X-Envd-Version"] == "0.6.13"
    finally:
        agent.stop()
