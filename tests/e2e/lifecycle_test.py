"""Programs from their start to their end: what they refuse, and how they leave."""

import json
import os
import threading
import time

import grpc
import pytest
from harness import api, follow, leftovers, programs
from harness.programs import API_KEY, wait_until
from harness.service import Service

BINARIES = ["service/sandboxd", "client/sandboxctl", "runtime/local/e2b-local",
            "runtime/recorder/recorder"]


@pytest.mark.parametrize("path", BINARIES)
def test_version_and_help(path):
    name = path.rsplit("/", 1)[1]
    version = programs.run(path, "--version")
    assert version.returncode == 0 and version.stdout.startswith(name + " ")
    usage = programs.run(path, "--help")
    assert usage.returncode == 0 and name in usage.stdout and usage.stdout.count("\n") > 3
    assert max(len(line) for line in usage.stdout.splitlines()) <= 100


@pytest.mark.parametrize("path", BINARIES)
def test_unknown_options_are_refused(path):
    wrong = programs.run(path, "--no-such-option")
    assert wrong.returncode == 2 and "--no-such-option" in wrong.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_an_open_address_takes_a_word_more(local, listen):
    refused = programs.run("service/sandboxd", "--listen=" + listen,
                           env={"E2B_API_KEY": API_KEY, "E2B_API_URL": local.url})
    assert refused.returncode != 0 and "--insecure" in refused.stderr
    assert '"ready"' not in refused.stderr


def test_an_open_address_with_the_word(local):
    pod = programs.Pod(local.url, None, "--insecure", listen="0.0.0.0:0")
    assert pod.port > 0
    pod.stop()


def test_without_a_key_it_says_what_to_set():
    refused = programs.run("service/sandboxd", "--listen=127.0.0.1:0")
    assert refused.returncode != 0
    assert "E2B_API_KEY" in refused.stderr and "--local" in refused.stderr


def test_a_taken_port_is_said(pods, local):
    refused = programs.run("service/sandboxd", "--listen=" + pods[0].address,
                           env={"E2B_API_KEY": API_KEY, "E2B_API_URL": local.url})
    assert refused.returncode != 0 and pods[0].address.split(":")[1] in refused.stderr


def test_local_is_embedded(data_dir):
    pod = programs.Pod(None, None, "--local", api_key=None,
                       env={"E2B_API_URL": None, "E2B_SANDBOX_URL": None, "SANDBOXD_LOCAL_DATA_DIR":
                            str(data_dir / "embedded")})
    try:
        with api.channel(pod.address) as channel:
            stub = api.Stub(channel)
            sandbox = stub.CreateSandbox(api.CreateSandboxRequest(), timeout=60).sandbox
            assert follow.run(stub, sandbox.sandbox_id, shell="echo hi").out == b"hi\n"
    finally:
        pod.stop()


def test_the_log_is_json_and_has_no_secrets(local, sandbox):
    with Service(local, count=1) as one:
        stub = one.stub(0)
        done = follow.run(stub, sandbox, shell="echo in-the-line-7; cat", stdin=False,
                          envs={"PASSWORD": "in-the-env-7"})
        assert done.exited.code == 0
        with pytest.raises(grpc.RpcError):
            stub.ReadFile(api.ReadFileRequest(sandbox_id=sandbox, path="/none"), timeout=10)
        pod = one.pods[0]
    for line in [*pod.log, *local.log]:
        json.loads(line)
    for secret in "in-the-env-7", API_KEY:
        assert not [line for line in [*pod.log, *local.log] if secret in line]


