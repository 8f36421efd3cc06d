"""Connections have an age, after which core closes them. Streams leave before, each with where to go on."""

import concurrent.futures
import subprocess
import threading
import time

import grpc
import pytest
from harness import api, follow, programs
from harness.service import Service

AGE_S, GRACE_S = 1, 10  # a stream leaves a second before it would be cut, or earlier
SECONDS = 14
LINES = "for i in $(seq %d); do echo line $i; sleep 0.02; done" % (SECONDS * 50)
SAID = ["line %d" % (i + 1) for i in range(SECONDS * 50)]


@pytest.fixture(scope="module")
def service(local):
    options = ["--max-connection-age=%ds" % AGE_S, "--max-connection-age-grace=%ds" % GRACE_S,
               "--heartbeat-interval=500ms"]
    with Service(local, count=1, options=options) as service:
        yield service


@pytest.fixture(scope="module")
def stub(service):
    return service.stub(0)


@pytest.fixture(scope="module")
def sandbox(stub):
    made = stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(600)), timeout=60)
    yield made.sandbox.sandbox_id
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox.sandbox_id), timeout=30)


class Reader(threading.Thread):
    """Follows a command to its end, always through the same channel."""

    def __init__(self, channel, sandbox_id, command_id):
        super().__init__(daemon=True)
        self.stub, self.sandbox_id, self.command_id = api.Stub(channel), sandbox_id, command_id
        self.events, self.lives, self.failure = follow.Events(), [], None
        self.start()

    def run(self):
        try:
            while self.events.exited is None:
                begun = time.monotonic()
                try:
                    self._follow()
                except grpc.RpcError as error:
                    found = api.check_error(error, grpc.StatusCode.UNAVAILABLE, "CONNECTION_AGED")
                    assert "RetryInfo" in found
                    assert int(found["ErrorInfo"].metadata["last_seq"]) == self.events.next_seq - 1
                    self.lives.append(time.monotonic() - begun)
        except BaseException as failure:
            self.failure = failure

    def _follow(self):
        for response in self.stub.Logs(api.LogsRequest(
                sandbox_id=self.sandbox_id, command_id=self.command_id, follow=True,
                from_seq=self.events.next_seq)):
            self.events.take(response)


def start(stub, sandbox_id, command_id, **fields):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields))
    events = follow.Events()
    while events.started is None:
        events.take(next(stream))
    stream.cancel()


def read_together(address, sandbox_id):
    """Streams that begin at any moment of a connection's life, over and over."""
    channels = [api.channel(address) for _ in range(4)]
    readers = [Reader(channel, sandbox_id, "aging") for channel in channels for _ in range(6)]
    for reader in readers:
        reader.join(120)
    for channel in channels:
        channel.close()
    return readers


def watch_health(address):
    """The seconds until it ended, and how."""
    with api.channel(address) as channel:
        health = api.Stub(channel, "grpc.health.v1.Health")
        begun = time.monotonic()
        try:
            for _ in health.Watch(api.message("grpc.health.v1.HealthCheckRequest")()):
                pass
        except grpc.RpcError as error:
            return time.monotonic() - begun, error


over = threading.Event()


def held(*messages):
    """Requests of a caller who then says nothing more."""
    yield from messages
    over.wait()


STREAMS = {
    "RunCommand": lambda stub, id_: stub.RunCommand(
        api.RunCommandRequest(sandbox_id=id_, shell="sleep 60")),
    "Logs of all": lambda stub, id_: stub.Logs(api.LogsRequest(sandbox_id=id_, follow=True)),
    "Logs of the platform": lambda stub, id_: stub.Logs(api.LogsRequest(
        sandbox_id=id_, follow=True, source=api.SOURCE_SANDBOX)),
    "Attach": lambda stub, id_: stub.Attach(held(api.AttachRequest(
        begin=api.AttachBegin(sandbox_id=id_, command_id="sleeps")))),
    "Attach without a word": lambda stub, id_: stub.Attach(held()),
    "UploadFile": lambda stub, id_: [stub.UploadFile(held())],
}


def end_of(stub, sandbox_id, what):
    try:
        for _ in STREAMS[what](stub, sandbox_id):
            pass
    except grpc.RpcError as error:
        return error


def run_sandboxctl(address, sandbox_id):
    return subprocess.run(
        [programs.find("client/sandboxctl"), "--address=" + address, "run", sandbox_id, "--",
         "bash", "-c", LINES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
        check=False, encoding="utf-8")


@pytest.fixture(scope="module")
def ends(service, stub, sandbox):
    """Everything that takes its time, at once: name -> what comes of it."""
    address = service.addresses[0]
    start(stub, sandbox, "sleeps", shell="sleep 1000")
    start(stub, sandbox, "aging", shell=LINES)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        begun = {what: pool.submit(end_of, stub, sandbox, what) for what in STREAMS}
        begun["readers"] = pool.submit(read_together, address, sandbox)
        begun["health"] = pool.submit(watch_health, address)
        begun["sandboxctl"] = pool.submit(run_sandboxctl, address, sandbox)
        yield {name: future.result() for name, future in begun.items()}
        over.set()


def test_no_reader_sees_a_connection_end(ends):
    for reader in ends["readers"]:
        assert reader.failure is None, reader.failure
        assert reader.events.out.decode().splitlines() == SAID
        assert reader.lives
    firsts = [reader.lives[0] for reader in ends["readers"]]
    assert max(firsts) - min(firsts) > 0.1 * GRACE_S, "they all left at once"


def test_connections_do_end(ends):
    """Whoever stays is cut off: otherwise the case above shows nothing."""
    seconds, error = ends["health"]
    assert "ErrorInfo" not in api.details(error)
    assert seconds > GRACE_S


@pytest.mark.parametrize("what", STREAMS)
def test_every_kind_of_stream_leaves(ends, what):
    found = api.check_error(ends[what], grpc.StatusCode.UNAVAILABLE, "CONNECTION_AGED")
    assert "RetryInfo" in found


def test_libsandbox_goes_on_unnoticed(ends):
    done = ends["sandboxctl"]
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == SAID
