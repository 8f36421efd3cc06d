"""The life of a sandbox: made, found, listed, given time, reached from outside, deleted."""

import concurrent.futures
import time

import grpc
import pytest
from harness import api, follow, web
from harness.programs import wait_until, short

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNKNOWN = "i0123456789abcdefghij"


def unix(timestamp):
    return timestamp.seconds + timestamp.nanos / 1e9


def test_a_new_sandbox_is_described(stub, new_sandbox):
    before = time.time()
    sandbox_id = new_sandbox(timeout=api.seconds(120), metadata={"project": "a b/ü"})
    got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=10).sandbox
    assert got.sandbox_id == sandbox_id
    assert got.state == got.STATE_RUNNING
    assert dict(got.metadata) == {"project": "a b/ü"}
    assert got.template
    assert before - 2 <= unix(got.start_time) <= time.time() + 2
    assert 110 <= unix(got.end_time) - unix(got.start_time) <= 125


def test_the_default_time_is_ten_minutes(stub):
    made = stub.CreateSandbox(api.CreateSandboxRequest(), timeout=30).sandbox
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox_id), timeout=10)
    assert 590 <= unix(made.end_time) - unix(made.start_time) <= 605


def test_every_pod_knows_a_sandbox_at_once(stub, other_stub, new_sandbox):
    sandbox_id = new_sandbox()
    got = other_stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=10)
    assert got.sandbox.sandbox_id == sandbox_id


def test_environment_given_at_create_reaches_commands(stub, new_sandbox):
    sandbox_id = new_sandbox(envs={"GREETING": "hello there"})
    assert follow.run(stub, sandbox_id, shell='echo "$GREETING"').out == b"hello there\n"


def test_pages_of_a_list_come_newest_first_from_any_pod(stub, other_stub, new_sandbox):
    label = {"list": str(time.time_ns())}
    ids = [new_sandbox(metadata=label) for _ in range(5)]
    new_sandbox(metadata={"list": "other"})
    found, token, pages = [], "", 0
    while True:
        page = (stub, other_stub)[pages % 2].ListSandboxes(api.ListSandboxesRequest(
            page_size=2, page_token=token, metadata=label), timeout=10)
        assert len(page.sandboxes) <= 2
        found += page.sandboxes
        pages += 1
        token = page.next_page_token
        if not token:
            break
        assert pages < 10
    assert sorted(s.sandbox_id for s in found) == sorted(ids)
    starts = [unix(s.start_time) for s in found]
    assert starts == sorted(starts, reverse=True)
    assert all(dict(s.metadata) == label for s in found)


def test_a_list_can_be_narrowed_to_states(stub, new_sandbox):
    label = {"state": str(time.time_ns())}
    sandbox_id = new_sandbox(metadata=label)
    state = api.Sandbox
    for states, expected in ([state.STATE_RUNNING], [sandbox_id]), ([state.STATE_PAUSED], []):
        got = stub.ListSandboxes(api.ListSandboxesRequest(metadata=label, states=states), timeout=10)
        assert [s.sandbox_id for s in got.sandboxes] == expected


def test_one_request_id_makes_one_sandbox(service, new_sandbox, stub):
    request = api.CreateSandboxRequest(
        request_id="r%d" % time.time_ns(), timeout=api.seconds(60))
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        made = list(pool.map(
            lambda n: service.stub(n % 2).CreateSandbox(request, timeout=60), range(6)))
    ids = {m.sandbox.sandbox_id for m in made}
    try:
        assert len(ids) == 1
        assert sum(not m.reused for m in made) == 1
        assert service.stub(1).CreateSandbox(request, timeout=60).reused
    finally:
        for sandbox_id in ids:
            stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=10)


def test_a_reuse_key_gives_the_living_sandbox(stub, other_stub, new_sandbox):
    key = "k%d" % time.time_ns()
    first = new_sandbox(reuse_key=key)
    again = other_stub.CreateSandbox(api.CreateSandboxRequest(reuse_key=key), timeout=60)
    assert again.reused and again.sandbox.sandbox_id == first
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=first), timeout=10)
    assert new_sandbox(reuse_key=key) != first


