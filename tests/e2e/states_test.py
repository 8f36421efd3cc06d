"""What can be done with a sandbox as a whole: given time, paused and resumed, cut off, measured,
kept as a snapshot, purged; and what the server says it can do."""

import time

import grpc
import pytest
from harness import api, follow, programs
from harness.programs import short

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
RUNNING, PAUSED = 1, 2


def unix(timestamp):
    return timestamp.seconds + timestamp.nanos / 1e9


def left(timestamp):
    return unix(timestamp) - time.time()


# --- time ---

def test_keep_alive_only_prolongs(stub, other_stub, new_sandbox):
    sandbox_id = new_sandbox(timeout=api.seconds(120))
    more = other_stub.KeepAlive(api.KeepAliveRequest(
        sandbox_id=sandbox_id, timeout=api.seconds(900)), timeout=10)
    assert 880 <= left(more.end_time) <= 905
    less = stub.KeepAlive(api.KeepAliveRequest(
        sandbox_id=sandbox_id, timeout=api.seconds(60)), timeout=10)
    assert less.end_time == more.end_time
    got = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=10).sandbox
    assert got.end_time == more.end_time


def test_keep_alive_gives_ten_minutes(stub, new_sandbox):
    sandbox_id = new_sandbox(timeout=api.seconds(30))
    given = stub.KeepAlive(api.KeepAliveRequest(sandbox_id=sandbox_id), timeout=10)
    assert 590 <= left(given.end_time) <= 605


# --- pause, resume ---

def test_a_paused_sandbox_goes_on_where_it_was(stub, other_stub, new_sandbox, fails):
    sandbox_id = new_sandbox(timeout=api.seconds(300))
    which = {"sandbox_id": sandbox_id}
    stub.WriteFiles(api.WriteFilesRequest(
        files=[api.File(path="kept", text="here")], **which), timeout=10)
    paused = stub.PauseSandbox(api.PauseSandboxRequest(**which), timeout=60).sandbox
    assert paused.state == PAUSED and paused.sandbox_id == sandbox_id
    again = other_stub.PauseSandbox(api.PauseSandboxRequest(**which), timeout=60).sandbox
    assert again.state == PAUSED
    fails(PRECONDITION, "SANDBOX_PAUSED", stub.ReadFile, api.ReadFileRequest(path="kept", **which))
    fails(PRECONDITION, "SANDBOX_PAUSED", stub.KeepAlive, api.KeepAliveRequest(**which))
    fails(PRECONDITION, "SANDBOX_PAUSED", stub.UpdateSandbox,
          api.UpdateSandboxRequest(network=api.Network(), **which))
    resumed = other_stub.ResumeSandbox(api.ResumeSandboxRequest(
        timeout=api.seconds(600), **which), timeout=60)
    assert resumed.resumed and resumed.sandbox.state == RUNNING
    assert 580 <= left(resumed.sandbox.end_time) <= 605
    assert stub.ReadFile(api.ReadFileRequest(path="kept", **which), timeout=10).data == b"here"
    ran = stub.ResumeSandbox(api.ResumeSandboxRequest(**which), timeout=60)
    assert not ran.resumed and ran.sandbox.state == RUNNING


@pytest.mark.parametrize("discard,survives", [(False, True), (True, False)])
def test_memory_is_kept_unless_it_is_discarded(stub, new_sandbox, discard, survives):
    which = {"sandbox_id": new_sandbox(timeout=api.seconds(300))}
    stream = stub.RunCommand(api.RunCommandRequest(
        command_id="sleeps", shell="echo up; exec sleep 1000", **which), timeout=120)
    next(r for r in stream if any(e.stdout for e in r.events))
    stream.cancel()
    stub.PauseSandbox(api.PauseSandboxRequest(discard_memory=discard, **which), timeout=60)
    stub.ResumeSandbox(api.ResumeSandboxRequest(**which), timeout=60)
    state = stub.GetCommand(api.GetCommandRequest(command_id="sleeps", **which), timeout=30)
    assert (state.command.state == api.Command.STATE_RUNNING) == survives


# --- network ---

