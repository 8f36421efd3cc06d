"""Two pods behind a real load balancer that deals out single requests."""

import re
import shutil
import subprocess
import tempfile
import time

import grpc
import pytest
from harness import api, follow
from harness.programs import Program, wait_until

HAPROXY = """
global
    log stderr format raw local0
defaults
    mode http
    log global
    log-format "to %s %HP %ST"
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend api
    bind 127.0.0.1:{port} proto h2
    default_backend pods
backend pods
    balance roundrobin
    http-reuse always
{servers}
"""


class Balancer(Program):
    def __init__(self, path, addresses):
        import socket
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        servers = "\n".join("    server pod%d %s proto h2" % (n, address)
                            for n, address in enumerate(addresses))
        with open(path, "w", encoding="utf-8") as f:
            f.write(HAPROXY.format(port=port, servers=servers))
        super().__init__("haproxy", [shutil.which("haproxy", path="/usr/sbin:/usr/bin"), "-db", "-f", path])
        self.ready = {"listen": "127.0.0.1:%d" % port}
        wait_until(self._answers)

    def _answers(self):
        import socket
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            assert self.process.poll() is None, self.tail()
            return False
        return True

    def stop(self, timeout=30):
        self.process.terminate()
        self.process.wait(timeout)

    def targets(self):
        """The pod of each call so far, in order."""
        found = []
        for line in list(self.log):
            match = re.search(r"to (pod\d) \S*/(\w+) ", line)
            if match:
                found.append(match.groups())
        return found


@pytest.fixture(scope="module")
def balancer(service):
    if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
        pytest.skip("haproxy is not installed")
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as config:
        program = Balancer(config.name, service.addresses)
        yield program
        program.stop()


def test_one_session_over_alternating_pods(balancer):
    with api.channel(balancer.address) as channel:
        stub = api.Stub(channel)
        made = stub.CreateSandbox(api.CreateSandboxRequest(), timeout=60)
        sandbox_id = made.sandbox.sandbox_id
        for n in range(6):
            name = "file%d" % n
            stub.WriteFiles(api.WriteFilesRequest(sandbox_id=sandbox_id, files=[
                api.File(path=name, text="content %d" % n)]), timeout=30)
            got = stub.ReadFile(api.ReadFileRequest(sandbox_id=sandbox_id, path=name), timeout=30)
            assert got.data == b"content %d" % n
            ran = follow.run(stub, sandbox_id, command_id="run%d" % n, shell="cat file%d" % n)
            assert ran.out == b"content %d" % n
            assert follow.logs(stub, sandbox_id, "run%d" % n).out == ran.out
            got = stub.GetCommand(api.GetCommandRequest(
                sandbox_id=sandbox_id, command_id="run%d" % n), timeout=30)
            assert got.command.exited.code == 0
        assert len(stub.ListCommands(api.ListCommandsRequest(
            sandbox_id=sandbox_id), timeout=30).commands) == 6
        stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)
    calls = wait_until(lambda: len(balancer.targets()) >= 33 and balancer.targets())
    pods = [pod for pod, _ in calls]
    assert all(a != b for a, b in zip(pods, pods[1:])), calls


def test_a_command_is_started_here_driven_there(balancer, sandbox):
    """RunCommand stays on its pod; input, signal and logs land wherever they land."""
    with api.channel(balancer.address) as channel:
        stub = api.Stub(channel)
        name = "balanced%d" % time.time_ns()
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id=name, shell="cat", stdin=True), timeout=60)
        events = follow.Events()
        while events.started is None:
            events.take(next(stream))
        for n in range(6):
            stub.SendInput(api.SendInputRequest(
                sandbox_id=sandbox, command_id=name, text="%d\n" % n), timeout=30)
        stub.SendInput(api.SendInputRequest(sandbox_id=sandbox, command_id=name, eof=True), timeout=30)
        for response in stream:
            events.take(response)
        assert events.out == b"0\n1\n2\n3\n4\n5\n" and events.exited.code == 0


def test_errors_come_through_whole(balancer, fails):
    with api.channel(balancer.address) as channel:
        fails(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND", api.Stub(channel).GetSandbox,
              api.GetSandboxRequest(sandbox_id="i0123456789abcdefghij"))