def test_the_server_keeps_its_own_labels_to_itself(stub, new_sandbox):
    sandbox_id = new_sandbox(request_id="own%d" % time.time_ns(), metadata={"mine": "1"})
    got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=10).sandbox
    assert dict(got.metadata) == {"mine": "1"}


def test_a_deleted_sandbox_is_gone_for_every_call(stub, other_stub, new_sandbox, fails):
    sandbox_id = new_sandbox()
    follow.run(other_stub, sandbox_id, command_id="before", shell="true")  # the pod knows it well
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=10)
    for each in stub, other_stub:
        fails(NOT_FOUND, "SANDBOX_NOT_FOUND", each.GetSandbox,
              api.GetSandboxRequest(sandbox_id=sandbox_id))
        fails(NOT_FOUND, "SANDBOX_NOT_FOUND", each.RunCommand,
              api.RunCommandRequest(sandbox_id=sandbox_id, shell="true"))
        fails(NOT_FOUND, "SANDBOX_NOT_FOUND", each.DeleteSandbox,
              api.DeleteSandboxRequest(sandbox_id=sandbox_id))
    stub.DeleteSandbox(
        api.DeleteSandboxRequest(sandbox_id=sandbox_id, allow_missing=True), timeout=10)


def test_deleting_ends_the_streams_of_a_sandbox(stub, new_sandbox, fails):
    sandbox_id = new_sandbox()
    stream = stub.RunCommand(
        api.RunCommandRequest(sandbox_id=sandbox_id, shell="echo on; sleep 1000"), timeout=60)
    events = follow.Events()
    while not events.out:
        events.take(next(stream))
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=10)
    with pytest.raises(grpc.RpcError) as caught:
        for response in stream:
            events.take(response)
    api.check_error(caught.value, NOT_FOUND, "SANDBOX_NOT_FOUND")


def test_a_sandbox_ends_when_its_time_is_over(stub, other_stub, new_sandbox, fails):
    sandbox_id = new_sandbox(timeout=api.seconds(2))
    follow.run(other_stub, sandbox_id, command_id="c", shell="true")

    def gone():
        try:
            stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=10)
        except grpc.RpcError as error:
            return error
        return None

    api.check_error(wait_until(gone, 15, "expiry"), NOT_FOUND, "SANDBOX_NOT_FOUND")
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", other_stub.Logs,
          api.LogsRequest(sandbox_id=sandbox_id, command_id="c"))
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", other_stub.ReadFile,
          api.ReadFileRequest(sandbox_id=sandbox_id, path="/etc/hostname"))


def test_its_time_can_be_made_longer_and_shorter(stub, new_sandbox, fails):
    sandbox_id = new_sandbox(timeout=api.seconds(60))
    for wanted in 500, 30:
        answer = stub.SetSandboxTimeout(api.SetSandboxTimeoutRequest(
            sandbox_id=sandbox_id, timeout=api.seconds(wanted)), timeout=10)
        got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=10).sandbox
        assert abs(unix(answer.end_time) - time.time() - wanted) < 4
        assert abs(unix(got.end_time) - unix(answer.end_time)) < 1
    fails(INVALID, "INVALID_FIELD", stub.SetSandboxTimeout,
          api.SetSandboxTimeoutRequest(sandbox_id=sandbox_id))


def test_a_port_of_a_sandbox_answers_at_its_url(stub, other_stub, new_sandbox):
    sandbox_id = new_sandbox()
    follow.run(stub, sandbox_id, shell="mkdir page && echo '<h1>it works</h1>' > page/index.html")
    server = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, cwd="page",
        argv=api.Argv(args=["python3", "-u", "-m", "http.server", "8080"])), timeout=60)
    url = other_stub.GetSandboxUrl(
        api.GetSandboxUrlRequest(sandbox_id=sandbox_id, port=8080), timeout=10)
    assert sandbox_id in url.url and url.host in url.url

    def page():
        status, body = web.fetch(url.url, dict(url.headers))
        return status == 200 and body

    assert wait_until(page) == b"<h1>it works</h1>\n"
    server.cancel()


