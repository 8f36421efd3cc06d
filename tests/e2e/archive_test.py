"""What commands wrote is read after their sandbox is gone, out of an archive that pods share."""

import contextlib
import hashlib
import random
import secrets
import shutil
import threading
import urllib.request

import grpc
import pytest
from harness import api, follow, programs, s3
from harness.programs import wait_until
from harness.service import Service

NOT_FOUND, UNAVAILABLE = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE
DATA_LOSS = grpc.StatusCode.DATA_LOSS

LINES = ("for i in $(seq 1 300); do echo out $i; echo err $i >&2; done; printf 'h\\303';"
         "sleep 0.05; printf '\\274\\377 last'")


class Directory:
    """An archive in a folder."""

    is_fast = True

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.options = ["--archive=%s" % folder]
        self.env = {}

    def names(self):
        return sorted(str(p.relative_to(self.folder))
                      for p in self.folder.rglob("*") if p.is_file())

    def read(self, name):
        return (self.folder / name).read_bytes()

    def write(self, name, data):
        (self.folder / name).write_bytes(data)

    def remove(self, name):
        (self.folder / name).unlink()

    @contextlib.contextmanager
    def down(self):
        """What is in it cannot be reached, as when a mount is gone; not even by root."""
        inside, away = self.folder / "-", self.folder / "away"
        inside.rename(away)
        inside.write_text("no directory", encoding="ascii")
        try:
            yield
        finally:
            inside.unlink()
            away.rename(inside)

    def stop(self):
        shutil.rmtree(self.folder)


class Bucket:
    """An archive in S3."""

    is_fast = False  # the server, that is

    def __init__(self):
        self.server = s3.S3()
        self.options = ["--archive=s3://%s/a/prefix" % s3.BUCKET]
        self.env = self.server.env

    def names(self):
        return self.server.ask("names")

    def read(self, name):
        return self.server.ask("read", name=name).encode("latin-1")

    def write(self, name, data):
        self.server.ask("write", name=name, data=data.decode("latin-1"))

    def remove(self, name):
        self.server.ask("remove", name=name)

    @contextlib.contextmanager
    def down(self):
        self.server.ask("down", down=True)
        try:
            yield
        finally:
            self.server.ask("down", down=False)

    def stop(self):
        self.server.stop()


@pytest.fixture(scope="module")
def archive(pytestconfig, data_dir):
    in_s3 = pytestconfig.getoption("archive") == "s3"
    if in_s3 and not s3.python():
        pytest.skip("SANDBOXD_TEST_MOTO_PYTHON names no interpreter that has moto")
    made = Bucket() if in_s3 else Directory(data_dir / "archive")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def service(local, archive):
    with Service(local, options=archive.options + ["--archive-before-end=0"],
                 env=archive.env) as service:
        yield service
        for pod in service.pods:
            for secret in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
                assert not any(archive.env.get(secret, "\0") in line for line in pod.log)


@pytest.fixture(scope="module")
def stub(service):
    return service.stub(0)


@pytest.fixture(scope="module")
def other_stub(service):
    return service.stub(1)


def create(stub, **fields):
    fields.setdefault("timeout", api.seconds(600))
    return stub.CreateSandbox(api.CreateSandboxRequest(**fields), timeout=60).sandbox.sandbox_id


def delete(stub, sandbox_id, **fields):
    fields.setdefault("allow_missing", False)
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id, **fields), timeout=90)


def read(stub, sandbox_id, command_id="c", **fields):
    """The events, and the last number that the stream was done with."""
    events, last_seq = [], 0
    for r in stub.Logs(api.LogsRequest(sandbox_id=sandbox_id, command_id=command_id, **fields),
                       timeout=60):
        events += r.events
        last_seq = max(last_seq, r.last_seq)
    return events, last_seq


