"""Attach: a command's events and its input on one stream that can be left and taken up again."""

import queue
import threading
import time

import grpc
import pytest
from harness import api, follow
from harness.follow import start
from harness.service import Service


class Attached:
    """One stream of Attach, driven by hand."""

    def __init__(self, stub, sandbox, command_id, events=None, offset=None, **begin):
        self.events = events or follow.Events()
        self.offset = offset  # what was acknowledged; None: nothing was said yet
        self.messages = queue.Queue()
        self._requests = queue.Queue()
        self.send(begin=api.AttachBegin(
            sandbox_id=sandbox, command_id=command_id, from_seq=self.events.next_seq, **begin))
        self._call = stub.Attach(iter(self._requests.get, None), timeout=60)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for response in self._call:
                self.messages.put(response)
            self.messages.put(None)
        except grpc.RpcError as error:
            self.messages.put(error)

    def send(self, **fields):
        self._requests.put(api.AttachRequest(**fields))

    def type(self, data, **fields):
        self.send(input=api.AttachInput(data=data, **fields))

    def resize(self, cols, rows):
        self.send(resize=api.TerminalSize(cols=cols, rows=rows))

    def step(self, timeout=30):
        """Takes the next message. False at the end."""
        message = self.messages.get(timeout=timeout)
        if message is None:
            return False
        if isinstance(message, grpc.RpcError):
            raise message
        if message.HasField("input"):
            assert self.offset is None or message.input.offset >= self.offset
            self.offset = message.input.offset
        elif message.events:
            self.events.take(message)
        return True

    def until(self, condition):
        while not condition(self):
            assert self.step(), "the stream ended"
        return self

    def shows(self, text):
        return self.until(lambda a: text in bytes(a.events.terminal))

    def leave(self):
        self._requests.put(None)
        self._call.cancel()


def end(stub, sandbox, command_id):
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox, command_id=command_id, signal=9,
        target=api.message("sandbox.v1.SignalCommandRequest").TARGET_TREE), timeout=30)


@pytest.fixture
def shell(stub, sandbox):
    """A shell in a terminal of 80 by 24."""
    name = start(stub, sandbox, "shell%d" % time.time_ns(), pty=api.TerminalSize(cols=80, rows=24),
                 envs={"PS1": "ready> "}, argv=api.Argv(args=["bash", "--norc", "-i"]))
    yield name
    try:
        end(stub, sandbox, name)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION  # it ended


def test_what_is_typed_is_answered(stub, sandbox, shell):
    attached = Attached(stub, sandbox, shell).shows(b"ready> ")
    attached.until(lambda a: a.offset == 0)
    attached.type(b"echo $((6 * 7))\n")
    attached.shows(b"42\r\n").until(lambda a: a.offset == 16)
    attached.type(b"exit 7\n")
    while attached.step():
        pass
    assert attached.events.exited.code == 7


def test_size_is_set_and_changes(stub, sandbox, shell):
    attached = Attached(stub, sandbox, shell, size=api.TerminalSize(cols=100, rows=30))
    attached.shows(b"ready> ").until(lambda a: a.offset is not None)
    attached.type(b"stty size\n")
    attached.shows(b"30 100\r\n")
    attached.resize(120, 40)
    attached.type(b"stty size\n")
    attached.shows(b"40 120\r\n")
    got = stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id=shell), timeout=30)
    assert (got.command.pty.cols, got.command.pty.rows) == (120, 40)
    attached.leave()


def test_of_sizes_that_come_fast_the_last_one_stays(stub, sandbox, shell):
    """As from a window that is dragged: the next one comes while one is on its way."""
    attached = Attached(stub, sandbox, shell)
    attached.shows(b"ready> ").until(lambda a: a.offset is not None)
    for n in range(20):
        attached.resize(101 + n, 31 + n)
    attached.type(b"stty size\n")
    attached.shows(b"50 120\r\n")
    attached.leave()


def test_an_end_that_comes_right_behind_what_is_typed_is_told(stub, sandbox):
    name = start(stub, sandbox, "end%d" % time.time_ns(), shell="wc -c", stdin=True)
    attached = Attached(stub, sandbox, name).until(lambda a: a.offset == 0)
    attached.type(b"four")
    attached.type(b"", eof=True)
    while attached.step():
        pass
    assert attached.events.exited.code == 0 and bytes(attached.events.out) == b"4\n"


def test_it_can_be_left_and_taken_up_on_another_pod(stub, other_stub, sandbox, shell):
    first = Attached(stub, sandbox, shell).shows(b"ready> ").until(lambda a: a.offset is not None)
    first.type(b"x=left\n")
    first.until(lambda a: a.offset == 7)
    first.leave()
    second = Attached(other_stub, sandbox, shell)
    second.until(lambda a: a.offset == 7).shows(b"ready> x=left\r\n")  # all of it, from the start
    second.type(b"echo $x again\n", offset=7)
    second.shows(b"left again\r\n")
    second.leave()


