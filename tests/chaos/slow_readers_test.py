"""A reader that stops must cost nobody anything: not the pod, not other readers, not the command."""

import collections
import statistics
import threading
import time

import pytest
from harness import api, follow, programs
from harness.programs import wait_until
from harness.service import Service

MIB, GIB = 1 << 20, 1 << 30
PRINT_A_GIB = "head -c 1G /dev/zero"

pytestmark = pytest.mark.skipif(
    programs.is_sanitized("service/sandboxd"), reason="a sanitizer distorts memory and speed")


def start(stub, sandbox_id, name, **fields):
    """Starts a command and lets go of it once it runs; it waits for a file before it prints."""
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, command_id=name, **fields), timeout=300)
    for response in stream:
        if response.events:
            break
    stream.cancel()


def gated(name):
    return "until [ -e /tmp/go-%s ]; do sleep 0.01; done; %s" % (name, PRINT_A_GIB)


def open_gate(stub, sandbox_id, name):
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=sandbox_id, files=[api.File(path="/tmp/go-" + name)]), timeout=30)
    return time.time()


def wait_exit(stub, sandbox_id, name):
    def exited():
        got = stub.GetCommand(api.GetCommandRequest(
            sandbox_id=sandbox_id, command_id=name), timeout=30).command
        return got.HasField("exited") and got
    # Each look starts a process in the sandbox: seldom enough not to be seen in the figures.
    return wait_until(exited, 120, "the exit of " + name, every=0.5)


class Reader(threading.Thread):
    """Follows a command as fast as Python can; counts bytes without looking into messages."""

    def __init__(self, address, sandbox_id, name):
        super().__init__(daemon=True)
        self.request = api.LogsRequest(sandbox_id=sandbox_id, command_id=name, follow=True)
        self.channel = api.channel(address)
        self.bytes = 0
        self.first = self.last = None
        self.start()

    def run(self):
        for raw in api.Stub(self.channel, raw=True).Logs(self.request, timeout=300):
            self.last = time.monotonic()
            if len(raw) > 1000 and self.first is None:
                self.first = self.last
            self.bytes += len(raw)
        self.channel.close()

    def speed(self):
        self.join(200)
        assert not self.is_alive()
        return self.bytes / (self.last - self.first)


Received = collections.namedtuple("Received", "bytes dropped exited")


class Stopped:
    """Opens a stream and reads no more than its beginning."""

    def __init__(self, address, sandbox_id, name):
        self.channel = api.channel(address)
        self.events = follow.Events()
        self.stream = api.Stub(self.channel).Logs(api.LogsRequest(
            sandbox_id=sandbox_id, command_id=name, follow=True), timeout=600)
        while not self.events.count:
            self.events.take(next(self.stream))

    def go_on(self):
        """Reads the rest, and says how much came of it."""
        for response in self.stream:
            self.events.take(response)
        return Received(len(self.events.out), self.events.dropped_bytes,
                        self.events.exited is not None)


class Peak(threading.Thread):
    """Watches the resident size of a pod."""

    def __init__(self, pod):
        super().__init__(daemon=True)
        self.pod, self.stopped = pod, threading.Event()
        self.base = self.peak = pod.rss()
        self.start()

    def run(self):
        while not self.stopped.wait(0.02):
            self.peak = max(self.peak, self.pod.rss())

    def growth(self):
        self.stopped.set()
        self.join()
        return self.peak - self.base


@pytest.fixture(scope="module")
def pod_stub(local):
    with Service(local, count=1) as service:
        yield service.pods[0], service.stub(0)


# Who else is there while a command prints: (a reader that keeps up, one that stopped).
COMPANY = {"nobody": (False, False), "stopped": (False, True), "reader": (True, False),
           "both": (True, True)}

# The machine is noisy: rounds are added until the medians are clear, or there were too many.
ROUNDS_MIN, ROUNDS_MAX = 3, 9