# What every call must refuse in the same way.
BAD_IDS = ["", "no spaces", "../etc", "ä", "x" * 65, "semi;colon"]
CALLS = [
    ("GetSandbox", {}),
    ("DeleteSandbox", {}),
    ("SetSandboxTimeout", {"timeout": api.seconds(60)}),
    ("GetSandboxUrl", {"port": 80}),
    ("WriteFiles", {"files": [api.File(path="a", text="a")]}),
    ("ReadFile", {"path": "/etc/hostname"}),
    ("RunCommand", {"shell": "true"}),
    ("Logs", {"command_id": "c"}),
    ("GetCommand", {"command_id": "c"}),
    ("ListCommands", {}),
    ("SendInput", {"command_id": "c", "text": "x"}),
    ("SignalCommand", {"command_id": "c"}),
    ("AckLogs", {"command_id": "c", "seq": 1}),
]


@pytest.mark.parametrize("method,fields", CALLS, ids=[c[0] for c in CALLS])
def test_malformed_sandbox_ids_are_refused(stub, fails, method, fields):
    for sandbox_id in BAD_IDS:
        request = getattr(api, method + "Request")(sandbox_id=sandbox_id, **fields)
        found = fails(INVALID, "INVALID_FIELD", getattr(stub, method), request)
        assert [v.field for v in found["BadRequest"].field_violations] == ["sandbox_id"]


@pytest.mark.parametrize("method,fields", CALLS, ids=[c[0] for c in CALLS])
def test_unknown_sandboxes_are_not_found(stub, fails, method, fields):
    request = getattr(api, method + "Request")(sandbox_id=UNKNOWN, **fields)
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", getattr(stub, method), request)


@pytest.mark.parametrize("fields,field", [
    ({"timeout": api.seconds(-5)}, "timeout"),
    ({"metadata": {"sandboxd.tenant": "me"}}, "metadata"),
    ({"metadata": {"": "x"}}, "metadata"),
    ({"metadata": {"k" * 129: "x"}}, "metadata"),
    ({"metadata": {"k": "v" * 1025}}, "metadata"),
    ({"metadata": {"k%d" % n: "v" for n in range(65)}}, "metadata"),
    ({"envs": {"A=B": "x"}}, "envs"),
    ({"envs": {"": "x"}}, "envs"),
    ({"envs": {"E%d" % n: "v" for n in range(257)}}, "envs"),
    ({"request_id": "no spaces"}, "request_id"),
    ({"request_id": "x" * 65}, "request_id"),
    ({"reuse_key": "a/b"}, "reuse_key"),
], ids=short)
def test_bad_fields_of_create_are_refused(stub, fails, fields, field):
    found = fails(INVALID, "INVALID_FIELD", stub.CreateSandbox, api.CreateSandboxRequest(**fields))
    assert found["BadRequest"].field_violations[0].field.startswith(field)


def test_unknown_templates_are_not_found(stub, fails):
    fails(NOT_FOUND, "TEMPLATE_NOT_FOUND", stub.CreateSandbox,
          api.CreateSandboxRequest(template="no-such-template"))


@pytest.mark.parametrize("port", [0, 65536, 4_000_000_000])
def test_bad_ports_are_refused(stub, sandbox, fails, port):
    found = fails(INVALID, "INVALID_FIELD", stub.GetSandboxUrl,
                  api.GetSandboxUrlRequest(sandbox_id=sandbox, port=port))
    assert found["BadRequest"].field_violations[0].field == "port"


def test_bad_pages_are_refused(stub, fails):
    fails(INVALID, "INVALID_FIELD", stub.ListSandboxes, api.ListSandboxesRequest(page_size=-1))
