"""E2B on this machine is killed and started again below a service: its commands do not notice, and
their readers lose nothing."""

import socket

from harness import api, follow, programs
from harness.service import Service

RESTARTS = 4

# Numbered lines until stdin ends, some hundred a second.
TICKER = """
import select
n = 0
while not select.select([0], [], [], 0.002)[0]:
    n += 1
    print(n, flush=True)
print("end", n, flush=True)
"""


class Mortal:
    """e2b-local at one address."""

    def __init__(self, data_dir):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.listen = "127.0.0.1:%d" % free.getsockname()[1]
        self.data_dir = data_dir
        self.start()

    def start(self):
        self.local = programs.Local(self.data_dir, listen=self.listen)

    def restart(self):
        self.local.kill()
        self.start()


def test_commands_and_journals_outlive_the_server(data_dir):
    mortal = Mortal(data_dir / "local")
    with Service(mortal.local, count=1) as service:
        stub = service.stub()
        sandbox = stub.CreateSandbox(
            api.CreateSandboxRequest(timeout=api.seconds(600)), timeout=60).sandbox.sandbox_id
        before = follow.run(stub, sandbox, command_id="before", shell="seq 1 50000; exit 7")
        stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id="ticker", stdin=True,
            argv=api.Argv(args=["python3", "-c", TICKER])), timeout=60).next()
        pid = stub.GetCommand(api.GetCommandRequest(
            sandbox_id=sandbox, command_id="ticker"), timeout=30).command.pid
        done = []

        def on_response(_, events):
            if len(done) < RESTARTS and events.count > 100 * (len(done) + 1):
                mortal.restart()
                done.append(events.count)
                if len(done) == RESTARTS:
                    command = stub.GetCommand(api.GetCommandRequest(
                        sandbox_id=sandbox, command_id="ticker"), timeout=30).command
                    assert command.pid == pid and command.state == command.STATE_RUNNING
                    stub.SendInput(api.SendInputRequest(
                        sandbox_id=sandbox, command_id="ticker", eof=True), timeout=30)

        events = follow.follow_through(service.addresses, sandbox, "ticker", tries=20,
                                       on_response=on_response)
        lines = bytes(events.out).decode().split("\n")
        count = int(lines[-2].split()[1])
        assert lines == [str(n) for n in range(1, count + 1)] + ["end %d" % count, ""]
        assert events.exited.code == 0 and not events.dropped and len(done) == RESTARTS

        after = follow.logs(stub, sandbox, "before")
        assert after.out == before.out and after.exited.code == 7
    mortal.local.stop()
