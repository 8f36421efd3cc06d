"""When a sandbox ends, and when the server does: everything goes, and nothing looks complete."""

import subprocess
import time

import pytest
from harness import leftovers, programs
from wire import Api, api  # noqa: F401, the fixture


def assert_gone(sandbox):
    assert sandbox.get().status == 404
    answer = sandbox.request("GET", "/health")
    assert answer.status == 502
    assert answer.json == {"sandboxId": sandbox.id, "message": "The sandbox was not found",
                           "code": 502}
    assert sandbox.id not in [s["sandboxID"] for s in sandbox.api.call("GET", "/sandboxes").json]


def assert_cut(process):
    """The stream of a running process ends, but not in order: E2B's Python SDK asks whether the
    sandbox is still there only after a reset."""
    with pytest.raises(ConnectionResetError):
        for _ in process.output():
            pass
    assert not process.complete and process.exit_code is None


def test_a_sandbox_expires_to_the_moment(api):
    begun = time.monotonic()
    sandbox = api.create(timeout=1)
    with sandbox.start("echo started; sleep 1000") as process:
        assert next(process.output()) == b"started\n"
        assert_cut(process)
    assert 0.99 < time.monotonic() - begun < 3
    assert_gone(sandbox)


def test_deletion_cuts_streams(api):
    sandbox = api.create()
    with sandbox.start("echo started; sleep 1000") as process:
        assert next(process.output()) == b"started\n"
        assert sandbox.delete().status == 204
        assert_cut(process)
    assert_gone(sandbox)


def test_timeout_of_zero_is_now(api):
    sandbox = api.create()
    answer = api.call("POST", "/sandboxes/%s/timeout" % sandbox.id, {"timeout": 0})
    assert answer.status == 204
    assert_gone(sandbox)


def test_a_longer_timeout_is_kept(api):
    sandbox = api.create(timeout=1)
    assert api.call("POST", "/sandboxes/%s/timeout" % sandbox.id, {"timeout": 60}).status == 204
    time.sleep(1.2)
    assert sandbox.health() == 204
    sandbox.delete()


def test_sandboxes_are_apart(api):
    one, two = api.create(), api.create()
    assert one.run("echo secret > /tmp/here; hostname")[0] == 0
    code, output = two.run("ls /tmp/here; ls /proc | grep -c '^[0-9]'")
    assert b"secret" not in output and b"No such file" in output
    assert one.token != two.token
    two.token = one.token
    assert two.request("POST", "/process.Process/List", "{}",
                       headers={"Content-Type": "application/json"}).status == 401
    one.delete(), two.delete()


def groups():
    """Control groups of sandboxes, wherever they are mounted."""
    found = subprocess.run(["find", "/sys/fs/cgroup", "-type", "d", "-name", "i" + "?" * 20],
                           capture_output=True, check=False, encoding="utf-8")
    return set(found.stdout.split())


def test_sigterm_leaves_nothing(data_dir):
    local = programs.Local(data_dir / "term")
    api = Api(local.address)
    before = groups()
    sandboxes = [api.create() for _ in range(3)]
    with sandboxes[0].start("echo started; sleep 1000 & sleep 1000") as process:
        assert next(process.output()) == b"started\n"
        below = leftovers.descendants(local.pid)
        local.stop()
        assert_cut(process)
    assert not leftovers.none_within(5, lambda: [p for p in below if is_running(p)])
    assert not leftovers.mounts_below(data_dir / "term")
    assert not any(sandbox.id in group for sandbox in sandboxes for group in groups() - before)
    assert [p for p in (data_dir / "term").rglob("*") if sandboxes[0].id in str(p)] == []


def test_sigkill_leaves_nothing_either(data_dir):
    """Where nobody is waited for."""
    local = programs.Local(data_dir / "kill", "--orphan-time=0s")
    api = Api(local.address)
    sandboxes = [api.create() for _ in range(3)]
    with sandboxes[0].start("echo started; sleep 1000") as process:
        assert next(process.output()) == b"started\n"
        below = leftovers.descendants(local.pid)
        assert below
        local.kill()
    leftovers.none_within(10, lambda: (leftovers.reap(),
                                       [p for p in below if is_running(p)])[1])
    assert [p for p in below if is_running(p)] == []
    assert not leftovers.mounts_below(data_dir / "kill")
    # And the next one starts in the same place.
    again = programs.Local(data_dir / "kill")
    try:
        assert Api(again.address).create().health() == 204
        assert Api(again.address).call("GET", "/sandboxes/" + sandboxes[0].id).status == 404
    finally:
        again.stop()


def is_running(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_taken_address_is_said(local):
    other = programs.run("runtime/local/e2b-local", "--listen=" + local.address)
    assert other.returncode == 1
    assert "cannot listen on " + local.address in other.stderr