def test_what_it_may_reach_is_told_and_changed(stub, other_stub, new_sandbox):
    rules = api.Network(allow_out=["1.1.1.1", "example.com"], deny_out=["0.0.0.0/0"])
    sandbox_id = new_sandbox(network=rules)
    get = api.GetSandboxRequest(sandbox_id=sandbox_id)
    assert stub.GetSandbox(get, timeout=10).sandbox.network == rules
    for network in api.Network(deny_out=["8.8.8.0/24"]), api.Network(deny_internet_access=True), \
            api.Network():
        changed = stub.UpdateSandbox(api.UpdateSandboxRequest(
            sandbox_id=sandbox_id, network=network), timeout=10).sandbox
        assert changed.network == network
        assert other_stub.GetSandbox(get, timeout=10).sandbox.network == network


@pytest.mark.parametrize("network", [
    api.Network(allow_out=[""]),
    api.Network(deny_out=["x" * 256]),
    api.Network(allow_out=["1.1.1.1"] * 101),
], ids=short)
def test_bad_rules_are_refused(stub, sandbox, fails, network):
    for call, request in [
            (stub.UpdateSandbox, api.UpdateSandboxRequest(sandbox_id=sandbox, network=network)),
            (stub.CreateSandbox, api.CreateSandboxRequest(network=network))]:
        found = fails(INVALID, "INVALID_FIELD", call, request)
        assert found["BadRequest"].field_violations[0].field == "network"


def test_rules_that_e2b_refuses_are_quoted(stub, sandbox, fails):
    fails(INVALID, "E2B_REJECTED", stub.UpdateSandbox, api.UpdateSandboxRequest(
        sandbox_id=sandbox, network=api.Network(deny_out=["not an address"])))
    fails(INVALID, "INVALID_FIELD", stub.UpdateSandbox,
          api.UpdateSandboxRequest(sandbox_id=sandbox))


# --- metrics ---

def test_it_is_measured(stub, new_sandbox):
    sandbox_id = new_sandbox()
    request = api.GetSandboxMetricsRequest(sandbox_id=sandbox_id)

    def samples():
        return list(stub.GetSandboxMetrics(request, timeout=10).samples)

    first = programs.wait_until(samples, 30, "a sample")[0]
    assert first.cpu_count >= 1 and 0 <= first.cpu_used_percent
    assert 0 < first.memory_used_bytes <= first.memory_total_bytes
    assert 0 <= first.disk_used_bytes <= first.disk_total_bytes
    assert abs(unix(first.time) - time.time()) < 60
    request.end_time.seconds = first.time.seconds - 1000
    request.start_time.seconds = first.time.seconds - 2000
    assert samples() == []


def test_a_range_that_ends_before_it_starts_is_refused(stub, sandbox, fails):
    request = api.GetSandboxMetricsRequest(sandbox_id=sandbox)
    request.start_time.seconds, request.end_time.seconds = 2000, 1000
    found = fails(INVALID, "INVALID_FIELD", stub.GetSandboxMetrics, request)
    assert found["BadRequest"].field_violations[0].field == "end_time"


# --- snapshots ---

@pytest.fixture
def snapshots(stub):
    """The ids of snapshots that are gone after the test."""
    made = []
    yield made
    for snapshot_id in made:
        stub.DeleteSnapshot(api.DeleteSnapshotRequest(
            snapshot_id=snapshot_id, allow_missing=True), timeout=30)


def test_a_snapshot_makes_sandboxes(stub, other_stub, new_sandbox, snapshots, fails):
    origin = new_sandbox()
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=origin, files=[api.File(path="kept", text="here")]), timeout=10)
    name = "snap%d" % time.time_ns()
    made = stub.CreateSnapshot(api.CreateSnapshotRequest(sandbox_id=origin, name=name),
                               timeout=60).snapshot
    snapshots.append(made.snapshot_id)
    assert made.snapshot_id and any(name in n for n in made.names)
    listed = other_stub.ListSnapshots(api.ListSnapshotsRequest(sandbox_id=origin), timeout=10)
    assert list(listed.snapshots) == [made]
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=origin), timeout=10)
    copy = stub.CreateSandbox(api.CreateSandboxRequest(template=made.snapshot_id), timeout=60)
    copy_id = copy.sandbox.sandbox_id
    read = stub.ReadFile(api.ReadFileRequest(sandbox_id=copy_id, path="kept"), timeout=10)
    assert read.data == b"here"
    delete = api.DeleteSnapshotRequest(snapshot_id=made.snapshot_id)
    fails(PRECONDITION, "SNAPSHOT_IN_USE", stub.DeleteSnapshot, delete)
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=copy_id), timeout=10)
    stub.DeleteSnapshot(delete, timeout=10)
    fails(NOT_FOUND, "SNAPSHOT_NOT_FOUND", stub.DeleteSnapshot, delete)
    delete.allow_missing = True
    stub.DeleteSnapshot(delete, timeout=10)


