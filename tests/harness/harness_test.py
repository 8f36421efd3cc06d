"""The harness finds what it is there to find."""

import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from harness import api, faults, follow, leftovers, programs


def event(seq, **fields):
    return api.CommandEvent(seq=seq, **fields)


def response(*events, **fields):
    return api.RunCommandResponse(events=events, last_seq=events[-1].seq, **fields)


GOOD = [event(1, started=api.Started(pid=7)), event(2, stdout=b"one\n"),
        event(3, stdout=b"two\n", offset=4), event(4, stderr=b"no\n"), event(5, exited=api.Exited())]


def test_events_of_a_whole_stream_are_taken():
    events = follow.Events()
    events.take(api.RunCommandResponse(command_id="c"))
    events.take(response(*GOOD[:2]))
    events.take(response(*GOOD[2:]))
    assert (bytes(events.out), bytes(events.err), events.count) == (b"one\ntwo\n", b"no\n", 5)
    assert events.heartbeats == 1 and events.exited is not None


@pytest.mark.parametrize("wrong", [
    pytest.param(GOOD[:1] + GOOD[2:], id="lost"),
    pytest.param(GOOD[:2] + GOOD[1:], id="repeated"),
    pytest.param([GOOD[1], GOOD[0]], id="out of order"),
    pytest.param(GOOD[:2] + [event(3, stdout=b"two\n", offset=5)], id="wrong offset"),
    pytest.param(GOOD[:2] + [event(6, dropped=api.Dropped(first_seq=4, last_seq=6))], id="bad drop"),
])
def test_a_gap_is_found(wrong):
    with pytest.raises(follow.Gap):
        follow.Events().take(response(*wrong))


def test_dropped_events_are_counted():
    events = follow.Events()
    events.take(response(GOOD[0], event(9, dropped=api.Dropped(first_seq=2, last_seq=9, bytes=50)),
                         event(10, stdout=b"x", offset=50)))
    assert events.dropped_bytes == 50 and events.next_seq == 11


@pytest.fixture
def sender():
    """Sends a million bytes to whoever connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            try:
                peer.sendall(b"x" * 1_000_000)
            except OSError:
                pass
            peer.close()

    threading.Thread(target=serve, daemon=True).start()
    yield "127.0.0.1:%d" % listener.getsockname()[1]
    listener.close()


def read_all(address):
    host, port = address.split(":")
    total = 0
    with socket.create_connection((host, int(port)), timeout=10) as peer:
        while True:
            try:
                data = peer.recv(65536)
            except OSError:
                return total, "reset"
            if not data:
                return total, "end"
            total += len(data)


def test_the_proxy_passes_everything_on(sender):
    proxy = faults.Proxy(sender)
    assert read_all(proxy.address) == (1_000_000, "end")
    proxy.close()


def test_the_proxy_cuts_where_it_is_told(sender):
    def arm(connection):
        connection.cut_after = 12_345
    proxy = faults.Proxy(sender, arm)
    total, end = read_all(proxy.address)
    assert total <= 12_345 and proxy.cuts == 1
    proxy.close()


def test_processes_left_behind_are_found():
    child = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        programs.wait_until(lambda: ["sleep 60"] == [
            leftovers.command_line(pid) for pid in leftovers.descendants(child.pid)])
    finally:
        for pid in leftovers.descendants(child.pid):
            subprocess.run(["kill", str(pid)], check=True)
        child.wait()


@pytest.mark.parametrize("script", ["echo no >&2; exit 3", "exec 2>&-; sleep 0.3; exit 3",
                                    "echo no >&2; sleep 20 & exit 3"],
                         ids=["at once", "silent at last", "survived by a child"])
def test_a_program_that_ends_early_is_not_waited_for(script):
    program = programs.Program("early", ["sh", "-c", script])
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="early is not ready"):
        program.wait_ready()
    assert time.monotonic() - begun < 8
    leftovers.reap()
    for pid in leftovers.descendants(os.getpid()):
        os.kill(pid, signal.SIGKILL)
    leftovers.reap()
