"""A rolling upgrade: a pod of this version and one of the next, over the same sandbox."""

import subprocess

import grpc
import pytest
from harness import api, follow, programs

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture(scope="module")
def pods(local):
    sandbox_url = "http://" + local.sandbox_address
    old = programs.Pod(local.url, sandbox_url, name="old")
    new = programs.Pod(local.url, sandbox_url, name="new", program="service/sandboxd_next")
    yield old, new
    old.stop()
    new.stop()


@pytest.fixture(scope="module")
def stubs(pods):
    channels = [api.channel(pod.address) for pod in pods]
    yield [api.Stub(channel) for channel in channels]
    for channel in channels:
        channel.close()


@pytest.fixture(scope="module")
def sandbox(stubs):
    sandbox_id = stubs[0].CreateSandbox(api.CreateSandboxRequest(
        timeout=api.seconds(600)), timeout=60).sandbox.sandbox_id
    yield sandbox_id
    stubs[1].DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)


LINE = "for i in $(seq 1 60); do echo $i; sleep 0.02; done; read -r x; echo \"[$x]\"; exit 3"


def test_what_runs_goes_on_under_the_next_version(stubs, sandbox):
    old, new = stubs
    stream = old.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="long", shell=LINE, stdin=True), timeout=120)
    events = follow.Events()
    while events.count < 10:
        events.take(next(stream))
    stream.cancel()
    stream = new.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="long", shell=LINE, stdin=True,
        from_seq=events.next_seq), timeout=120)
    new.SendInput(api.SendInputRequest(
        sandbox_id=sandbox, command_id="long", text="over\n", offset=0), timeout=30)
    for response in stream:
        events.take(response)
    assert events.out == b"".join(b"%d\n" % i for i in range(1, 61)) + b"[over]\n"
    assert events.exited.code == 3
    for stub in stubs:
        assert stub.GetCommand(api.GetCommandRequest(
            sandbox_id=sandbox, command_id="long"), timeout=30).command.exited.code == 3


def test_what_the_next_version_recorded_only_it_can_show(stubs, sandbox, fails):
    old, new = stubs
    assert follow.run(new, sandbox, command_id="new", shell="echo hi; exit 4").out == b"hi\n"
    fails(UNAVAILABLE, "POD_OUTDATED", old.Logs,
          api.LogsRequest(sandbox_id=sandbox, command_id="new"))
    waited = old.WaitCommand(api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="new"), timeout=30)
    assert waited.done and waited.command.exited.code == 4


def test_a_client_with_both_addresses_does_not_notice(pods, sandbox):
    addresses = ",".join(pod.address for pod in pods)
    shown = subprocess.run([programs.find("client/sandboxctl"), "--address=" + addresses, "logs",
                            sandbox, "new"], capture_output=True, timeout=60, check=True)
    assert shown.stdout == b"hi\n"
