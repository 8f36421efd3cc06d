"""Tenants: whoever brings no key does nothing, and nobody reaches what is another's.

The calls are made from the descriptor set, so a method that is added later is tested from its first
day: either its request names a sandbox, or it must be spoken of here.
"""

import hashlib
import secrets

import grpc
import pytest
from harness import api, programs

KEYS = {"a": "sbx_a_" + secrets.token_urlsafe(24), "b": "sbx_b_" + secrets.token_urlsafe(24),
        "few": "sbx_few_" + secrets.token_urlsafe(24)}
FORGED = "sbx_c_" + secrets.token_urlsafe(24)

METHODS = sorted(api.STREAMING)

# Requests that name no sandbox, and so are about none of another's: each has a test of its own.
WITHOUT_SANDBOX = {
    "/sandbox.v1.SandboxService/CreateSandbox",
    "/sandbox.v1.SandboxService/DeleteSnapshot",
    "/sandbox.v1.SandboxService/GetCapabilities",
    "/sandbox.v1.SandboxService/ListSandboxes",
    "/sandbox.v1.SandboxService/PurgeSandboxes",
    "/sandbox.v1.SandboxService/WatchSandboxes",
}

# What a field must hold for its request to be a good one, by its name.
EXAMPLES = {
    "source": "/tmp/secret", "destination": "/tmp/moved", "paths": ["/tmp/secret"],
    "command_id": "theirs", "shell": "echo overwritten >/tmp/secret", "path": "/tmp/secret",
    "port": 8080, "timeout": api.seconds(60), "text": "y\n",
    "files": [api.File(path="/tmp/secret", text="overwritten")],
    "network": api.Network(deny_internet_access=True), "name": "mine",
    "size": api.TerminalSize(rows=10, cols=20), "seq": 1,
    "upload_id": "theirs", "watch_id": "theirs",
}


def keys_file():
    lines = ["key %s sha256:%s" % (tenant, hashlib.sha256(key.encode()).hexdigest())
             for tenant, key in KEYS.items()]
    return "\n".join(lines + ["tenant few templates=python"]) + "\n"


def bearer(key):
    return (("authorization", "Bearer " + key),)


@pytest.fixture(scope="module")
def pod(local, tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(keys_file())
    pod = programs.Pod(local.url, None, "--auth-keys=%s" % path, "--auth-exempt=none")
    yield pod
    pod.stop()


@pytest.fixture(scope="module")
def channel(pod):
    with api.channel(pod.address) as channel:
        yield channel


class As:
    """The API as somebody sees it."""

    def __init__(self, channel, key):
        self.stub = api.Stub(channel)
        self.metadata = bearer(key)

    def __getattr__(self, name):
        method = getattr(self.stub, name)
        return lambda request, timeout=60: method(request, timeout=timeout, metadata=self.metadata)


@pytest.fixture(scope="module")
def a(channel):
    return As(channel, KEYS["a"])


@pytest.fixture(scope="module")
def b(channel):
    return As(channel, KEYS["b"])


def request_of(path):
    service, name = path[1:].split("/")
    method = api.POOL.FindServiceByName(service).methods_by_name[name]
    return api.message(method.input_type.full_name)


def fits(field, value):
    if (field.label == field.LABEL_REPEATED) != isinstance(value, list):
        return False
    one = value[0] if isinstance(value, list) else value
    return isinstance(one, str) == (field.type == field.TYPE_STRING) and \
        hasattr(one, "DESCRIPTOR") == (field.type == field.TYPE_MESSAGE)


def fill(request, sandbox_id):
    """A good request about that sandbox; False when it names none."""
    names = False
    for field in request.DESCRIPTOR.fields:
        if field.name == "sandbox_id":
            request.sandbox_id = sandbox_id
            names = True
        elif field.name in EXAMPLES and fits(field, EXAMPLES[field.name]):
            value = EXAMPLES[field.name]
            if isinstance(value, list):
                getattr(request, field.name).extend(value)
            elif field.message_type is None:
                setattr(request, field.name, value)
            else:
                getattr(request, field.name).CopyFrom(value)
        elif field.message_type is not None and field.label != field.LABEL_REPEATED:
            part = type(getattr(request, field.name))()
            if fill(part, sandbox_id):
                getattr(request, field.name).CopyFrom(part)
                names = True
    return names


def call(channel, path, request, key, timeout=60):
    """The answer, of a stream its first message; None when it ended without one."""
    service, name = path[1:].split("/")
    method = getattr(api.Stub(channel, service), name)
    client_streams, server_streams = api.STREAMING[path]
    answer = method(iter([request]) if client_streams else request, timeout=timeout,
                    metadata=key and bearer(key))
    if not server_streams:
        return answer
    try:
        return next(answer, None)
    finally:
        answer.cancel()


def failure(*args):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args)
    return caught.value


