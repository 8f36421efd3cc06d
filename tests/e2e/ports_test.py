"""Ports: what listens in a sandbox, by which command, and waiting for it."""

import threading

import grpc
import pytest
from harness import api, follow, web
from harness.programs import wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT

LISTEN = "exec python3 -c \"%s\"" % "; ".join([
    "import socket, time",
    "a = [socket.create_server((h, p), family=f) for h, p, f in %s]",
    "print('up', flush=True)",
    "time.sleep(1000)"])


def start(stub, sandbox, command_id, servers, wrap="%s"):
    servers = "[%s]" % ", ".join("('%s', %d, socket.%s)" % s for s in servers)
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id=command_id, shell=wrap % (LISTEN % servers)), timeout=120)
    next(r for r in stream if any(b"up" in e.stdout for e in r.events))
    stream.cancel()


def ports(stub, sandbox):
    return stub.ListPorts(api.ListPortsRequest(sandbox_id=sandbox), timeout=30).ports


def test_what_listens_is_listed(stub, other_stub, new_sandbox):
    sandbox = new_sandbox()
    assert not ports(stub, sandbox)
    start(stub, sandbox, "web", [("127.0.0.1", 8000, "AF_INET"), ("0.0.0.0", 3000, "AF_INET")])
    start(stub, sandbox, "six", [("::1", 3000, "AF_INET6")])
    found = [(p.port, p.address, p.process, p.command_id) for p in ports(other_stub, sandbox)]
    assert found == [(3000, "0.0.0.0", "python3", "web"), (3000, "::1", "python3", "six"),
                     (8000, "127.0.0.1", "python3", "web")]
    pids = {p.command_id: p.pid for p in ports(stub, sandbox)}
    shown = stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id="six"), timeout=30)
    assert pids["six"] == shown.command.pid
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox, command_id="web", signal=9), timeout=30)
    wait_until(lambda: [p.command_id for p in ports(stub, sandbox)] == ["six"], 30)


def test_a_child_is_of_the_command_too(stub, new_sandbox):
    sandbox = new_sandbox()
    start(stub, sandbox, "outer", [("127.0.0.1", 5000, "AF_INET")],
          wrap="( %s ) & wait")
    start(stub, sandbox, "left", [("127.0.0.1", 5001, "AF_INET")], wrap="set -m; ( %s ) & wait")
    assert [(p.port, p.command_id) for p in ports(stub, sandbox)] == [(5000, "outer"), (5001, "left")]


def url(stub, sandbox, port, wait, timeout=60):
    return stub.GetSandboxUrl(api.GetSandboxUrlRequest(
        sandbox_id=sandbox, port=port, wait_until_listening=api.seconds(wait)), timeout=timeout)


def test_a_url_is_waited_for(stub, other_stub, sandbox):
    answers = []
    asked = threading.Thread(target=lambda: answers.append(url(other_stub, sandbox, 3100, 60)))
    asked.start()
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=sandbox, files=[api.File(path="site/index.html", text="it works")]), timeout=30)
    server = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="site", cwd="site",
        shell="exec python3 -m http.server --bind 127.0.0.1 3100"), timeout=120)
    asked.join(60)
    (answer,) = answers
    status, body = web.fetch(answer.url, dict(answer.headers))
    assert (status, body) == (200, b"it works")
    assert url(stub, sandbox, 3100, 0).url == answer.url
    server.cancel()


def test_waiting_ends(stub, sandbox, fails):
    for wait in 0, 0.3:
        fails(grpc.StatusCode.DEADLINE_EXCEEDED, "PORT_CLOSED", stub.GetSandboxUrl,
              api.GetSandboxUrlRequest(sandbox_id=sandbox, port=3999,
                                       wait_until_listening=api.seconds(wait)))
    with pytest.raises(grpc.RpcError) as caught:
        url(stub, sandbox, 3999, 60, timeout=1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # Without it nobody asks whether something listens.
    assert stub.GetSandboxUrl(api.GetSandboxUrlRequest(sandbox_id=sandbox, port=3999), timeout=30).url


@pytest.mark.parametrize("wait", [-1, 601])
def test_bad_waits_are_refused(stub, sandbox, fails, wait):
    found = fails(INVALID, "INVALID_FIELD", stub.GetSandboxUrl, api.GetSandboxUrlRequest(
        sandbox_id=sandbox, port=80, wait_until_listening=api.seconds(wait)))
    assert found["BadRequest"].field_violations[0].field == "wait_until_listening"


def test_names_of_programs_may_be_anything(stub, new_sandbox):
    sandbox = new_sandbox()
    follow.run(stub, sandbox, shell="cp $(command -v python3) $'/tmp/od\\xffd'", timeout=60)
    shell = (LISTEN % "[('127.0.0.1', 6000, socket.AF_INET)]").replace("python3", "$'/tmp/od\\xffd'")
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="odd", shell=shell), timeout=120)
    next(r for r in stream if any(b"up" in e.stdout for e in r.events))
    stream.cancel()
    assert [(p.port, p.process) for p in ports(stub, sandbox)] == [(6000, "od?d")]


def test_bad_and_unknown_sandboxes_are_refused(stub, fails):
    fails(INVALID, "INVALID_FIELD", stub.ListPorts, api.ListPortsRequest(sandbox_id="../x"))
    fails(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND", stub.ListPorts,
          api.ListPortsRequest(sandbox_id="i0123456789abcdefghij"))