def everything(last_seq, middle):
    """Each way of asking that means the same before and after."""
    views = [{}]
    for text in (False, True):
        for lines in (False, True):
            views.append({"encoding": api.ENCODING_TEXT if text else api.ENCODING_BYTES,
                          "whole_lines": lines})
    views += [{"streams": [s]} for s in (api.STREAM_STDOUT, api.STREAM_STDERR)]
    views += [{"limit_bytes": n} for n in (1, 100, 1000)]
    views += [{"since": middle}, {"before": middle}]
    for view in views:
        for start in ({}, {"from_seq": 2}, {"from_seq": last_seq // 2}, {"from_seq": last_seq},
                      {"tail": api.Tail(lines=7)}, {"tail": api.Tail(bytes=99)},
                      {"tail": api.Tail(events=5)}, {"tail": api.Tail(lines=0)}):
            for until in ({}, {"follow": True}, {"follow": True, "until": api.UNTIL_CLOSED}):
                asked = {**view, **start, **until}
                if "before" in view and "follow" in until:
                    continue
                yield asked


def test_every_way_of_reading_means_the_same_as_before(stub, other_stub, archive):
    sandbox = create(stub)
    follow.run(stub, sandbox, command_id="c", shell=LINES, until=api.UNTIL_CLOSED,
               labels={"a": "1"})
    events, last_seq = read(stub, sandbox)
    middle = events[len(events) // 2].time
    asks = list(everything(last_seq, middle))
    if not archive.is_fast:
        asks = random.sample(asks, 30)
    before = [read(stub, sandbox, **asked) for asked in asks]
    command = stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id="c"), timeout=30)
    delete(stub, sandbox)
    for asked, answer in zip(asks, before):
        assert read(other_stub, sandbox, **asked) == answer, asked
    assert other_stub.GetCommand(api.GetCommandRequest(
        sandbox_id=sandbox, command_id="c"), timeout=30) == command
    waited = other_stub.WaitCommand(api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="c"), timeout=30)
    assert waited.done and waited.command == command.command


def pages(stub, sandbox_id, **fields):
    found, token = [], ""
    while True:
        page = stub.ListCommands(api.ListCommandsRequest(
            sandbox_id=sandbox_id, page_token=token, **fields), timeout=30)
        found.append(list(page.commands))
        token = page.next_page_token
        if not token:
            return found


def all_logs(stub, sandbox_id, **fields):
    responses = list(stub.Logs(api.LogsRequest(sandbox_id=sandbox_id, **fields), timeout=60))
    flat = [(r.command_id, e.seq, e.SerializeToString()) for r in responses for e in r.events]
    return flat, [r.cursor for r in responses if r.cursor]


def test_all_commands_are_listed_and_merged_as_before(stub, other_stub, archive):
    sandbox = create(stub)
    threads = [threading.Thread(target=follow.run, args=(stub, sandbox), kwargs={
        "shell": "for i in 1 2 3 4 5; do echo %d.$i; sleep 0.02; done" % n, "command_id": "c%d" % n,
        "until": api.UNTIL_CLOSED, "labels": {"odd": str(n % 2)}}) for n in range(24 if archive.is_fast else 9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    follow.run(stub, sandbox, command_id="long", argv=["/bin/true"] + ["x" * 1000] * 9)

    def ask(stub):
        return [pages(stub, sandbox), pages(stub, sandbox, page_size=7),
                pages(stub, sandbox, labels={"odd": "1"}, page_size=5),
                pages(stub, sandbox, states=[api.message("sandbox.v1.Command").STATE_RUNNING]),
                stub.GetCommand(api.GetCommandRequest(sandbox_id=sandbox, command_id="long"),
                                timeout=30)]

    before, logs = ask(stub), all_logs(stub, sandbox)[0]
    lines = all_logs(stub, sandbox, whole_lines=True, streams=[api.STREAM_STDOUT])[0]
    _, live_cursors = all_logs(stub, sandbox)
    delete(stub, sandbox)
    assert ask(other_stub) == before
    archived, cursors = all_logs(other_stub, sandbox)
    assert archived == logs
    assert all_logs(other_stub, sandbox, whole_lines=True, streams=[api.STREAM_STDOUT])[0] == lines
    n = 5 if archive.is_fast else 2
    for cursor in random.sample(cursors, n) + random.sample(live_cursors, n):
        rest, _ = all_logs(stub, sandbox, cursor=cursor)
        assert rest == logs[len(logs) - len(rest):]
    assert all_logs(stub, sandbox, cursor=cursors[-1])[0] == []


def test_a_reader_goes_on_in_the_archive(stub, other_stub, fails):
    """Who follows a command while its sandbox is deleted gets all that was written until then."""
    sandbox = create(stub)
    stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="c", shell="seq 1 2000; sleep 1000"), timeout=60).next()
    wait_until(lambda: read(stub, sandbox)[0][-1].stdout.endswith(b"2000\n"))
    stream = other_stub.Logs(api.LogsRequest(
        sandbox_id=sandbox, command_id="c", follow=True), timeout=60)
    events = follow.Events()
    with pytest.raises(grpc.RpcError) as caught:
        for response in stream:
            if not events.count:
                delete(stub, sandbox)
            events.take(response)
    api.check_error(caught.value, NOT_FOUND, "SANDBOX_NOT_FOUND")
    want = b"".join(b"%d\n" % n for n in range(1, 2001))
    assert events.out == want
    # It never ended, and so who waits for its end is told.
    archived, _ = read(other_stub, sandbox)
    assert b"".join(e.stdout for e in archived) == want
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", stub.Logs, api.LogsRequest(
        sandbox_id=sandbox, command_id="c", follow=True))
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", stub.WaitCommand, api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="c"))
    command = stub.GetCommand(api.GetCommandRequest(
        sandbox_id=sandbox, command_id="c"), timeout=30).command
    assert command.state == command.STATE_RUNNING and not command.HasField("exited")