class Figures:
    """What the same command gave in each company, round by round."""

    def __init__(self):
        self.rounds = {company: [] for company in COMPANY}

    def add(self, company, **figures):
        self.rounds[company].append(figures)

    def all(self, company, key):
        return [figures[key] for figures in self.rounds[company]]

    def ratio(self, key, company, other):
        """The median over rounds, in which both met the same machine."""
        return statistics.median(
            a / b for a, b in zip(self.all(company, key), self.all(other, key)))

    @property
    def slowed_readers(self):
        """Speed of a reader beside one that stopped, over its speed alone."""
        return self.ratio("speed", "both", "reader")

    @property
    def slowed_command(self):
        """Time of a command with a reader that stopped, over its time with none."""
        return self.ratio("took", "stopped", "nobody")

    @property
    def clear(self):
        return self.slowed_readers > 0.8 and self.slowed_command < 1.2


def one_round(pod, stub, sandbox_id, n, figures):
    for company, (with_reader, with_stopped) in COMPANY.items():
        name = "%s%d" % (company, n)
        start(stub, sandbox_id, name, shell=gated(name), overflow=api.OVERFLOW_DROP_OLDEST)
        reader = Reader(pod.address, sandbox_id, name) if with_reader else None
        if reader:
            wait_until(lambda r=reader: r.bytes)
        peak = Peak(pod)
        stopped = Stopped(pod.address, sandbox_id, name) if with_stopped else None
        opened = open_gate(stub, sandbox_id, name)
        done = wait_exit(stub, sandbox_id, name)
        figures.add(company, took=unix(done.end_time) - opened, growth=peak.growth(),
                    speed=reader.speed() if reader else None,
                    received=stopped.go_on() if stopped else None)


def unix(timestamp):
    return timestamp.seconds + timestamp.nanos / 1e9


@pytest.fixture(scope="module")
def measured(pod_stub, sandbox):
    pod, stub = pod_stub
    one_round(pod, stub, sandbox, 0, Figures())  # warms up caches and allocators
    figures = Figures()
    for n in range(1, ROUNDS_MAX + 1):
        one_round(pod, stub, sandbox, n, figures)
        if n >= ROUNDS_MIN and figures.clear:
            break
    print("readers at %.2f of their speed, command %.2f times as long, %d rounds"
          % (figures.slowed_readers, figures.slowed_command, n))
    return figures


def test_the_pod_does_not_grow(measured):
    assert max(measured.all("stopped", "growth") + measured.all("both", "growth")) < 4 * MIB


def test_other_readers_keep_their_speed(measured):
    assert measured.slowed_readers > 0.8


def test_the_command_takes_no_longer(measured):
    assert measured.slowed_command < 1.2


def test_the_slow_reader_gets_every_event_or_its_count(measured):
    for got in measured.all("stopped", "received") + measured.all("both", "received"):
        assert got.dropped and got.exited
        assert got.bytes + got.dropped == GIB


@pytest.mark.parametrize("pause,size", [(0.0, 200 * MIB), (0.005, 30 * MIB), (0.1, 12 * MIB)],
                         ids=["as fast as it can", "slow", "very slow"])
def test_keep_up_loses_nothing_for_a_reader_that_keeps_reading(pod_stub, sandbox, pause, size):
    pod, stub = pod_stub
    name = "keep%d" % time.time_ns()
    events = follow.Events()
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id=name, shell="head -c %d /dev/zero" % size,
        overflow=api.OVERFLOW_KEEP_UP, max_journal_bytes=2 * MIB), timeout=600)
    for response in stream:
        events.take(response)
        if pause:
            time.sleep(pause)
    assert not events.dropped and len(events.out) == size and events.exited.code == 0


def test_keep_up_goes_on_when_the_reader_stops(pod_stub, sandbox):
    pod, stub = pod_stub
    name = "left%d" % time.time_ns()
    start(stub, sandbox, name, shell=gated(name).replace("1G", "50M"),
          overflow=api.OVERFLOW_KEEP_UP, max_journal_bytes=2 * MIB)
    stopped = Stopped(pod.address, sandbox, name)
    open_gate(stub, sandbox, name)
    wait_exit(stub, sandbox, name)
    got = stopped.go_on()
    assert got.dropped and got.bytes + got.dropped == 50 * MIB