# --- who is nobody ---


@pytest.mark.parametrize("path", METHODS)
@pytest.mark.parametrize("metadata", [
    (),
    bearer(FORGED),
    bearer(KEYS["a"][:-1]),
    bearer(""),
    (("authorization", KEYS["a"]),),
    (("authorization", "Basic " + KEYS["a"]),),
    (("x-e2b-api-key", KEYS["a"]),),
    bearer("x" * 4000),
], ids=["no key", "forged", "cut", "empty", "bare", "basic", "e2b", "long"])
def test_whoever_brings_no_key_does_nothing(channel, path, metadata):
    service, name = path[1:].split("/")
    method = getattr(api.Stub(channel, service), name)
    client_streams, server_streams = api.STREAMING[path]
    request = request_of(path)()
    with pytest.raises(grpc.RpcError) as caught:
        answer = method(iter([request]) if client_streams else request, timeout=30,
                        metadata=metadata)
        if server_streams:
            next(answer)
    api.check_error(caught.value, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


# --- what is another's ---


@pytest.fixture(scope="module")
def theirs(b):
    """A sandbox of b's with everything in it that there may be."""
    made = b.CreateSandbox(api.CreateSandboxRequest(
        timeout=api.seconds(1500), metadata={"project": "x"}, request_id="r1",
        reuse_key="k1")).sandbox
    b.WriteFiles(api.WriteFilesRequest(sandbox_id=made.sandbox_id, files=[
        {"path": "/tmp/secret", "text": "s3cret"}]))
    stream = b.RunCommand(api.RunCommandRequest(
        sandbox_id=made.sandbox_id, command_id="theirs", stdin=True,
        shell="echo s3cret; cat", pty=api.TerminalSize(rows=24, cols=80)))
    next(r for r in stream if any(b"\n" in e.terminal for e in r.events))  # then it is silent
    stream.cancel()
    yield made.sandbox_id
    b.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox_id, allow_missing=True))


def state_of(b, sandbox_id):
    """Everything that somebody could have changed."""
    sandbox = b.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id)).sandbox
    file = b.ReadFile(api.ReadFileRequest(sandbox_id=sandbox_id, path="/tmp/secret"))
    commands = b.ListCommands(api.ListCommandsRequest(sandbox_id=sandbox_id)).commands
    return (sandbox.SerializeToString(deterministic=True), file.data or file.text,
            [c.SerializeToString(deterministic=True) for c in commands])


NAMING = [p for p in METHODS if p not in WITHOUT_SANDBOX and fill(request_of(p)(), "x")]


def test_every_method_is_spoken_of():
    others = {p for p in METHODS if p.startswith("/sandbox.")} - set(NAMING)
    assert others == WITHOUT_SANDBOX, "methods whose tenants nobody tests: %s" % others


