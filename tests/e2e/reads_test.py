"""Reading parts of a record: its end, a span of time, some streams, whole lines, so much."""

import random
import time

import grpc
import pytest
from harness import api, follow
from harness.programs import wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT

LINES = "for i in $(seq 1 300); do echo out $i; echo err $i >&2; done; printf last"


@pytest.fixture(scope="module")
def record(stub, sandbox):
    follow.run(stub, sandbox, command_id="record", shell=LINES, until=api.UNTIL_CLOSED)
    return follow.logs(stub, sandbox, "record", follow=True, until=api.UNTIL_CLOSED)


def events_of(stub, sandbox_id, command_id="record", **fields):
    fields.setdefault("timeout", 60)
    timeout = fields.pop("timeout")
    responses = list(stub.Logs(api.LogsRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=timeout))
    events = [e for r in responses for e in r.events]
    events_of.last_seq = max((r.last_seq for r in responses), default=0)
    return events


def bytes_of(events, *kinds):
    return b"".join(getattr(e, e.WhichOneof("event")) for e in events
                    if e.WhichOneof("event") in (kinds or ("stdout", "stderr")))


def kinds_of(events):
    return [e.WhichOneof("event") for e in events]


def test_streams_are_told_apart_and_what_is_left_out_is_counted(stub, sandbox, record):
    full = events_of(stub, sandbox)
    for stream, kind in (api.STREAM_STDOUT, "stdout"), (api.STREAM_STDERR, "stderr"):
        events = events_of(stub, sandbox, streams=[stream], follow=True, until=api.UNTIL_CLOSED)
        assert events == [e for e in full if e.WhichOneof("event") in
                          (kind, "started", "exited", "closed")]
        assert events_of.last_seq == full[-1].seq
        at = 0
        for e in events:
            if e.WhichOneof("event") == kind:
                assert e.offset == at
                at += len(getattr(e, kind))
        # Resuming anywhere gives the rest.
        for _ in range(5):
            first = random.randint(1, full[-1].seq)
            assert events_of(stub, sandbox, streams=[stream], from_seq=first) == [
                e for e in events if e.seq >= first]


@pytest.mark.parametrize("n", [1, 2, 7, 100, 600, 601, 5000])
def test_the_last_lines_are_so_many(stub, sandbox, record, n):
    events = events_of(stub, sandbox, tail=api.Tail(lines=n))
    out, err = bytes_of(events, "stdout"), bytes_of(events, "stderr")
    assert bytes(record.out).endswith(out) and bytes(record.err).endswith(err)
    lines = out.splitlines() + err.splitlines()
    assert len(lines) == min(n, 601)
    for data, all_data in (out, record.out), (err, record.err):
        assert data in (b"", bytes(all_data)) or bytes(all_data)[:-len(data)].endswith(b"\n")
    assert kinds_of(events)[-2:] == ["exited", "closed"]
    only = events_of(stub, sandbox, tail=api.Tail(lines=3), streams=[api.STREAM_STDERR])
    assert bytes_of(only) == b"err 298\nerr 299\nerr 300\n"


def test_an_unfinished_line_is_where_it_was_written(stub, sandbox):
    """Lines of the other stream that came behind it are later than it is."""
    follow.run(stub, sandbox, command_id="unfinished", until=api.UNTIL_CLOSED,
               shell="echo a; printf last; sleep 0.2; echo b >&2; sleep 0.2; echo c >&2")
    for n, want in (1, b"c\n"), (2, b"b\nc\n"), (3, b"lastb\nc\n"), (4, b"a\nlastb\nc\n"):
        assert bytes_of(events_of(stub, sandbox, "unfinished", tail=api.Tail(lines=n))) == want


def test_the_last_bytes_and_events_are_so_many(stub, sandbox, record):
    full = events_of(stub, sandbox)
    whole = bytes_of(full)
    for n in 1, 5, 1000, len(whole), len(whole) + 10:
        assert bytes_of(events_of(stub, sandbox, tail=api.Tail(bytes=n))) == whole[-n:]
    for n in 1, 2, 10, len(full), len(full) + 5:
        assert events_of(stub, sandbox, tail=api.Tail(events=n)) == full[-n:]
    assert events_of(stub, sandbox, tail=api.Tail()) == []
    # The later of both starts counts.
    assert events_of(stub, sandbox, tail=api.Tail(events=10), from_seq=full[-2].seq) == full[-2:]


def test_a_tail_goes_on_with_what_comes(stub, sandbox):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="growing", stdin=True,
        shell="for i in 1 2 3; do echo $i; done; read -r x; echo end"), timeout=60)
    next(stream)
    wait_until(lambda: bytes_of(events_of(stub, sandbox, "growing")) == b"1\n2\n3\n")
    tail = stub.Logs(api.LogsRequest(sandbox_id=sandbox, command_id="growing", follow=True,
                                     tail=api.Tail(lines=1)), timeout=60)
    first = next(r for r in tail if r.events)
    assert first.events[0].stdout == b"3\n"
    stub.SendInput(api.SendInputRequest(sandbox_id=sandbox, command_id="growing", text="\n"),
                   timeout=30)
    assert bytes_of([e for r in tail for e in r.events]) == b"end\n"
    list(stream)


