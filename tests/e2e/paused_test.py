"""A stream on a sandbox that is paused: it waits, says so, wakes nobody, and goes on."""

import http.client
import json

import grpc
import pytest
from harness import api, follow, programs
from harness.service import Service

LIVE, PAUSED = 1, 3


def e2b(local, method, path, body=None):
    """A call of E2B's own API, beside the service."""
    connection = http.client.HTTPConnection(local.address, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body),
                           {"X-API-Key": programs.API_KEY})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status < 300, text
        return json.loads(text or b"{}")
    finally:
        connection.close()


def state(local, sandbox):
    return e2b(local, "GET", "/sandboxes/" + sandbox)["state"]


@pytest.fixture
def service(local):
    with Service(local, count=1, options=["--heartbeat-interval=100ms"]) as service:
        yield service


@pytest.fixture
def mine(service):
    stub = service.stub(0)
    made = stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(600)), timeout=60)
    yield made.sandbox.sandbox_id
    stub.DeleteSandbox(api.DeleteSandboxRequest(
        sandbox_id=made.sandbox.sandbox_id, allow_missing=True), timeout=30)


def until(stream, events, condition):
    for response in stream:
        events.take(response)
        if condition(response):
            return response
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("memory", [True, False])
def test_a_stream_waits_for_a_paused_sandbox(local, service, mine, memory):
    stub, events = service.stub(0), follow.Events()
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=mine, command_id="counts",
        shell="for i in $(seq 300); do echo $i; sleep 0.01; done"), timeout=120)
    until(stream, events, lambda r: events.count >= 10)
    e2b(local, "POST", "/sandboxes/%s/pause" % mine, {"memory": memory})
    until(stream, events, lambda r: r.state == PAUSED)
    seen = events.next_seq
    for _ in range(20):  # heartbeats, which carry where the stream stands
        assert next(stream).last_seq == seen - 1
    assert state(local, mine) == "paused"
    e2b(local, "POST", "/v2/sandboxes/%s/connect" % mine, {})
    for response in stream:
        events.take(response)
    if memory:
        assert bytes(events.out) == b"".join(b"%d\n" % n for n in range(1, 301))
        assert events.exited.code == 0
    else:  # its processes are gone, and what it wrote is not
        out = bytes(events.out)
        assert out == b"".join(b"%d\n" % n for n in range(1, len(out.split()) + 1))
        assert events.exited.reason == api.message("sandbox.v1.Exited").REASON_LOST


def test_a_stream_may_begin_on_a_paused_sandbox(local, service, mine):
    stub = service.stub(0)
    follow.run(stub, mine, command_id="over", shell="seq 100")
    e2b(local, "POST", "/sandboxes/%s/pause" % mine)
    stream = stub.Logs(api.LogsRequest(sandbox_id=mine, command_id="over", follow=True), timeout=60)
    assert until(stream, follow.Events(), lambda r: r.state == PAUSED)
    assert state(local, mine) == "paused"
    e2b(local, "POST", "/v2/sandboxes/%s/connect" % mine, {})
    events = follow.Events()
    for response in stream:
        events.take(response)
    assert bytes(events.out).count(b"\n") == 100


def test_the_end_of_a_paused_sandbox_ends_the_stream(local, service, mine):
    stub, events = service.stub(0), follow.Events()
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=mine, command_id="waits", shell="echo x; sleep 1000"), timeout=60)
    until(stream, events, lambda r: events.count >= 2)
    e2b(local, "POST", "/sandboxes/%s/pause" % mine)
    until(stream, events, lambda r: r.state == PAUSED)
    e2b(local, "DELETE", "/sandboxes/" + mine)
    with pytest.raises(grpc.RpcError) as caught:
        for response in stream:
            events.take(response)
    found = api.check_error(caught.value, grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND")
    assert found["ErrorInfo"].metadata["last_seq"] == "2"


def test_unary_calls_say_that_it_is_paused(local, service, mine, fails):
    stub = service.stub(0)
    e2b(local, "POST", "/sandboxes/%s/pause" % mine)
    got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=mine), timeout=30).sandbox
    assert got.state == got.STATE_PAUSED
    fails(grpc.StatusCode.FAILED_PRECONDITION, "SANDBOX_PAUSED", stub.ReadFile,
          api.ReadFileRequest(sandbox_id=mine, path="/etc/hostname"))
    assert state(local, mine) == "paused"
