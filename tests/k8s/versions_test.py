"""Two versions at once: pods of this one and of the one before it, with the recorders that each brings
along, in front of the same sandboxes. ./dev builds the older one (tests/k8s/previous says which)."""

import pytest
from harness import api, follow, programs
from harness.programs import Pod
from kubernetes import tool
from rollout import Deployment, Envoy, check_load, kill_load, start_load

NEW = "service/sandboxd"
PODS = 2
LINE = "for i in $(seq 1 40); do echo $i; sleep 0.02; done; read -r x; echo \"[$x]\"; exit 3"
SAID = b"".join(b"%d\n" % i for i in range(1, 41)) + b"[over]\n"


@pytest.fixture(scope="module")
def previous():
    return tool("SANDBOXD_TEST_PREVIOUS", "the version before this one")


@pytest.fixture(scope="module")
def stubs(local, previous):
    """One of each version, by its name."""
    pods = {name: Pod(local.url, "http://" + local.sandbox_address, name=name, program=program)
            for name, program in (("old", previous), ("new", NEW))}
    channels = {name: api.channel(pod.address) for name, pod in pods.items()}
    yield {name: api.Stub(channel) for name, channel in channels.items()}
    for channel in channels.values():
        channel.close()
    for pod in pods.values():
        pod.stop()


@pytest.fixture(scope="module")
def sandbox_id(stubs):
    """Made by the older version."""
    made = stubs["old"].CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(600)), timeout=60)
    yield made.sandbox.sandbox_id
    stubs["new"].DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox.sandbox_id),
                               timeout=30)


@pytest.fixture(params=[("old", "new"), ("new", "old")], ids="-then-".join)
def order(request):
    return request.param


def test_they_are_two(previous):
    assert programs.find(previous).read_bytes() != programs.find(NEW).read_bytes()


def test_what_one_starts_the_other_drives_and_follows(stubs, sandbox_id, order):
    first, second = (stubs[name] for name in order)
    command_id = "-".join(order)
    request = {"sandbox_id": sandbox_id, "command_id": command_id, "shell": LINE, "stdin": True}
    stream = first.RunCommand(api.RunCommandRequest(**request), timeout=120)
    events = follow.Events()
    while events.count < 10:
        events.take(next(stream))
    stream.cancel()
    # The same command, said again, is the run that there is.
    stream = second.RunCommand(
        api.RunCommandRequest(from_seq=events.next_seq, **request), timeout=120)
    sent = second.SendInput(api.SendInputRequest(
        sandbox_id=sandbox_id, command_id=command_id, text="over\n", offset=0), timeout=30)
    assert sent.offset == 5
    for response in stream:
        events.take(response)
    assert events.out == SAID and events.exited.code == 3
    for stub in (first, second):
        assert follow.logs(stub, sandbox_id, command_id).out == SAID
        waited = stub.WaitCommand(api.WaitCommandRequest(
            sandbox_id=sandbox_id, command_id=command_id), timeout=30)
        assert waited.done and waited.command.exited.code == 3
        listed = stub.ListCommands(api.ListCommandsRequest(sandbox_id=sandbox_id), timeout=30)
        assert command_id in [c.command_id for c in listed.commands]


def test_what_one_starts_the_other_ends(stubs, sandbox_id, order):
    first, second = (stubs[name] for name in order)
    command_id = "ended-by-" + order[1]
    stream = first.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, shell="echo up; sleep 1000"), timeout=120)
    events = follow.Events()
    while not events.out:
        events.take(next(stream))
    second.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, signal=15), timeout=30)
    for response in stream:
        events.take(response)
    assert events.exited.signal == 15