def test_a_span_of_time_is_shown_alone(stub, sandbox):
    follow.run(stub, sandbox, command_id="times",
               shell="for i in 1 2 3 4 5; do echo $i; sleep 0.05; done")
    full = events_of(stub, sandbox, "times")
    for first, last in (2, 4), (1, 2), (3, 3), (0, len(full) - 1):
        assert events_of(stub, sandbox, "times", since=full[first].time,
                         before=full[last].time) == full[first:last]
    assert events_of(stub, sandbox, "times", since=full[3].time) == full[3:]
    assert events_of(stub, sandbox, "times", since=full[1].time, tail=api.Tail(events=100)) == \
        full[1:]


def test_a_span_that_ends_while_following_ends_the_stream(stub, sandbox):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="quiet", shell="echo now; sleep 1000"), timeout=60)
    started = next(e for r in stream for e in r.events)
    before = type(started.time)()
    before.FromNanoseconds(started.time.ToNanoseconds() + 1_500_000_000)
    begin = time.monotonic()
    events = events_of(stub, sandbox, "quiet", follow=True, before=before)
    assert bytes_of(events) == b"now\n" and time.monotonic() - begin < 20
    stream.cancel()
    stub.SignalCommand(api.SignalCommandRequest(
        sandbox_id=sandbox, command_id="quiet", signal=9), timeout=30)


def test_a_limit_ends_the_stream_and_the_next_goes_on(stub, other_stub, sandbox, record):
    follow.run(stub, sandbox, command_id="much", shell="head -c 300000 /dev/urandom | od -v")
    whole = follow.logs(stub, sandbox, "much")
    out, first, calls = b"", 1, 0
    while True:
        events = events_of((stub, other_stub)[calls % 2], sandbox, "much", from_seq=first,
                           limit_bytes=100_000, follow=True)
        out += bytes_of(events)
        first = events_of.last_seq + 1
        calls += 1
        assert len(bytes_of(events)) < 100_000 + 32_000
        if "exited" in kinds_of(events):
            break
    assert out == bytes(whole.out) and calls >= len(out) // 132_000


WHOLE = (r"printf 'a'; sleep 0.03; printf 'b\nc'; printf 'x' >&2; sleep 0.03; printf 'd'; sleep 0.03;"
         r"printf '\xc3'; sleep 0.03; printf '\xbc\n'; printf 'y\n' >&2; "
         "head -c 40000 /dev/zero | tr '\\0' z; sleep 0.03; echo; printf 'no newline'")


def test_lines_come_whole_from_wherever_one_starts(stub, other_stub, sandbox):
    follow.run(stub, sandbox, command_id="whole", shell=WHOLE)
    raw = events_of(stub, sandbox, "whole")
    lines = events_of(stub, sandbox, "whole", whole_lines=True)
    assert [e.seq for e in raw] == [e.seq for e in lines]
    for kind in "stdout", "stderr":
        assert bytes_of(raw, kind) == bytes_of(lines, kind)
        at = 0
        for e in lines:
            if e.WhichOneof("event") == kind:
                assert e.offset == at
                at += len(getattr(e, kind))
    # How much of it is one event is up to the pipe; but no event starts or ends within a line that
    # fits one.
    pieces = [p for p in (e.stdout for e in lines) if p]
    assert pieces[0].startswith(b"ab\n") and pieces[-1].endswith(b"no newline")
    assert all(p.endswith(b"\n") for p in pieces[:-1] if b"z" not in p)
    text = events_of(stub, sandbox, "whole", whole_lines=True, encoding=api.ENCODING_TEXT)
    for seq in range(1, len(raw) + 1):
        assert events_of(other_stub, sandbox, "whole", whole_lines=True, from_seq=seq) == \
            lines[seq - 1:]
        assert events_of(other_stub, sandbox, "whole", whole_lines=True, from_seq=seq,
                         encoding=api.ENCODING_TEXT) == text[seq - 1:]
    assert "".join(e.text.text for e in text if e.text.stream == api.STREAM_STDOUT) == \
        bytes_of(raw, "stdout").decode()


@pytest.mark.parametrize("fields,field", [
    ({"streams": [9]}, "streams"),
    ({"limit_bytes": 2**63}, "limit_bytes"),
    ({"tail": api.Tail(lines=2**63)}, "tail"),
])
def test_what_cannot_be_asked_for_is_told(stub, sandbox, record, fails, fields, field):
    found = fails(INVALID, "INVALID_FIELD", stub.Logs, api.LogsRequest(
        sandbox_id=sandbox, command_id="record", **fields))
    assert found["BadRequest"].field_violations[0].field == field