def test_what_is_not_archived_is_told(stub, other_stub, archive, fails):
    sandbox = create(stub)
    follow.run(stub, sandbox, command_id="c", shell="echo secret")
    before = archive.names()
    delete(stub, sandbox, discard_logs=True)
    assert archive.names() == before
    fails(NOT_FOUND, "LOG_EXPIRED", other_stub.Logs, api.LogsRequest(
        sandbox_id=sandbox, command_id="c"))
    fails(NOT_FOUND, "LOG_EXPIRED", other_stub.Logs, api.LogsRequest(sandbox_id=sandbox))
    for call, request in ((other_stub.GetCommand, api.GetCommandRequest),
                          (other_stub.WaitCommand, api.WaitCommandRequest)):
        fails(NOT_FOUND, "SANDBOX_NOT_FOUND", call, request(sandbox_id=sandbox, command_id="c"))
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", other_stub.ListCommands, api.ListCommandsRequest(
        sandbox_id=sandbox))

    sandbox = create(stub)
    follow.run(stub, sandbox, command_id="pruned", shell="echo x", until=api.UNTIL_CLOSED)
    stub.PruneCommands(api.PruneCommandsRequest(sandbox_id=sandbox, retention=api.Retention(
        max_bytes=1)), timeout=30)
    delete(stub, sandbox)
    fails(NOT_FOUND, "COMMAND_NOT_FOUND", stub.Logs, api.LogsRequest(
        sandbox_id=sandbox, command_id="never"))
    fails(NOT_FOUND, "LOG_EXPIRED", stub.Logs, api.LogsRequest(
        sandbox_id=sandbox, command_id="pruned"))
    assert stub.GetCommand(api.GetCommandRequest(
        sandbox_id=sandbox, command_id="pruned"), timeout=30).command.expired


def test_a_sandbox_without_commands_stays_as_it_is(stub, archive):
    sandbox = create(stub)
    before = archive.names()
    delete(stub, sandbox)
    assert archive.names() == before


def test_a_paused_sandbox_is_woken_to_be_read(stub, other_stub):
    sandbox = create(stub)
    ran = follow.run(stub, sandbox, command_id="c", shell="seq 1 100")
    stub.PauseSandbox(api.PauseSandboxRequest(sandbox_id=sandbox), timeout=60)
    delete(stub, sandbox)
    assert follow.logs(other_stub, sandbox, "c").out == ran.out