def test_snapshots_come_in_pages(stub, other_stub, new_sandbox, snapshots):
    origin = new_sandbox()
    for _ in range(3):
        snapshots.append(stub.CreateSnapshot(api.CreateSnapshotRequest(
            sandbox_id=origin), timeout=60).snapshot.snapshot_id)
    found, request = [], api.ListSnapshotsRequest(sandbox_id=origin, page_size=2)
    for page in stub, other_stub:
        answer = page.ListSnapshots(request, timeout=10)
        found += [s.snapshot_id for s in answer.snapshots]
        request.page_token = answer.next_page_token
    assert not request.page_token
    assert sorted(found) == sorted(snapshots)


def test_a_template_is_no_snapshot(stub, fails):
    fails(NOT_FOUND, "SNAPSHOT_NOT_FOUND", stub.DeleteSnapshot,
          api.DeleteSnapshotRequest(snapshot_id="base"))
    made = stub.CreateSandbox(api.CreateSandboxRequest(template="base"), timeout=60).sandbox
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox_id), timeout=10)


# --- forks ---

def test_forks_go_on_where_the_sandbox_was(stub, other_stub, new_sandbox, snapshots):
    origin = new_sandbox(metadata={"project": "a"}, reuse_key="k%d" % time.time_ns())
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=origin, files=[api.File(path="kept", text="here")]), timeout=10)
    request = api.ForkSandboxRequest(sandbox_id=origin, count=3, timeout=api.seconds(200),
                                     request_id="f%d" % time.time_ns())
    made = stub.ForkSandbox(request, timeout=120)
    snapshots.append(made.snapshot_id)
    ids = [s.sandbox_id for s in made.sandboxes]
    try:
        assert len(set(ids) | {origin}) == 4
        for sandbox in made.sandboxes:
            assert sandbox.state == RUNNING and 180 <= left(sandbox.end_time) <= 205
            assert dict(sandbox.metadata) == {"project": "a"}
            read = other_stub.ReadFile(api.ReadFileRequest(
                sandbox_id=sandbox.sandbox_id, path="kept"), timeout=10)
            assert read.data == b"here"
        stub.WriteFiles(api.WriteFilesRequest(
            sandbox_id=ids[0], files=[api.File(path="kept", text="changed")]), timeout=10)
        for sandbox_id in ids[1], origin:
            assert stub.ReadFile(api.ReadFileRequest(
                sandbox_id=sandbox_id, path="kept"), timeout=10).data == b"here"
        again = other_stub.ForkSandbox(request, timeout=120)
        assert [s.sandbox_id for s in again.sandboxes] == ids and not again.snapshot_id
        kept = stub.ListSnapshots(api.ListSnapshotsRequest(sandbox_id=origin), timeout=10)
        assert [s.snapshot_id for s in kept.snapshots] == [made.snapshot_id]
    finally:
        for sandbox_id in ids:
            stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)


def test_a_paused_sandbox_is_not_forked(stub, new_sandbox, fails):
    which = {"sandbox_id": new_sandbox()}
    stub.PauseSandbox(api.PauseSandboxRequest(**which), timeout=60)
    fails(PRECONDITION, "SANDBOX_PAUSED", stub.ForkSandbox, api.ForkSandboxRequest(**which))
    fails(PRECONDITION, "SANDBOX_PAUSED", stub.CreateSnapshot, api.CreateSnapshotRequest(**which))
    assert not stub.ListSnapshots(api.ListSnapshotsRequest(**which), timeout=10).snapshots


