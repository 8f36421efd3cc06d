"""What the use of a sandbox does to it: it wakes one that was made so, and gives more time to one that
ends when it is idle."""

import time

import grpc
import pytest
from harness import api, follow
from harness.programs import wait_until
from harness.service import Service

PAUSED = api.Sandbox.STATE_PAUSED
RUNNING = api.Sandbox.STATE_RUNNING


@pytest.fixture(scope="session")
def service(local):
    with Service(local, options=["--heartbeat-interval=100ms"]) as service:
        yield service


@pytest.fixture
def mine(new_sandbox):
    """One that wakes; both pods know it."""
    return new_sandbox(auto_resume=True, on_timeout=api.ON_TIMEOUT_PAUSE)


def state(stub, sandbox):
    return stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30).sandbox.state


def pause(stub, sandbox):
    stub.PauseSandbox(api.PauseSandboxRequest(sandbox_id=sandbox), timeout=60)


def write(stub, sandbox):
    stub.WriteFiles(api.WriteFilesRequest(sandbox_id=sandbox, files=[
        api.File(path="f", text="text")]), timeout=30)


USES = {
    "ReadFile": lambda stub, s: stub.ReadFile(api.ReadFileRequest(sandbox_id=s, path="f"), timeout=30),
    "WriteFiles": write,
    "ListDirectory": lambda stub, s: stub.ListDirectory(
        api.ListDirectoryRequest(sandbox_id=s, path="."), timeout=30),
    "ListCommands": lambda stub, s: stub.ListCommands(
        api.ListCommandsRequest(sandbox_id=s), timeout=30),
    "RunCommand": lambda stub, s: follow.run(stub, s, command_id="wakes", shell="true"),
    "Logs, asked to": lambda stub, s: list(stub.Logs(
        api.LogsRequest(sandbox_id=s, command_id="before", resume=True), timeout=30)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("pod", [0, 1])
def test_use_wakes_it(service, stub, mine, use, pod):
    write(stub, mine)
    follow.run(stub, mine, command_id="before", shell="true")
    assert stub.GetSandbox(api.GetSandboxRequest(sandbox_id=mine), timeout=30).sandbox.auto_resume
    pause(stub, mine)
    assert state(stub, mine) == PAUSED, "to look is no use"
    USES[use](service.stub(pod), mine)
    assert state(stub, mine) == RUNNING


def test_reading_does_not_wake_it(service, stub, mine):
    for each in stub, service.stub(1):
        follow.run(each, mine, command_id="before", shell="echo text")
    pause(stub, mine)
    for each in stub, service.stub(1):
        stream = each.Logs(api.LogsRequest(sandbox_id=mine, command_id="before", follow=True),
                           timeout=60)
        for response in stream:
            assert not response.events
            if response.state == api.STREAM_STATE_SANDBOX_PAUSED:
                break
        assert state(stub, mine) == PAUSED
        if each is stub:
            stream.cancel()
    write(stub, mine)
    events = follow.Events()
    for response in stream:  # goes on by itself
        events.take(response)
    assert events.out == b"text\n"


def test_a_stream_does_not_wake_what_is_paused_under_it(stub, mine):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=mine, command_id="waits", shell="echo begun; sleep 600"), timeout=120)
    events = follow.Events()
    for response in stream:
        events.take(response)
        if b"begun" in events.out:
            break
    pause(stub, mine)
    for response in stream:
        if response.state == api.STREAM_STATE_SANDBOX_PAUSED:
            break
    assert state(stub, mine) == PAUSED
    stream.cancel()


def end(stub, sandbox):
    got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30).sandbox
    return got.end_time.seconds + got.end_time.nanos / 1e9


def test_use_prolongs_what_ends_when_idle(service, stub, new_sandbox):
    sandbox = new_sandbox(idle_timeout=api.seconds(30), timeout=api.seconds(600))
    got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30).sandbox
    assert got.idle_timeout == api.seconds(30)
    assert end(stub, sandbox) < time.time() + 31
    first = end(stub, sandbox)
    for each in stub, service.stub(1):
        def used():
            write(each, sandbox)
            return end(stub, sandbox) > first + 2.5
        wait_until(used, 30, "more time", every=0.2)
        first = end(stub, sandbox)
    assert first < time.time() + 31


def test_an_open_stream_is_a_use(stub, new_sandbox):
    sandbox = new_sandbox(idle_timeout=api.seconds(30), timeout=api.seconds(600))
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, shell="while sleep 0.2; do echo; done"), timeout=120)
    next(stream)
    first = end(stub, sandbox)
    wait_until(lambda: end(stub, sandbox) > first + 2.5, 30, "more time", every=0.2)
    stream.cancel()


def test_use_does_not_prolong_beyond_the_lifetime(stub, new_sandbox):
    sandbox = new_sandbox(idle_timeout=api.seconds(40), timeout=api.seconds(41))
    last = time.time() + 42
    until = time.monotonic() + 9
    while time.monotonic() < until:
        write(stub, sandbox)
        time.sleep(0.2)
    assert end(stub, sandbox) <= last


@pytest.mark.parametrize("idle", [1, 29, 3601, -1])
def test_bad_idle_times_are_refused(stub, fails, idle):
    details = fails(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", stub.CreateSandbox,
                    api.CreateSandboxRequest(idle_timeout=api.seconds(idle)))
    assert details["BadRequest"].field_violations[0].field == "idle_timeout"


def test_times_have_a_limit_that_is_set(local, fails):
    with Service(local, count=1, options=["--max-timeout=60s", "--idle-timeout=45s"]) as service:
        stub = service.stub(0)
        fails(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", stub.CreateSandbox,
              api.CreateSandboxRequest(timeout=api.seconds(61)))
        told = stub.GetCapabilities(api.GetCapabilitiesRequest(), timeout=10)
        assert told.max_timeout == told.default_timeout == api.seconds(60)
        for fields, idle in ({}, 45), ({"idle_timeout": api.seconds(0)}, 0):
            made = stub.CreateSandbox(api.CreateSandboxRequest(**fields), timeout=60).sandbox
            assert made.idle_timeout.seconds == idle
            assert end(stub, made.sandbox_id) < time.time() + (idle or 60) + 1
            for verb in "SetSandboxTimeout", "ResumeSandbox":
                request = api.message("sandbox.v1.%sRequest" % verb)(
                    sandbox_id=made.sandbox_id, timeout=api.seconds(61))
                fails(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", getattr(stub, verb), request)
            stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox_id), timeout=30)