def test_pods_that_delete_at_once_do_no_harm(service):
    sandbox = create(service.stub(0))
    ran = [follow.run(service.stub(0), sandbox, command_id="c%d" % n, shell="seq %d 5000" % n,
                      until=api.UNTIL_CLOSED) for n in range(6)]
    outcomes = []

    def remove(n):
        with api.channel(service.addresses[n % 2]) as channel:
            try:
                delete(api.Stub(channel), sandbox)
                outcomes.append("OK")
            except grpc.RpcError as error:
                outcomes.append(error.code().name)

    threads = [threading.Thread(target=remove, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    # Who comes when it is gone is told so; while it goes, that it is changing.
    assert "OK" in outcomes and set(outcomes) <= {"OK", "NOT_FOUND", "UNAVAILABLE"}, outcomes
    for n, events in enumerate(ran):
        assert follow.logs(service.stub(n % 2), sandbox, "c%d" % n).out == events.out


@pytest.mark.parametrize("how", ["changed", "cut", "gone", "exchanged", "record"])
def test_an_archive_that_was_changed_is_noticed(stub, other_stub, archive, fails, how):
    sandbox = create(stub)
    follow.run(stub, sandbox, command_id="c", shell="seq 1 1000", until=api.UNTIL_CLOSED)
    delete(stub, sandbox)
    names = [n for n in archive.names() if sandbox in n]
    piece, = [n for n in names if "/journals/" in n]
    record, = [n for n in names if "/commands/" in n]
    data = archive.read(piece)
    if how == "changed":
        archive.write(piece, data.replace(b"500", b"501"))
    elif how == "cut":
        archive.write(piece, data[:-10])
    elif how == "gone":
        archive.remove(piece)
    elif how == "exchanged":
        archive.write(piece, archive.read(record))
    else:
        archive.write(record, archive.read(record) + b"\x18\x05")
    for call in (stub, other_stub):
        fails(DATA_LOSS, "JOURNAL_CORRUPT", call.Logs, api.LogsRequest(
            sandbox_id=sandbox, command_id="c"))
        fails(DATA_LOSS, "JOURNAL_CORRUPT", call.Logs, api.LogsRequest(sandbox_id=sandbox))


def figures(pod):
    """What a pod tells of the archive, by series."""
    with urllib.request.urlopen("http://%s/metrics" % pod.ready["admin"], timeout=30) as page:
        lines = page.read().decode("utf-8").splitlines()
    return {series: float(value) for series, value in (
        line.rsplit(" ", 1) for line in lines if line.startswith("sandboxd_archive_"))}


def test_an_archive_that_is_down_keeps_the_sandbox(
        service, stub, other_stub, archive, fails):
    sandbox = create(stub)
    before = figures(service.pods[0])
    follow.run(stub, sandbox, command_id="c", shell="seq 1 1000")
    with archive.down():
        found = fails(UNAVAILABLE, "ARCHIVE_UNAVAILABLE", stub.DeleteSandbox,
                      api.DeleteSandboxRequest(sandbox_id=sandbox), timeout=90)
        assert "RetryInfo" in found
        purged = stub.PurgeSandboxes(api.PurgeSandboxesRequest(min_age=api.seconds(0)), timeout=90)
        assert purged.more and sandbox not in purged.sandbox_ids
        assert stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30)
        assert follow.logs(stub, sandbox, "c").count  # the sandbox itself still answers
        during = figures(service.pods[0])
        failed, done = ('sandboxd_archive_copies_total{outcome="%s"}' % o for o in ("failed", "done"))
        assert during[failed] > before[failed] and during["sandboxd_archive_missing_seconds"] > 0
    delete(stub, sandbox)
    after = figures(service.pods[0])
    assert after[done] > before[done]
    copied = "sandboxd_archive_copied_bytes_total"
    assert after[copied] - before[copied] >= 3893
    with archive.down():
        fails(UNAVAILABLE, "ARCHIVE_UNAVAILABLE", other_stub.Logs, api.LogsRequest(
            sandbox_id=sandbox, command_id="c"), timeout=90)
    want = b"".join(b"%d\n" % n for n in range(1, 1001))
    assert follow.logs(other_stub, sandbox, "c").out == want
    reads = figures(service.pods[1])
    assert reads['sandboxd_archive_reads_total{outcome="failed"}'] > 0
    assert reads['sandboxd_archive_reads_total{outcome="found"}'] > 0


def peak(pod):
    """The most memory that it ever had."""
    with open("/proc/%d/status" % pod.process.pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024


def test_a_long_journal_does_not_stay_in_memory(service):
    stub, other_stub = service.stub(0), service.stub(1)
    size = 48 << 20
    sandbox = create(stub)
    stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="c", shell="yes 0123456789abcde | head -c %d" % size),
        timeout=60).next()
    assert stub.WaitCommand(api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="c", until=api.UNTIL_CLOSED), timeout=120).done
    follow.run(other_stub, sandbox, command_id="small", shell="echo")  # what a first call costs
    before = [peak(pod) for pod in service.pods]
    delete(stub, sandbox)
    stalled = stub.Logs(api.LogsRequest(sandbox_id=sandbox, command_id="c"), timeout=300)
    next(stalled)
    received = 0
    for response in other_stub.Logs(api.LogsRequest(sandbox_id=sandbox, command_id="c"),
                                    timeout=120):
        for event in response.events:
            assert event.stdout == (b"0123456789abcde\n" * 2048)[
                received % 16:received % 16 + len(event.stdout)]
            received += len(event.stdout)
    assert received == size
    (last,), _ = read(other_stub, sandbox, tail=api.Tail(lines=1), streams=[api.STREAM_STDOUT],
                      limit_bytes=1, whole_lines=True)
    assert last.stdout == b"0123456789abcde\n"
    stalled.cancel()
    if not programs.is_sanitized("service/sandboxd"):
        for pod, was in zip(service.pods, before):
            assert peak(pod) - was < 24 << 20