@pytest.mark.parametrize("path", NAMING)
def test_what_is_anothers_is_as_if_it_never_was(channel, b, theirs, path):
    before = state_of(b, theirs)
    request = request_of(path)()
    fill(request, theirs)
    unknown = request_of(path)()
    fill(unknown, "i" + secrets.token_hex(9))
    got = failure(channel, path, request, KEYS["a"])
    expected = failure(channel, path, unknown, KEYS["a"])
    found = api.check_error(got, grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND")
    assert got.details() == expected.details()
    assert [found[k] for k in found if k != "RequestInfo"] == [
        detail for k, detail in api.details(expected).items() if k != "RequestInfo"]
    assert [k for k, _ in got.trailing_metadata()] == [k for k, _ in expected.trailing_metadata()]
    assert state_of(b, theirs) == before


@pytest.mark.parametrize("path", [p for p in NAMING if not p.endswith("/DeleteSandbox")])
def test_the_same_requests_are_good_ones(channel, theirs, path):
    """Or the test above would show nothing: the owner hears neither "no such" nor "malformed"."""
    request = request_of(path)()
    fill(request, theirs)
    try:
        call(channel, path, request, KEYS["b"])
    except grpc.RpcError as error:
        reason = api.details(error)["ErrorInfo"].reason
        assert reason not in ("SANDBOX_NOT_FOUND", "INVALID_FIELD", "UNAUTHENTICATED",
                              "INTERNAL"), "%s: %s" % (reason, error.details())


def ids(listing):
    return {s.sandbox_id for s in listing.sandboxes}


@pytest.mark.parametrize("request_", [
    api.ListSandboxesRequest(),
    api.ListSandboxesRequest(metadata={"project": "x"}),
    api.ListSandboxesRequest(page_size=1),
], ids=["all", "by metadata", "by page"])
def test_a_list_has_ones_own(a, b, theirs, request_):
    mine = a.CreateSandbox(api.CreateSandboxRequest(
        timeout=api.seconds(60), metadata={"project": "x"})).sandbox.sandbox_id
    try:
        assert ids(a.ListSandboxes(request_)) == {mine}
        if request_.page_size == 0:
            assert theirs in ids(b.ListSandboxes(request_))
        assert mine not in ids(b.ListSandboxes(request_))
    finally:
        a.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=mine))


@pytest.mark.parametrize("key", ["sandboxd.tenant", "sandboxd.anything"])
def test_nobody_stamps_for_another(a, key):
    for call_, request in (
            (a.CreateSandbox, api.CreateSandboxRequest(metadata={key: "b"})),
            (a.ListSandboxes, api.ListSandboxesRequest(metadata={key: "b"}))):
        with pytest.raises(grpc.RpcError) as caught:
            call_(request)
        api.check_error(caught.value, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_page_token_of_another_opens_nothing(a, b, theirs):
    more = [b.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(60))).sandbox.sandbox_id
            for _ in range(2)]
    try:
        page = b.ListSandboxes(api.ListSandboxesRequest(page_size=1))
        assert page.next_page_token
        try:
            got = a.ListSandboxes(api.ListSandboxesRequest(page_token=page.next_page_token))
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        else:
            assert not ids(got) & {theirs, *more}
    finally:
        for sandbox_id in more:
            b.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id))


@pytest.mark.parametrize("fields", [{"request_id": "r1"}, {"reuse_key": "k1"},
                                    {"request_id": "r1", "reuse_key": "k1"}])
def test_the_same_request_id_is_another_sandbox(a, theirs, fields):
    got = a.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(60), **fields))
    a.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=got.sandbox.sandbox_id))
    assert not got.reused
    assert got.sandbox.sandbox_id != theirs


