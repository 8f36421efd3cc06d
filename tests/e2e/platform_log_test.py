"""The platform's own log of a sandbox, through Logs with SOURCE_SANDBOX."""

import time

import grpc
import pytest
from harness import api
from harness.programs import wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def read(stub, sandbox_id, **fields):
    responses = list(stub.Logs(api.LogsRequest(
        sandbox_id=sandbox_id, source=api.SOURCE_SANDBOX, **fields), timeout=60))
    events = [e for r in responses for e in r.events]
    assert all(e.seq == 0 and e.text.text.endswith("\n") for e in events)
    read.cursor = next((r.cursor for r in reversed(responses) if r.cursor), b"")
    return events


def test_the_log_is_read_whole_in_parts_and_after_the_end(stub, other_stub, new_sandbox):
    sandbox_id = new_sandbox()
    wait_until(lambda: read(stub, sandbox_id))
    events = read(stub, sandbox_id)
    cursor = read.cursor
    times = [e.time.ToNanoseconds() for e in events]
    assert times == sorted(times)
    assert read(other_stub, sandbox_id, tail=api.Tail(lines=1)) == events[-1:]
    assert read(stub, sandbox_id, since=events[-1].time) == [
        e for e in events if e.time.ToNanoseconds() >= times[-1]]
    assert read(stub, sandbox_id, before=events[0].time) == []
    assert read(other_stub, sandbox_id, cursor=cursor) == []
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)
    later = wait_until(lambda: read(stub, sandbox_id)[len(events):])
    assert read(other_stub, sandbox_id, cursor=cursor) == later


def test_what_comes_is_followed(stub, new_sandbox):
    sandbox_id = new_sandbox()
    stream = stub.Logs(api.LogsRequest(
        sandbox_id=sandbox_id, source=api.SOURCE_SANDBOX, follow=True), timeout=60)
    seen = len(next(r for r in stream if r.events).events)
    stub.SetSandboxTimeout(api.SetSandboxTimeoutRequest(
        sandbox_id=sandbox_id, timeout=api.seconds(900)), timeout=30)
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)
    assert next(r for r in stream if r.events).events and seen
    stream.cancel()


@pytest.mark.parametrize("fields,field", [
    ({"command_id": "x"}, "command_id"), ({"from_seq": 1}, "from_seq"),
    ({"streams": [api.STREAM_STDOUT]}, "streams"), ({"cursor": b"x"}, "cursor"),
    ({"tail": api.Tail(bytes=5)}, "tail"), ({"until": api.UNTIL_CLOSED}, "until"),
])
def test_what_commands_alone_have_is_refused(stub, sandbox, fails, fields, field):
    found = fails(INVALID, "INVALID_FIELD", stub.Logs, api.LogsRequest(
        sandbox_id=sandbox, source=api.SOURCE_SANDBOX, **fields))
    assert found["BadRequest"].field_violations[0].field == field