# --- what an operator does wrong ----------------------------------------------------------------


@pytest.mark.parametrize("place,env,says", [
    ("/nowhere/at/all", {}, "cannot be opened"),
    ("s3://", {}, "write s3://BUCKET"),
    ("s3://bucket/with space", {}, "letters, digits"),
    ("s3://bucket", {}, "needs AWS_ACCESS_KEY_ID"),
    ("s3://bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s3cr3t\nx"},
     "needs AWS_ACCESS_KEY_ID"),
    ("s3://bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s3cr3t",
                     "AWS_ENDPOINT_URL": "ftp://x"}, "AWS_ENDPOINT_URL"),
])
def test_a_wrong_place_is_told_at_the_start(local, place, env, says):
    ended = programs.run("service/sandboxd", "--listen=127.0.0.1:0", "--archive=" + place,
                         env={"E2B_API_KEY": programs.API_KEY, "E2B_API_URL": local.url, **env})
    assert ended.returncode != 0 and says in ended.stderr and "s3cr3t" not in ended.stderr


def test_a_key_that_is_refused_is_told_without_it(local, archive):
    if not archive.env:
        return  # there are none
    env = {**archive.env, "AWS_SECRET_ACCESS_KEY": "not-the-right-one"}
    with Service(local, count=1, options=archive.options, env=env) as service:
        stub = service.stub(0)
        sandbox = create(stub)
        follow.run(stub, sandbox, command_id="c", shell="echo")
        with pytest.raises(grpc.RpcError) as caught:
            delete(stub, sandbox)
        api.check_error(caught.value, UNAVAILABLE, "ARCHIVE_UNAVAILABLE")
        assert "403 SignatureDoesNotMatch" in caught.value.details()
        assert "not-the-right-one" not in caught.value.details()
        delete(stub, sandbox, discard_logs=True)


# --- sandboxes whose time is over, and tenants --------------------------------------------------


def is_gone(stub, sandbox_id):
    try:
        stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox_id), timeout=30)
    except grpc.RpcError as error:
        return error.code() == NOT_FOUND
    return False


class Tenant:
    """The service as one tenant sees it."""

    def __init__(self, stub, key):
        self.stub, self.metadata = stub, (("authorization", "Bearer " + key),)

    def __getattr__(self, name):
        call = getattr(self.stub, name)
        return lambda request, **how: call(request, metadata=self.metadata, **how)


def test_what_ends_by_itself_is_archived_before_and_stays_its_tenants(
        local, archive, data_dir, fails):
    keys = {tenant: "sbx_%s_%s" % (tenant, secrets.token_urlsafe(24)) for tenant in "ab"}
    path = data_dir / "keys"
    path.write_text("".join("key %s sha256:%s\n" % (
        tenant, hashlib.sha256(key.encode()).hexdigest()) for tenant, key in keys.items()),
        encoding="ascii")
    options = [*archive.options, "--auth-keys=%s" % path, "--archive-before-end=8s"]
    with Service(local, options=options, env=archive.env) as service:
        a, other_a = (Tenant(service.stub(n), keys["a"]) for n in range(2))
        b = Tenant(service.stub(0), keys["b"])
        deleted, expired = create(a), create(a, timeout=api.seconds(9))
        for sandbox in deleted, expired:
            follow.run(a, sandbox, command_id="c", shell="echo mine")
        a.RunCommand(api.RunCommandRequest(
            sandbox_id=expired, command_id="late",
            shell="for i in $(seq 1 1000); do echo $i; sleep 0.1; done"), timeout=60).next()
        delete(a, deleted)
        wait_until(lambda: is_gone(a, expired), timeout=60)
        # It was copied again and again while it ran: what came within the last round may lack.
        late = b"".join(e.stdout for e in read(other_a, expired, "late")[0])
        assert late.startswith(b"1\n2\n3\n") and len(late.splitlines()) > 10
        for sandbox in deleted, expired:
            assert follow.logs(other_a, sandbox, "c").out == b"mine\n"
            assert [c.command_id for c in pages(other_a, sandbox)[0]][0] == "c"
            fails(NOT_FOUND, "LOG_EXPIRED", b.Logs, api.LogsRequest(
                sandbox_id=sandbox, command_id="c"))
            fails(NOT_FOUND, "SANDBOX_NOT_FOUND", b.GetCommand, api.GetCommandRequest(
                sandbox_id=sandbox, command_id="c"))
            assert all("/t.a/" in "/" + n for n in archive.names() if sandbox in n)
