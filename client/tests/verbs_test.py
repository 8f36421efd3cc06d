"""The verbs that make one call, and what becomes of calls that fail."""

import json
import time

import grpc
import pytest
from command_line import Sandboxctl
from fake_sandboxd import Command, Error, lines, started
from fixtures import pods, sandboxctl, world  # noqa: F401 (fixtures)
from harness import api

VERBS = ["create", "ls", "rm", "url", "timeout", "keep", "pause", "resume", "purge", "snapshot",
         "snapshots", "unsnapshot", "write", "read", "upload", "download", "run", "logs", "ps", "kill",
         "input", "health"]


def test_create_prints_the_id(pods, sandboxctl):
    done = sandboxctl("create", "-t", "python", "--timeout=90s", "-m", "team=a", "-e", "X=1",
                      "--reuse-key=k", "--on-timeout=pause", "--no-internet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "i0\n", "")
    [request] = pods[0].made("CreateSandbox")
    assert len(request.request_id) == 32  # so that a repeated attempt is safe
    request.request_id = ""
    assert request == api.CreateSandboxRequest(
        template="python", timeout=api.seconds(90), metadata={"team": "a"}, envs={"X": "1"},
        reuse_key="k", on_timeout=api.ON_TIMEOUT_PAUSE, deny_internet_access=True)


def test_create_as_json(sandboxctl):
    done = sandboxctl("create", "--request-id=r", "-o", "json")
    assert json.loads(done.stdout) == {"sandbox": {
        "sandboxId": "i0", "state": "STATE_RUNNING", "template": "base",
        "startTime": "2023-11-14T22:13:20Z", "endTime": "2023-11-14T22:23:20Z",
        "metadata": {"request_id": "r"}}}


def test_ls_reads_all_pages(sandboxctl):
    for i in range(5):
        assert sandboxctl("create", "-m", "odd=%d" % (i % 2)).returncode == 0
    rows = sandboxctl("ls").stdout.splitlines()
    assert rows[0].split()[:2] == ["ID", "STATE"]
    assert [row.split()[:3] for row in rows[1:]] == [
        ["i%d" % i, "running", "base"] for i in range(5)]
    done = sandboxctl("ls", "-o", "json", "-m", "odd=1")
    assert [json.loads(line)["sandboxId"] for line in done.stdout.splitlines()] == ["i1", "i3"]


def test_rm_ends_them_all(world, sandboxctl):
    for _ in range(3):
        sandboxctl("create")
    done = sandboxctl("rm", "i0", "nope", "i2")
    assert done.returncode == 255
    assert "NOT_FOUND (SANDBOX_NOT_FOUND): sandbox nope does not exist" in done.stderr
    assert [s.sandbox_id for s in world.sandboxes] == ["i1"]
    assert sandboxctl("rm", "-f", "nope").returncode == 0


def test_url_and_its_headers(sandboxctl):
    done = sandboxctl("url", "box", "8080")
    assert (done.returncode, done.stdout) == (0, "https://8080-box.example.org\n")
    assert done.stderr == "needs header x-key: k\n"
    assert json.loads(sandboxctl("-o", "json", "url", "box", "80").stdout) == {
        "url": "https://80-box.example.org", "host": "80-box.example.org",
        "headers": {"x-key": "k"}}


def test_timeout(pods, sandboxctl):
    done = sandboxctl("timeout", "box", "--in=10m")
    assert (done.returncode, done.stdout) == (0, "2023-11-14 22:23:20\n")
    assert pods[0].made("SetSandboxTimeout")[0].timeout == api.seconds(600)


def test_keep(pods, sandboxctl):
    done = sandboxctl("keep", "box", "--for=1h")
    assert (done.returncode, done.stdout) == (0, "2023-11-14 23:13:20\n")
    assert sandboxctl("keep", "box").stdout == "2023-11-14 22:23:20\n"
    given, empty = pods[0].made("KeepAlive")
    assert given.timeout == api.seconds(3600) and not empty.HasField("timeout")


def test_pause_and_resume(pods, sandboxctl):
    sandboxctl("create")
    assert sandboxctl("pause", "i0", "--files-only").returncode == 0
    assert pods[0].made("PauseSandbox")[0].discard_memory
    assert sandboxctl("ls").stdout.splitlines()[1].split()[1] == "paused"
    done = json.loads(sandboxctl("-o", "json", "resume", "i0", "--for=20m").stdout)
    assert done["resumed"] and done["sandbox"]["state"] == "STATE_RUNNING"
    assert pods[0].made("ResumeSandbox")[0].timeout == api.seconds(1200)
    assert sandboxctl("resume", "i0").stdout == "2023-11-14 22:23:20\n"


def test_purge_goes_on_while_there_are_more(pods, world, sandboxctl):
    for n in range(5):
        sandboxctl("create", "-m", "old=%s" % (n < 3))
    done = sandboxctl("purge", "--dry-run", "-m", "old=True", "--older=1h")
    assert (done.returncode, done.stdout) == (0, "i0\ni1\n") and "more" in done.stderr
    assert pods[0].made("PurgeSandboxes")[0] == api.PurgeSandboxesRequest(
        metadata={"old": "True"}, min_age=api.seconds(3600), dry_run=True)
    done = sandboxctl("purge", "-m", "old=True")
    assert (done.returncode, done.stdout) == (0, "i0\ni1\ni2\n")
    assert len(world.sandboxes) == 2
    assert sandboxctl("purge").returncode == 2
    assert sandboxctl("purge", "--all").stdout == "i3\ni4\n"
    assert pods[0].made("PurgeSandboxes")[-1].HasField("min_age")


def test_snapshots(world, sandboxctl):
    for name in [], ["--name=a"], []:
        assert sandboxctl("snapshot", "box", *name).returncode == 0
    assert sandboxctl("snapshots").stdout == "s0:default\ns1:default a\ns2:default\n"
    assert json.loads(sandboxctl("snapshots", "-o", "json").stdout.splitlines()[1]) == {
        "snapshotId": "s1:default", "names": ["a"]}
    done = sandboxctl("unsnapshot", "s0:default", "nope")
    assert done.returncode == 255 and "SNAPSHOT_NOT_FOUND" in done.stderr
    assert sandboxctl("unsnapshot", "-f", "nope").returncode == 0
    assert len(world.snapshots) == 2


def test_write_and_read_any_bytes(pods, world, sandboxctl, tmp_path):
    content = bytes(range(256)) * 1000
    (tmp_path / "local").write_bytes(content)
    done = sandboxctl("write", "box", str(tmp_path / "local"), "/srv/x", "--mode=755", "-u", "app")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    [request] = pods[0].made("WriteFiles")
    assert (request.user, request.files[0].mode) == ("app", 0o755)
    assert world.files["/srv/x"].data == content
    done = sandboxctl("read", "box", "/srv/x", text=False)
    assert (done.returncode, done.stdout) == (0, content)


def test_write_from_stdin_and_read_as_text(world, sandboxctl):
    done = sandboxctl("-o", "json", "write", "box", "-", "x", text=False, input=b"a\xffb\n")
    assert json.loads(done.stdout) == {"files": [{"path": "x", "size": "4"}]}
    assert sandboxctl("read", "--text", "box", "x").stdout == "a\ufffdb\n"
    assert json.loads(sandboxctl("-o", "json", "read", "box", "x").stdout) == {
        "data": "Yf9iCg==", "size": "4"}


def test_a_local_file_that_is_missing(pods, sandboxctl):
    done = sandboxctl("write", "box", "/no/such/file", "x")
    assert done.returncode == 1
    assert "cannot read /no/such/file: No such file" in done.stderr
    assert pods[0].calls == []


def test_ps_lists_commands(world, sandboxctl):
    world.commands.update(a=Command(lines(3, code=7)), b=Command([started()], finished=False),
                          c=Command(lines(1)))
    rows = sandboxctl("ps", "box").stdout.splitlines()
    assert [row.split()[:3] for row in rows[1:]] == [
        ["a", "exited", "7"], ["b", "running", "-"], ["c", "exited", "0"]]
    assert rows[1].endswith(" make it")
    done = sandboxctl("-o", "json", "ps", "box", "b")
    assert json.loads(done.stdout)["state"] == "STATE_RUNNING"


@pytest.mark.parametrize("given, number", [
    ([], 15), (["--signal=KILL"], 9), (["-s", "sigusr1"], 10), (["--signal", "34"], 34)])
def test_kill_sends_a_signal(world, sandboxctl, given, number):
    command = world.commands["c"] = Command([started()], finished=False)
    assert sandboxctl("kill", "box", "c", *given).returncode == 0
    assert command.signals == [number]


def test_kill_has_targets(pods, world, sandboxctl):
    world.commands["c"] = Command([started()], finished=False)
    sandboxctl("kill", "--tree", "box", "c")
    sandboxctl("kill", "--process", "box", "c")
    target = api.SignalCommandRequest.Target
    assert [r.target for r in pods[0].made("SignalCommand")] == [
        target.Value("TARGET_TREE"), target.Value("TARGET_PROCESS")]


def test_input_from_words_and_from_stdin(world, sandboxctl):
    command = world.commands["c"] = Command([started()], finished=False)
    assert sandboxctl("input", "box", "c", "hello ").returncode == 0
    big = b"x" * 200_000
    assert sandboxctl("input", "box", "c", "-", text=False, input=big).returncode == 0
    assert command.input == b"hello " + big and not command.eof
    assert sandboxctl("input", "--eof", "box", "c").returncode == 0
    assert command.eof


def test_health_asks_every_pod(pods, sandboxctl):
    done = sandboxctl("health")
    assert done.returncode == 0
    assert [row.split() for row in done.stdout.splitlines()] == [
        [pod.address, "serving"] for pod in pods]
    pods[1].serving = False
    done = sandboxctl("-o", "json", "health")
    assert done.returncode == 255
    assert [json.loads(row) for row in done.stdout.splitlines()] == [
        {"address": pods[0].address, "status": "serving"},
        {"address": pods[1].address, "status": "not_serving"}]


# ---- calls that fail


def test_the_next_pod_answers(pods, sandboxctl):
    pods[0].stop()
    done = sandboxctl("create")
    assert (done.returncode, done.stdout, done.stderr) == (0, "i0\n", "")


def test_a_repeated_create_makes_one_sandbox(pods, world, sandboxctl):
    """The first pod makes it, and its answer is lost."""
    create = pods[0].CreateSandbox

    def made_but_lost(request, context):
        create(request, context)
        Error(grpc.StatusCode.UNAVAILABLE).abort(context)

    pods[0].CreateSandbox = made_but_lost
    done = sandboxctl("-o", "json", "create")
    assert done.returncode == 0
    assert json.loads(done.stdout)["reused"] is True
    assert len(world.sandboxes) == 1


def test_input_is_not_sent_twice(pods, world, sandboxctl):
    """Nobody knows whether the first pod wrote it."""
    world.commands["c"] = Command([started()], finished=False)
    pods[0].errors["SendInput"].append(Error(grpc.StatusCode.UNAVAILABLE))
    assert sandboxctl("input", "box", "c", "x").returncode == 255
    assert len(pods[0].made("SendInput")) == 1 and pods[1].calls == []


@pytest.mark.parametrize("reason", ["POD_DRAINING", "POD_FULL"])
def test_input_that_was_turned_away_is_sent_again(pods, world, sandboxctl, reason):
    command = world.commands["c"] = Command([started()], finished=False)
    pods[0].errors["SendInput"].append(Error(grpc.StatusCode.UNAVAILABLE, reason, retry=0.1))
    assert sandboxctl("input", "box", "c", "x").returncode == 0
    assert command.input == b"x"


def test_input_finds_the_pod_that_is_up(pods, world, sandboxctl):
    command = world.commands["c"] = Command([started()], finished=False)
    pods[0].stop()
    assert sandboxctl("input", "box", "c", "x").returncode == 0
    assert command.input == b"x"


def test_an_error_tells_all_it_knows(pods, sandboxctl):
    error = Error(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", retry=2, field="files[0].path",
                  metadata={"limit_bytes": "5"}, message="a path must be short")
    pods[0].errors["ReadFile"].extend([error, error])
    done = sandboxctl("read", "box", "x")
    assert done.returncode == 255 and done.stdout == ""
    assert done.stderr == (
        "sandboxctl: INVALID_ARGUMENT (INVALID_FIELD): a path must be short [files[0].path] "
        "(from %s)\n" % pods[0].address)
    done = sandboxctl("-o", "json", "read", "box", "x")
    assert done.stdout == ""
    assert json.loads(done.stderr) == {"error": {
        "code": "INVALID_ARGUMENT", "reason": "INVALID_FIELD", "message": "a path must be short",
        "field": "files[0].path", "address": pods[0].address, "retryAfterMs": 2000,
        "metadata": {"limit_bytes": "5"}}}


def test_a_call_has_its_time(pods):
    for pod in pods:
        pod.delays["GetSandboxUrl"] = 3
    before = time.monotonic()
    done = Sandboxctl(pods, "--call-timeout=500ms")("url", "box", "80")
    assert done.returncode == 255
    assert "DEADLINE_EXCEEDED" in done.stderr
    assert time.monotonic() - before < 2.5


def test_repetition_ends_with_the_time(pods):
    for pod in pods:
        pod.stop()
    before = time.monotonic()
    done = Sandboxctl(pods, "--call-timeout=1s")("ls", "-o", "json")
    assert done.returncode == 255
    assert json.loads(done.stderr)["error"]["code"] == "UNAVAILABLE"
    assert time.monotonic() - before < 5


# ---- the command line


@pytest.mark.parametrize("args", [
    [], ["nope"], ["-o", "yaml", "ls"], ["--nope", "ls"], ["ls", "--nope"], ["rm"], ["read", "box"],
    ["url", "box", "0"], ["url", "box", "x"], ["url", "box", "65536"], ["run", "box"],
    ["run", "-e", "X", "box", "y"], ["run", "--overflow=x", "box", "y"], ["kill", "box", "c", "-s", "X"],
    ["kill", "--tree", "--process", "box", "c"], ["kill", "box", "c", "--signal=65"],
    ["write", "--mode=9", "box", "-", "x"], ["timeout", "box"], ["create", "--on-timeout=x"],
    ["create", "-m", "=x"], ["create", "x"], ["input", "box", "c"], ["--address=", "ls"],
    ["--address=a,,b", "ls"], ["-H", "Upper=x", "ls"], ["-H", "grpc-x=y", "ls"],
    ["run", "--timeout=soon", "box", "y"],
], ids=" ".join)
def test_bad_usage_is_told_and_nothing_is_called(pods, sandboxctl, args):
    done = sandboxctl(*args, input="")
    assert done.returncode == 2
    assert done.stdout == "" and len(done.stderr) > 20
    assert pods[0].calls == [] and pods[1].calls == []


@pytest.mark.parametrize("args", [
    ["ls"], ["url", "box", "80"], ["keep", "box"], ["-o", "json", "keep", "box"],
    ["-o", "json", "ls"], ["read", "box", "x"], ["-o", "json", "read", "box", "x"]],
    ids=" ".join)
def test_output_that_cannot_be_written_is_told(sandboxctl, args):
    sandboxctl("create")
    sandboxctl("write", "box", "-", "x", input="content")
    with open("/dev/full", "w") as full, sandboxctl.start(*args, stdout=full) as running:
        _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "cannot write" in err and "No space left" in err


def test_help_and_version(sandboxctl):
    done = sandboxctl("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert "\n  %s " % verb in done.stdout
        help_of_it = sandboxctl(verb, "--help")
        assert help_of_it.returncode == 0
        assert help_of_it.stdout.startswith("Usage: sandboxctl %s [OPTIONS]" % verb)
        assert "--address" in help_of_it.stdout
    assert "254 lost" in done.stdout
    done = sandboxctl("--version")
    assert done.returncode == 0 and done.stdout.startswith("sandboxctl ")


def test_the_environment_names_the_address(pods, sandboxctl):
    sandboxctl.env["SANDBOXD_ADDRESS"] = pods[1].address
    assert sandboxctl("ls").returncode == 0
    assert len(pods[0].calls) == 1  # the command line wins, before the verb
    assert sandboxctl("ls", "--address=" + pods[0].address).returncode == 0
    assert len(pods[0].calls) == 2  # and behind it
    sandboxctl.args = lambda *args: [sandboxctl.program, *args]
    assert sandboxctl("ls").returncode == 0
    assert len(pods[1].calls) == 1