def test_nothing_typed_is_lost_or_repeated_through_pod_kills(local, sandbox):
    """A client that types lines, and sends again what was not acknowledged."""
    total = b"".join(b"%06d\n" % n for n in range(200_000))
    with Service(local, count=2) as service:
        name = start(service.stub(0), sandbox, "typed%d" % time.time_ns(), stdin=True,
                     shell="cksum")
        kills, events = 0, None
        while True:
            pod = kills % 2
            attached = Attached(service.stub(pod), sandbox, name, events=events)
            events = attached.events
            try:
                attached.until(lambda a: a.offset is not None)
                sent = attached.offset
                goal = (kills + 1) * len(total) // 8
                while attached.offset < len(total) and (attached.offset < goal or kills == 6):
                    if sent < len(total) and sent - attached.offset < 60_000:
                        attached.type(total[sent:sent + 7000], offset=sent)
                        sent += len(total[sent:sent + 7000])
                    else:
                        attached.step()
                if attached.offset == len(total):
                    attached.type(b"", offset=len(total), eof=True)
                    while attached.step():
                        pass
                    break
                service.restart(pod)
                kills += 1
                while attached.step():
                    pass
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert kills == 6
    crc, size = bytes(events.out).split()
    assert int(size) == len(total)
    assert int(crc) == posix_cksum(total)


def posix_cksum(data):
    """As the program cksum."""
    size, tail = len(data), b""
    while size:
        tail += bytes([size & 0xff])
        size >>= 8
    crc = 0
    for byte in data + tail:
        crc = (crc << 8) & 0xffffffff ^ TABLE[crc >> 24 ^ byte]
    return crc ^ 0xffffffff


def _table():
    for n in range(256):
        crc = n << 24
        for _ in range(8):
            crc = (crc << 1) & 0xffffffff ^ (0x04c11db7 if crc >> 31 else 0)
        yield crc


TABLE = list(_table())


def test_it_shows_what_ended_already(stub, sandbox):
    follow.run(stub, sandbox, command_id="over", shell="echo done; exit 3")
    attached = Attached(stub, sandbox, "over")
    attached.type(b"too late")
    while attached.step():
        pass
    assert bytes(attached.events.out) == b"done\n" and attached.events.exited.code == 3


def refused(stub, requests, code, reason):
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stub.Attach(iter(requests), timeout=30):
            pass
    return api.check_error(caught.value, code, reason)


BEGIN = {"sandbox_id": "nosuch", "command_id": "nosuch"}
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("requests, field", [
    ([{"input": {"data": b"x"}}], "begin"),
    ([{"begin": {"sandbox_id": "a b", "command_id": "c"}}], "begin.sandbox_id"),
    ([{"begin": {"sandbox_id": "a", "command_id": ""}}], "begin.command_id"),
    ([{"begin": {"size": {"cols": 0, "rows": 5}, **BEGIN}}], "begin.size"),
    ([{"begin": {"until": 9, **BEGIN}}], "begin.until"),
    ([{"begin": BEGIN}, {"begin": BEGIN}], "begin"),
    ([{"begin": BEGIN}, {}], "request"),
    ([{"begin": BEGIN}, {"resize": {"cols": 1001, "rows": 5}}], "resize"),
    ([{"begin": BEGIN}, {"input": {"data": bytes((1 << 20) + 1)}}], "input.data"),
])
def test_bad_requests(stub, sandbox, shell, requests, field):
    requests = [api.AttachRequest(**r) for r in requests]
    if len(requests) > 1:  # the first one is good
        requests[0].begin.sandbox_id, requests[0].begin.command_id = sandbox, shell
    found = refused(stub, requests, INVALID, "INVALID_FIELD")
    assert found["BadRequest"].field_violations[0].field == field


def test_a_stream_without_begin(stub):
    refused(stub, [], INVALID, "INVALID_FIELD")


def test_unknown_sandbox_and_command(stub, sandbox):
    refused(stub, [api.AttachRequest(begin=BEGIN)], grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND")
    refused(stub, [api.AttachRequest(begin={"sandbox_id": sandbox, "command_id": "nosuch"})],
            grpc.StatusCode.NOT_FOUND, "COMMAND_NOT_FOUND")


def test_a_gap_in_the_input(stub, sandbox, shell):
    attached = Attached(stub, sandbox, shell).until(lambda a: a.offset is not None)
    attached.type(b"x", offset=5)
    with pytest.raises(grpc.RpcError) as caught:
        while attached.step():
            pass
    found = api.check_error(caught.value, grpc.StatusCode.OUT_OF_RANGE, "INPUT_GAP")
    assert found["ErrorInfo"].metadata["expected_offset"] == "0"