def test_a_cursor_of_one_is_understood_by_the_other(stubs, sandbox_id, order):
    """A view of all commands that goes on elsewhere: each line once."""
    first, second = (stubs[name] for name in order)
    ids = ["%s-%s-%d" % (*order, n) for n in range(4)]
    for n, command_id in enumerate(ids):
        follow.run((first, second)[n % 2], sandbox_id, command_id=command_id,
                   shell="seq 1000; exit %d" % n)

    def read(stub, cursor, messages=None):
        stream = stub.Logs(api.LogsRequest(sandbox_id=sandbox_id, cursor=cursor), timeout=60)
        for response in stream:
            if response.command_id in out:
                out[response.command_id] += b"".join(e.stdout for e in response.events)
            cursor = response.cursor or cursor
            if messages is not None:
                messages -= 1
                if messages == 0:
                    stream.cancel()
                    break
        return cursor

    out = dict.fromkeys(ids, b"")
    cursor = read(first, b"", messages=5)
    cursor = read(second, cursor, messages=3)
    read(first, cursor)
    said = b"".join(b"%d\n" % i for i in range(1, 1001))
    assert {k: v == said for k, v in out.items()} == dict.fromkeys(ids, True)


def test_a_reuse_key_of_one_is_found_by_the_other(stubs, order):
    first, second = (stubs[name] for name in order)
    request = api.CreateSandboxRequest(reuse_key="-".join(order), timeout=api.seconds(60))
    made, found = (stub.CreateSandbox(request, timeout=60) for stub in (first, second))
    try:
        assert found.reused and found.sandbox.sandbox_id == made.sandbox.sandbox_id
        assert first.GetSandbox(api.GetSandboxRequest(
            sandbox_id=made.sandbox.sandbox_id), timeout=30).sandbox == second.GetSandbox(
            api.GetSandboxRequest(sandbox_id=made.sandbox.sandbox_id), timeout=30).sandbox
    finally:
        second.DeleteSandbox(api.DeleteSandboxRequest(
            sandbox_id=made.sandbox.sandbox_id), timeout=30)


def test_each_has_its_recorder_in_the_sandbox(stubs, sandbox_id):
    for name in ("old", "new"):
        follow.run(stubs[name], sandbox_id, shell="true")
    shown = follow.run(stubs["new"], sandbox_id, user="root",
                       shell="ls /var/lib/sandboxd/bin/ | grep -c '^recorder-'")
    assert int(shown.out) == 2


# --- all of them, behind a balancer ---

@pytest.fixture(scope="module")
def deployment(local, previous):
    # The older version may have no admin port: Envoy asks for health by gRPC.
    deployment = Deployment(local, count=PODS, program=previous, has_admin_port=False)
    yield deployment
    deployment.stop()


@pytest.fixture(scope="module")
def balancer(deployment, tmp_path_factory):
    program = Envoy(deployment, tmp_path_factory.mktemp("balancer"))
    yield program
    program.stop()


def test_upgrade_and_back_under_load(balancer, deployment, previous):
    """Old pods are replaced by new ones and those by old ones again, one after the other. At every
    moment calls land on whichever, and each command started on the way has its lines through all."""
    with api.channel(balancer.address) as channel:
        stub = api.Stub(channel)
        sandbox_id = stub.CreateSandbox(api.CreateSandboxRequest(
            timeout=api.seconds(600)), timeout=60).sandbox.sandbox_id
        running = start_load(stub, sandbox_id, balancer.address)
        try:
            started = []
            for program in (NEW, previous):
                for n in range(PODS):
                    deployment.restart(n, program)
                    balancer.wait_healthy()
                    started.append(_start_through(deployment, n, sandbox_id, len(started)))
            check_load(running, stub, sandbox_id, breaks=2 * PODS)
            for command_id in started:
                for address in deployment.addresses:
                    with api.channel(address) as direct:
                        assert follow.logs(api.Stub(direct), sandbox_id, command_id).out == \
                            command_id.encode() + b"\n"
        finally:
            kill_load(running)
        stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)


def _start_through(deployment, n, sandbox_id, number):
    """A command of the pod that has just come, followed there as long as it lasts."""
    command_id = "on-the-way-%d" % number
    with api.channel(deployment.addresses[n]) as channel:
        events = follow.run(api.Stub(channel), sandbox_id, command_id=command_id,
                            shell="echo " + command_id)
    assert events.out == command_id.encode() + b"\n"
    return command_id
