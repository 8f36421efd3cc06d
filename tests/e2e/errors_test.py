"""What goes wrong on E2B's side, and how callers are told."""

import time

import grpc
import pytest
from fakes.e2b import SANDBOX, Answer, FakeE2B, describe
from harness import api, programs
from harness.programs import API_KEY

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture(scope="module")
def fake_server():
    fake = FakeE2B()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def pod(fake_server):
    pod = programs.Pod(fake_server.url)
    yield pod
    pod.stop()


@pytest.fixture(scope="module")
def stub(pod):
    with api.channel(pod.address) as channel:
        yield api.Stub(channel)


@pytest.fixture
def fake(fake_server):
    yield fake_server
    fake_server.reset()


GET = api.GetSandboxRequest(sandbox_id=SANDBOX)


def test_the_fake_is_good_when_nobody_says_otherwise(fake, stub):
    assert stub.GetSandbox(GET, timeout=10).sandbox.sandbox_id == SANDBOX
    assert [r[2].get("X-API-KEY") for r in fake.requests] == [API_KEY]


def gets(fake):
    """How often it was asked for the sandbox; lost creates are hunted beside that."""
    return len([r for r in fake.requests if r[0] == "GET" and r[1] == "/sandboxes/" + SANDBOX])


GARBAGE = {
    "not json": Answer(200, b"<html>It works!</html>"),
    "empty": Answer(200, b""),
    "another type": Answer(200, b"[1, 2, 3]"),
    "a string": Answer(200, b'"hello"'),
    "fields of another type": Answer(200, describe(sandboxID=17, startedAt={}, metadata="x")),
    "no fields": Answer(200, b"{}"),
    "another sandbox": Answer(200, describe("iother")),
    "cut off": Answer(200, b'{"sandboxID": "i', length=4000),
    "cut json": Answer(200, b'{"sandboxID": "i'),
    "deep json": Answer(200, b"[" * 100_000),
    "bad time": Answer(200, describe(startedAt="yesterday", endAt="25:61")),
    "invalid utf-8": Answer(200, b'{"sandboxID": "\xff\xfe", "state": "running"}'),
    "not http": Answer(raw=b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "nothing at all": Answer(raw=b""),
    "bad chunks": Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "500": Answer.error(500),
    "502 from a proxy": Answer(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}),
    "503": Answer.error(503),
    "a redirect": Answer(302, b"", {"Location": "http://127.0.0.1:1/elsewhere"}),
    "a status of its own": Answer(799, b"{}"),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("method,request_", [
    ("GetSandbox", GET),
    ("CreateSandbox", api.CreateSandboxRequest()),
    ("ListSandboxes", api.ListSandboxesRequest()),
    ("RunCommand", api.RunCommandRequest(sandbox_id=SANDBOX, shell="true")),
], ids=["get", "create", "list", "run"])
def test_garbage_means_unavailable(fake, stub, fails, request, method, request_, answer):
    case = request.node.callspec.id
    if method == "CreateSandbox" and "bad time" in case:
        answer = Answer(201, describe(sandboxID=["i"]))  # what answers a create has no times
    fake.rule(answer)
    if "another sandbox" in case and method in ("CreateSandbox", "ListSandboxes"):
        fake.rule(Answer(200, b'{"sandboxID": "../../etc"}'))
    begin = time.monotonic()
    fails(UNAVAILABLE, "E2B_UNAVAILABLE", getattr(stub, method), request_, timeout=30)
    assert time.monotonic() - begin < 25


def test_a_list_of_garbage_is_unavailable(fake, stub, fails):
    fake.rule(Answer(200, b"[1, null, {}]"), path="sandboxes")
    fails(UNAVAILABLE, "E2B_UNAVAILABLE", stub.ListSandboxes, api.ListSandboxesRequest())


def test_an_endless_answer_is_cut_off(fake, stub, pod, fails):
    if programs.is_sanitized("service/sandboxd"):
        pytest.skip("memory means nothing under a sanitizer")
    before = pod.rss()
    fake.rule(Answer(200, endless=True), path="sandboxes")
    fails(UNAVAILABLE, "E2B_UNAVAILABLE", stub.GetSandbox, GET)
    assert pod.rss() - before < 32 << 20


def test_a_read_is_tried_again(fake, stub):
    fake.rule(Answer.error(503), path="sandboxes", times=2)
    assert stub.GetSandbox(GET, timeout=30).sandbox.sandbox_id == SANDBOX
    assert gets(fake) == 3


def test_three_tries_are_enough(fake, stub, fails):
    fake.rule(Answer.error(503), path="sandboxes")
    fails(UNAVAILABLE, "E2B_UNAVAILABLE", stub.GetSandbox, GET)
    assert gets(fake) == 3


def test_a_create_that_may_have_worked_is_not_just_repeated(fake, stub):
    """E2B has no idempotent create: a second sandbox would be nobody's and billed."""
    fake.rule(Answer(raw=b""), method="POST", path="sandboxes")
    with pytest.raises(grpc.RpcError):
        stub.CreateSandbox(api.CreateSandboxRequest(), timeout=20)
    assert len([r for r in fake.requests if r[0] == "POST" and "sandboxes" in r[1]]) == 1


@pytest.mark.parametrize("method", ["GetSandbox", "CreateSandbox"])
def test_a_rate_limit_with_its_time(fake, stub, fails, method):
    fake.rule(Answer.error(429, headers={"Retry-After": "3600"}), path="sandboxes")
    begin = time.monotonic()
    found = fails(EXHAUSTED, "E2B_QUOTA", getattr(stub, method),
                  GET if method == "GetSandbox" else api.CreateSandboxRequest())
    assert found["RetryInfo"].retry_delay.seconds == 3600
    assert time.monotonic() - begin < 10


def test_a_rate_limit_without_a_time(fake, stub, fails):
    fake.rule(Answer.error(429), path="sandboxes")
    found = fails(EXHAUSTED, "E2B_QUOTA", stub.GetSandbox, GET)
    assert "RetryInfo" not in found


def test_a_short_rate_limit_is_waited_for(fake, stub):
    fake.rule(Answer.error(429, headers={"Retry-After": "1"}), path="sandboxes", times=1)
    begin = time.monotonic()
    assert stub.GetSandbox(GET, timeout=30).sandbox.sandbox_id == SANDBOX
    assert time.monotonic() - begin >= 0.9


@pytest.mark.parametrize("value", ["soon", "-5", "", "99999999999999999999", "1e3"])
def test_a_senseless_retry_after_is_left_out(fake, stub, fails, value):
    fake.rule(Answer.error(429, headers={"Retry-After": value}), path="sandboxes")
    fails(EXHAUSTED, "E2B_QUOTA", stub.GetSandbox, GET)


def test_a_wrong_key_is_the_operators_fault(fake, stub, fails):
    fake.rule(Answer.error(401, "invalid API key"), path="sandboxes")
    fails(PRECONDITION, "E2B_UNAUTHENTICATED", stub.GetSandbox, GET)
    fake.rule(Answer.error(403, "not allowed"), path="sandboxes")
    fails(PRECONDITION, "E2B_FORBIDDEN", stub.GetSandbox, GET)


def test_what_e2b_refuses_is_quoted(fake, stub):
    fake.rule(Answer.error(400, "Timeout cannot be greater than 1 hours"), method="POST")
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(2000)), timeout=10)
    api.check_error(caught.value, grpc.StatusCode.INVALID_ARGUMENT, "E2B_REJECTED")
    assert "Timeout cannot be greater than 1 hours" in caught.value.details()