def test_templates_of_a_tenant(channel):
    few = As(channel, KEYS["few"])
    answers = set()
    for template in ("", "base", "no-such-template"):
        with pytest.raises(grpc.RpcError) as caught:
            few.CreateSandbox(api.CreateSandboxRequest(template=template))
        api.check_error(caught.value, grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
        answers.add(caught.value.details())
    assert len(answers) == 1


def test_allow_missing_tells_nothing_either(a, b, theirs):
    a.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=theirs, allow_missing=True))
    assert b.GetSandbox(api.GetSandboxRequest(sandbox_id=theirs)).sandbox.sandbox_id == theirs


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_purge_takes_ones_own(a, b, theirs, dry_run):
    mine = a.CreateSandbox(api.CreateSandboxRequest(
        timeout=api.seconds(60), metadata={"project": "x"})).sandbox.sandbox_id
    got = a.PurgeSandboxes(api.PurgeSandboxesRequest(metadata={"project": "x"}, dry_run=dry_run))
    a.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=mine, allow_missing=True))
    assert list(got.sandbox_ids) == [mine] and not got.more
    assert b.GetSandbox(api.GetSandboxRequest(sandbox_id=theirs)).sandbox.sandbox_id == theirs


@pytest.fixture(scope="module", params=["named", ""])
def their_snapshot(request, b, theirs):
    b.ResumeSandbox(api.ResumeSandboxRequest(sandbox_id=theirs))
    snapshot = b.CreateSnapshot(api.CreateSnapshotRequest(
        sandbox_id=theirs, name=request.param)).snapshot
    yield snapshot
    b.DeleteSnapshot(api.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))


def snapshot_ids(listing):
    return {s.snapshot_id for s in listing.snapshots}


def test_snapshots_are_ones_own(channel, a, b, their_snapshot):
    assert their_snapshot.snapshot_id in snapshot_ids(b.ListSnapshots(api.ListSnapshotsRequest()))
    assert not snapshot_ids(a.ListSnapshots(api.ListSnapshotsRequest()))
    for name in [their_snapshot.snapshot_id, *their_snapshot.names]:
        got = failure(channel, "/sandbox.v1.SandboxService/DeleteSnapshot",
                      api.DeleteSnapshotRequest(snapshot_id=name), KEYS["a"])
        api.check_error(got, grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND")
        unknown = failure(channel, "/sandbox.v1.SandboxService/DeleteSnapshot",
                          api.DeleteSnapshotRequest(snapshot_id="x" + name), KEYS["a"])
        assert got.details() == unknown.details()
        a.DeleteSnapshot(api.DeleteSnapshotRequest(snapshot_id=name, allow_missing=True))
        with pytest.raises(grpc.RpcError) as caught:
            a.CreateSandbox(api.CreateSandboxRequest(template=name))
        api.check_error(caught.value, grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    made = b.CreateSandbox(api.CreateSandboxRequest(
        template=their_snapshot.snapshot_id, timeout=api.seconds(60))).sandbox.sandbox_id
    file = b.ReadFile(api.ReadFileRequest(sandbox_id=made, path="/tmp/secret"))
    assert file.data or file.text
    b.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made))


def test_a_snapshot_is_not_named_into_another_tenants(a, b, theirs):
    mine = a.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(60))).sandbox.sandbox_id
    try:
        for name in ("t_b__x", "x/t_b__x"):
            try:
                made = a.CreateSnapshot(api.CreateSnapshotRequest(sandbox_id=mine, name=name))
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
            else:
                assert made.snapshot.snapshot_id not in snapshot_ids(
                    b.ListSnapshots(api.ListSnapshotsRequest()))
                a.DeleteSnapshot(api.DeleteSnapshotRequest(
                    snapshot_id=made.snapshot.snapshot_id))
    finally:
        a.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=mine))


# --- secrets ---


def test_no_key_is_ever_told(pod, channel, a):
    with pytest.raises(grpc.RpcError) as caught:
        As(channel, FORGED).ListSandboxes(api.ListSandboxesRequest())
    assert FORGED not in str(caught.value.details())
    a.ListSandboxes(api.ListSandboxesRequest())
    programs.wait_until(lambda: any('"tenant":"a"' in line for line in list(pod.log)),
                        what="the call in the log")
    with open("/proc/%d/cmdline" % pod.pid, encoding="utf-8") as f:
        told = f.read() + "\n".join(pod.log)
    for key in [FORGED, *KEYS.values(), programs.API_KEY]:
        assert key not in told
        assert hashlib.sha256(key.encode()).hexdigest() not in told