def test_a_drain_tells_streams_where_to_go_on(local, sandbox):
    """SIGTERM: health goes first, streams are sent on, the pod leaves; nothing is lost."""
    with Service(local, count=2, options=["--drain-spread=1s"]) as service:
        leaving = service.pods[0]
        health = service.stub(0, "grpc.health.v1.Health")
        watch = health.Watch(api.message("grpc.health.v1.HealthCheckRequest")(), timeout=60)
        assert next(watch).status == 1
        stream = service.stub(0).RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id="drained",
            shell="for i in $(seq 300); do echo $i; sleep 0.01; done"), timeout=60)
        events = follow.Events()
        while events.count < 10:
            events.take(next(stream))
        begin = time.monotonic()
        leaving.terminate()
        assert next(watch).status == 2  # NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            for response in stream:
                events.take(response)
        found = api.check_error(caught.value, grpc.StatusCode.UNAVAILABLE, "POD_DRAINING")
        assert "RetryInfo" in found
        leaving.stop()
        assert time.monotonic() - begin < 10
        rest = follow.follow_through([service.pods[1].address], sandbox, "drained", events=events)
        assert bytes(rest.out) == b"".join(b"%d\n" % n for n in range(1, 301))


def test_a_drain_spreads_the_streams_over_time(local, sandbox):
    """They must not all come to the other pods at the same moment."""
    with Service(local, count=1, options=["--drain-spread=2s"]) as service:
        stub = service.stub(0)
        streams = [stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id="spread", shell="sleep 60"), timeout=60)
            for _ in range(24)]
        for stream in streams:
            next(stream)
        ends = []

        def wait(stream):
            try:
                for _ in stream:
                    pass
            except grpc.RpcError as error:
                ends.append((time.monotonic(), error.code()))

        threads = [threading.Thread(target=wait, args=(stream,)) for stream in streams]
        for thread in threads:
            thread.start()
        service.pods[0].terminate()
        for thread in threads:
            thread.join()
        assert {code for _, code in ends} == {grpc.StatusCode.UNAVAILABLE}
        # All within one tenth of the time: once in 10^22 runs if they are spread.
        assert max(ends)[0] - min(ends)[0] > 0.2
    with Service(local, count=1) as service:
        service.stub(0).SignalCommand(api.SignalCommandRequest(
            sandbox_id=sandbox, command_id="spread", signal=9), timeout=30)


def test_a_drain_lets_unary_calls_finish(local, sandbox):
    with Service(local, count=1) as service:
        stub = service.stub(0)
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, shell="sleep 1000", stdin=True, command_id="unread"), timeout=60)
        next(stream)
        next(stream)
        answer = []

        def call():  # takes about 5 s: nobody reads
            try:
                stub.SendInput(api.SendInputRequest(
                    sandbox_id=sandbox, command_id="unread", data=bytes(1 << 20)), timeout=30)
            except grpc.RpcError as error:
                answer.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.5)
        service.pods[0].terminate()
        thread.join(30)
        api.check_error(answer[0], grpc.StatusCode.RESOURCE_EXHAUSTED, "STDIN_FULL")
        service.pods[0].stop()
    with Service(local, count=1) as after:
        after.stub(0).SignalCommand(api.SignalCommandRequest(
            sandbox_id=sandbox, command_id="unread", signal=9), timeout=30)


def test_ending_the_local_runtime_ends_its_sandboxes(data_dir):
    """Whatever runs in them; the harness sees to it that no process, mount or cgroup is left."""
    local = programs.Local(data_dir / "brief")
    assert bool(local.cgroups) == ("cgroup v" in local.ready["isolation"])
    with Service(local, count=1) as service:
        stub = service.stub(0)
        sandbox = stub.CreateSandbox(api.CreateSandboxRequest(), timeout=60).sandbox.sandbox_id
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, shell="setsid sleep 98765 & exec sleep 98765"), timeout=60)
        next(stream)

        def sleepers():
            return [pid for pid in leftovers.descendants(os.getpid())
                    if leftovers.command_line(pid) == "sleep 98765"]

        wait_until(lambda: len(sleepers()) == 2)
        local.stop()
        assert not leftovers.none_within(5, sleepers)
        stream.cancel()