def test_an_answer_that_never_comes_ends_with_the_callers_deadline(fake, stub):
    fake.rule(Answer(hang=60), path="sandboxes")
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetSandbox(GET, timeout=1.5)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - begin < 3


def test_nobody_there_is_unavailable(fails):
    pod = programs.Pod("http://127.0.0.1:9")
    try:
        with api.channel(pod.address) as channel:
            fails(UNAVAILABLE, "E2B_UNAVAILABLE", api.Stub(channel).GetSandbox, GET)
    finally:
        pod.stop()


SANDBOX_GARBAGE = {
    "not connect": Answer(200, b"hello"),
    "html": Answer(200, b"<html></html>", {"Content-Type": "text/html"}),
    "a frame too large": Answer(200, b"\x00\xff\xff\xff\xff", {"Content-Type": "application/connect+proto"}),
    "half a frame": Answer(200, b"\x00\x00\x00\x00\x10abc", {"Content-Type": "application/connect+proto"}),
    "no end": Answer(200, b"", {"Content-Type": "application/connect+proto"}),
    "a message that is none": Answer(200, b"\x00\x00\x00\x00\x03\xff\xff\xff\x02\x00\x00\x00\x02{}",
                                     {"Content-Type": "application/connect+proto"}),
    "an end that is no json": Answer(200, b"\x02\x00\x00\x00\x03xyz",
                                     {"Content-Type": "application/connect+proto"}),
    "500": Answer.error(500),
}


@pytest.mark.parametrize("answer", SANDBOX_GARBAGE.values(), ids=SANDBOX_GARBAGE.keys())
def test_garbage_from_inside_a_sandbox_is_unavailable(fake, stub, fails, answer):
    fake.rule(answer, path="process.Process|/files")
    fails(UNAVAILABLE, "E2B_UNAVAILABLE", stub.GetCommand,
          api.GetCommandRequest(sandbox_id=SANDBOX, command_id="c"), timeout=30)


def test_a_wrong_key_against_the_local_runtime(data_dir, fails):
    local = programs.Local(data_dir / "keyed", "--api-key=" + "e2b_" + "f" * 40)
    pod = programs.Pod(local.url)
    try:
        with api.channel(pod.address) as channel:
            fails(PRECONDITION, "E2B_UNAUTHENTICATED", api.Stub(channel).CreateSandbox,
                  api.CreateSandboxRequest())
    finally:
        pod.stop()
        local.stop()