@pytest.mark.parametrize("fields,field", [
    ({"count": -1}, "count"), ({"count": 21}, "count"), ({"request_id": "x" * 61}, "request_id"),
    ({"metadata": {"sandboxd.tenant": "x"}}, "metadata"), ({"on_timeout": 9}, "on_timeout"),
    ({"timeout": api.seconds(-1)}, "timeout"),
], ids=short)
def test_bad_forks_are_refused(stub, sandbox, fails, fields, field):
    found = fails(INVALID, "INVALID_FIELD", stub.ForkSandbox,
                  api.ForkSandboxRequest(sandbox_id=sandbox, **fields))
    assert found["BadRequest"].field_violations[0].field == field


# --- purge ---

def test_a_purge_deletes_what_fits(stub, other_stub, new_sandbox, fails):
    label = {"purge": str(time.time_ns())}
    mine = [new_sandbox(metadata=label) for _ in range(12)]
    other = new_sandbox(metadata={"purge": "no"})
    stub.PauseSandbox(api.PauseSandboxRequest(sandbox_id=mine[0]), timeout=60)
    request = api.PurgeSandboxesRequest(metadata=label, dry_run=True)
    dry = stub.PurgeSandboxes(request, timeout=60)
    assert sorted(dry.sandbox_ids) == sorted(mine) and not dry.more
    paused = api.PurgeSandboxesRequest(metadata=label, states=[PAUSED])
    assert list(stub.PurgeSandboxes(paused, timeout=60).sandbox_ids) == mine[:1]
    old = api.PurgeSandboxesRequest(metadata=label, min_age=api.seconds(3600))
    assert not stub.PurgeSandboxes(old, timeout=60).sandbox_ids
    request.dry_run = False
    done = other_stub.PurgeSandboxes(request, timeout=60)
    assert sorted(done.sandbox_ids) == sorted(mine[1:]) and not done.more
    for sandbox_id in mine:
        fails(NOT_FOUND, "SANDBOX_NOT_FOUND", stub.GetSandbox,
              api.GetSandboxRequest(sandbox_id=sandbox_id))
    stub.GetSandbox(api.GetSandboxRequest(sandbox_id=other), timeout=10)
    assert not stub.PurgeSandboxes(request, timeout=60).sandbox_ids


def test_a_purge_must_say_what_is_meant(stub, fails):
    for request in api.PurgeSandboxesRequest(), api.PurgeSandboxesRequest(dry_run=True):
        fails(INVALID, "INVALID_FIELD", stub.PurgeSandboxes, request)


# --- capabilities ---

def test_the_server_tells_what_it_can_do(stub, service):
    can = stub.GetCapabilities(api.GetCapabilitiesRequest(), timeout=10)
    assert can.version.count(".") == 2
    assert sorted(can.services) == api.SERVICES
    assert can.default_template == "base"
    assert can.max_message_bytes > can.max_read_file_bytes > 0
    assert can.default_timeout == api.seconds(600)
    assert can.max_timeout == api.seconds(45 * 60)
    assert can.heartbeat_interval == api.seconds(15)


# --- what all refuse ---

CALLS = [
    ("KeepAlive", {}),
    ("PauseSandbox", {}),
    ("ResumeSandbox", {}),
    ("UpdateSandbox", {"network": api.Network()}),
    ("GetSandboxMetrics", {}),
    ("CreateSnapshot", {}),
    ("ForkSandbox", {}),
]


@pytest.mark.parametrize("method,fields", CALLS, ids=[c[0] for c in CALLS])
def test_bad_and_unknown_sandboxes_are_refused(stub, fails, method, fields):
    def request(sandbox_id):
        return getattr(api, method + "Request")(sandbox_id=sandbox_id, **fields)

    for sandbox_id in "", "../etc", "x" * 65:
        found = fails(INVALID, "INVALID_FIELD", getattr(stub, method), request(sandbox_id))
        assert [v.field for v in found["BadRequest"].field_violations] == ["sandbox_id"]
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", getattr(stub, method), request("i0123456789abcdefghij"))


@pytest.mark.parametrize("method,timeout", [
    ("KeepAlive", -1), ("KeepAlive", 3601), ("ResumeSandbox", -1), ("ResumeSandbox", 40 * 86400)])
def test_bad_times_are_refused(stub, sandbox, fails, method, timeout):
    found = fails(INVALID, "INVALID_FIELD", getattr(stub, method), getattr(
        api, method + "Request")(sandbox_id=sandbox, timeout=api.seconds(timeout)))
    assert [v.field for v in found["BadRequest"].field_violations] == ["timeout"]
