"""run and logs, and what they make of pods that fail in the middle of a stream."""

import json
import os
import signal
import subprocess
import time

import fake_sandboxd
import grpc
import pytest
from command_line import Sandboxctl
from fake_sandboxd import Command, Error, Fault, event, exited, lines, started
from fixtures import pods, sandboxctl, world  # noqa: F401 (fixtures)
from harness import api, programs
from harness.programs import wait_until

N = 200
ALL = "".join("line %d\n" % i for i in range(1, N + 1))


@pytest.fixture
def many(world):
    world.next_command = lambda: Command(lines(N))


def broke(pods, seq, from_pod=0, to_pod=1):
    return "broke after seq %d on %s, resumed at %d on %s\n" % (
        seq, pods[from_pod].address, seq + 1, pods[to_pod].address)


# ---- what a command does shows


def test_output_goes_where_the_command_sent_it(world, sandboxctl):
    world.next_command = lambda: Command([
        started(), event(2, stdout=b"out\n"), event(3, stderr=b"err\n"),
        event(4, stdout=b"\xff\x00"), exited(5)])
    done = sandboxctl("run", "box", "make it", text=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n\xff\x00", b"err\n")


@pytest.mark.parametrize("code, last, said", [
    (0, {"code": 0}, ""),
    (7, {"code": 7}, ""),
    (137, {"code": 137, "signal": 9, "reason": "SIGNALED"}, ""),
    (143, {"code": 143, "signal": 15, "reason": "KILLED"}, ""),
    (127, {"code": 127, "reason": "START_FAILED", "message": "there is no program nope"},
     "could not be started: there is no program nope"),
    (126, {"code": 126, "reason": "START_FAILED", "message": "cannot enter /no"}, "enter /no"),
    (124, {"code": 143, "signal": 15, "reason": "TIMED_OUT"}, "time is over"),
    (137, {"code": 137, "signal": 9, "reason": "OUT_OF_MEMORY"}, "out of memory"),
    (254, {"reason": "LOST"}, "lost"),
])
def test_it_exits_as_the_command_did(world, sandboxctl, code, last, said):
    world.next_command = lambda: Command([started(), exited(2, **last)])
    done = sandboxctl("run", "box", "make it")
    assert done.returncode == code
    assert said in done.stderr and (said != "" or done.stderr == "")


def test_the_request_is_what_the_options_say(pods, world, sandboxctl):
    closed = event(3, closed=api.Closed())
    world.next_command = lambda: Command([started(), exited(2, 4), closed])
    done = sandboxctl(
        "-H", "authorization=Bearer x=y", "run", "--id=cmd-1", "--env=A=1", "-e", "B=x=y",
        "--cwd=/srv", "--user=app", "--timeout=1500ms", "--stdin", "--overflow=drop-oldest",
        "--max-journal=2MiB", "--kill-on-disconnect", "--until-closed", "box", "--", "ls", "-la",
        "--", "x")
    assert done.returncode == 4
    [(method, request, metadata)] = pods[0].calls
    assert method == "RunCommand"
    assert request == api.RunCommandRequest(
        sandbox_id="box", command_id="cmd-1", argv=api.Argv(args=["ls", "-la", "--", "x"]),
        envs={"A": "1", "B": "x=y"}, cwd="/srv", user="app", timeout=api.seconds(1.5),
        from_seq=1, stdin=True, overflow=api.OVERFLOW_DROP_OLDEST, max_journal_bytes=2 << 20,
        on_disconnect=api.ON_DISCONNECT_KILL, until=api.UNTIL_CLOSED)
    assert metadata["authorization"] == "Bearer x=y"
    assert metadata["user-agent"].startswith("sandboxctl libsandbox/")


def test_one_word_is_a_line_for_the_shell(pods, sandboxctl):
    assert sandboxctl("run", "--sandbox=box", "ls | wc -l").returncode == 0
    [request] = pods[0].made("RunCommand")
    assert (request.sandbox_id, request.shell) == ("box", "ls | wc -l")
    assert len(request.command_id) == 32  # made before the first attempt
    assert sandboxctl("run", "box", "--", "ls").returncode == 0
    assert pods[0].made("RunCommand")[1].argv.args == ["ls"]
    assert pods[0].made("RunCommand")[1].command_id != request.command_id


def test_json_is_one_object_per_event(world, sandboxctl):
    world.next_command = lambda: Command([
        started(), event(2, stdout=b"\x00\xff", offset=3),
        event(3, text=api.Text(stream=2, text="ä\"\n")), exited(4, 3)])
    done = sandboxctl("-o", "json", "run", "--id=c", "box", "make it")
    assert done.returncode == 3
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"commandId": "c"},
        {"seq": "1", "time": "2023-11-14T22:13:21Z", "started": {"pid": 42}},
        {"seq": "2", "time": "2023-11-14T22:13:22Z", "offset": "3", "stdout": "AP8="},
        {"seq": "3", "time": "2023-11-14T22:13:23Z",
         "text": {"stream": "STREAM_STDERR", "text": "ä\"\n"}},
        {"seq": "4", "time": "2023-11-14T22:13:24Z",
         "exited": {"reason": "REASON_EXITED", "code": 3}},
    ]


def test_text_is_asked_for_and_printed(pods, world, sandboxctl):
    world.next_command = lambda: Command([
        started(), event(2, text=api.Text(stream=1, text="gut\n")),
        event(3, text=api.Text(stream=2, text="schlecht\n")), exited(4)])
    done = sandboxctl("run", "--text", "box", "make it")
    assert (done.stdout, done.stderr) == ("gut\n", "schlecht\n")
    assert pods[0].made("RunCommand")[0].encoding == api.ENCODING_TEXT


def test_dropped_output_is_told(world, sandboxctl):
    dropped = api.Dropped(first_seq=2, last_seq=9, bytes=1234)
    world.next_command = lambda: Command([
        started(), event(9, dropped=dropped), event(10, stdout=b"rest\n"), exited(11)])
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, "rest\n")
    assert "events 2 to 9 (1234 bytes) are gone" in done.stderr


def test_logs_from_an_event_on(pods, world, sandboxctl):
    world.commands["c"] = Command(lines(10, code=5))
    done = sandboxctl("logs", "box", "c", "--from", "9")
    assert (done.returncode, done.stdout) == (0, "line 8\nline 9\nline 10\n")
    [request] = pods[0].made("Logs")
    assert request == api.LogsRequest(sandbox_id="box", command_id="c", from_seq=9)
    assert sandboxctl("logs", "box", "c", "-f", "--from=1000").stdout == ""


def test_logs_follow_a_command_that_runs(world, sandboxctl):
    command = world.commands["c"] = Command(lines(2)[:-1], finished=False)
    child = sandboxctl.start("logs", "-f", "box", "c")
    assert [child.stdout.readline() for _ in range(2)] == ["line 1\n", "line 2\n"]
    command.append(event(4, stdout=b"later\n"))
    assert child.stdout.readline() == "later\n"
    command.append(exited(5), finished=True)
    assert child.communicate(timeout=30) == ("", "")
    assert child.returncode == 0


def test_logs_without_follow_end_with_what_there_is(world, sandboxctl):
    world.commands["c"] = Command(lines(2)[:-1], finished=False)
    done = sandboxctl("logs", "box", "c")
    assert (done.returncode, done.stdout, done.stderr) == (0, "line 1\nline 2\n", "")


# ---- streams that break go on


@pytest.mark.parametrize("after", [1, 2, 57, N + 1])
@pytest.mark.parametrize("what", [
    fake_sandboxd.die,
    fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE),
    fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE, "E2B_UNAVAILABLE"),
    fake_sandboxd.fails(grpc.StatusCode.INTERNAL, message="RST_STREAM with error code 2"),
    fake_sandboxd.ends,
], ids=["die", "unavailable", "e2b", "reset", "ends"])
def test_a_broken_stream_goes_on_at_the_next_pod(many, pods, world, sandboxctl, after, what):
    pods[0].faults.append(Fault(after, what))
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    assert done.stderr == broke(pods, after)
    assert len(world.starts) == 1
    assert pods[1].made("RunCommand") == []  # which could start it again
    [request] = pods[1].made("Logs")
    assert (request.from_seq, request.follow) == (after + 1, True)
    assert request.command_id == pods[0].made("RunCommand")[0].command_id


def test_json_tells_of_a_resume(many, pods, sandboxctl):
    pods[0].faults.append(Fault(57, fake_sandboxd.die))
    done = sandboxctl("-o", "json", "run", "box", "make it")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [int(o["seq"]) for o in objects if "seq" in o] == list(range(1, N + 3))
    [at] = [i for i, o in enumerate(objects) if "resume" in o]
    assert objects[at]["resume"] == {
        "afterSeq": 57, "from": pods[0].address, "to": pods[1].address}
    assert objects[at - 1]["seq"] == "57" and objects[at + 1]["seq"] == "58"
    assert done.stderr == ""


def test_a_stream_survives_many_breaks(many, pods, sandboxctl):
    for pod in pods:
        pod.faults.extend(
            Fault(10, fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE)) for _ in range(5))
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    assert done.stderr.count("broke after seq") == 10


def test_one_address_is_enough(many, pods, sandboxctl):
    """A load balancer, say, behind which a pod goes away."""
    pods[0].faults.append(Fault(20, fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE)))
    done = Sandboxctl(pods[:1])("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    assert done.stderr == broke(pods, 20, 0, 0)


def test_a_silent_pod_is_left(many, pods, sandboxctl):
    pods[0].faults.append(Fault(20, fake_sandboxd.silence))
    before = time.monotonic()
    done = sandboxctl("--heartbeat=400ms", "run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    assert done.stderr == broke(pods, 20)
    assert time.monotonic() - before >= 1.0  # two and a half heartbeats


def test_a_quiet_command_is_not_silence(pods, world):
    """Heartbeats are signs of life, for as long as it takes."""
    for pod in pods:
        pod.heartbeat = 0.1
    command = Command([started()], finished=False)
    world.next_command = lambda: command
    child = Sandboxctl(pods, "--heartbeat=400ms").start("run", "box", "make it")
    wait_until(lambda: pods[0].made("RunCommand"))
    time.sleep(3)  # three times as long as silence is borne
    command.append(exited(2, 9), finished=True)
    assert child.communicate(timeout=30) == ("", "")
    assert child.returncode == 9
    assert pods[1].calls == []


def test_the_server_says_when_to_come_back(many, pods, sandboxctl):
    pods[0].faults.append(
        Fault(20, fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE, "POD_DRAINING", retry=1.5)))
    before = time.monotonic()
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    assert time.monotonic() - before >= 1.5
    assert broke(pods, 20) in done.stderr


def test_breaks_in_a_row_are_told_while_they_last(many, pods, sandboxctl):
    pods[0].faults.append(Fault(20, fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE)))
    pods[1].stop()
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    [tried, resumed] = done.stderr.splitlines(keepends=True)
    assert tried.startswith("sandboxctl: %s: UNAVAILABLE: " % pods[1].address)
    assert "; trying %s in " % pods[0].address in tried
    assert resumed == broke(pods, 20, 0, 0)


def test_a_quota_with_a_time_is_waited_for(pods, sandboxctl):
    pods[0].errors["RunCommand"].append(
        Error(grpc.StatusCode.RESOURCE_EXHAUSTED, "E2B_QUOTA", retry=0.3))
    assert sandboxctl("run", "box", "make it").returncode == 0


def test_a_command_is_not_started_twice(pods, world, sandboxctl):
    """The pod starts it and dies before it can say so."""
    pods[0].faults.append(Fault(0, fake_sandboxd.die))
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout) == (0, "line 1\nline 2\nline 3\n")
    assert len(world.starts) == 1
    [first], [again] = pods[0].made("RunCommand"), pods[1].made("RunCommand")
    assert first == again and first.command_id != ""


def test_with_kill_on_disconnect_the_command_itself_is_attached_to(many, pods, sandboxctl):
    pods[0].faults.append(Fault(20, fake_sandboxd.die))
    done = sandboxctl("run", "--kill-on-disconnect", "box", "make it")
    assert (done.returncode, done.stdout) == (0, ALL)
    [request] = pods[1].made("RunCommand")
    assert (request.from_seq, request.on_disconnect) == (21, api.ON_DISCONNECT_KILL)


def test_a_pod_that_is_down_is_no_break(pods, sandboxctl):
    pods[0].stop()
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stderr) == (0, "")


def test_events_sent_again_are_not_delivered_again(many, pods, sandboxctl):
    pods[0].faults.append(Fault(20, fake_sandboxd.repeats(7)))
    done = sandboxctl("run", "box", "make it")
    assert (done.returncode, done.stdout, done.stderr) == (0, ALL, "")


# ---- and those that cannot go on say why


@pytest.mark.parametrize("what, reason", [
    (fake_sandboxd.skips, "SEQUENCE_GAP"),
    (fake_sandboxd.claims, "SEQUENCE_GAP"),
    (fake_sandboxd.garbage, "BAD_RESPONSE"),
    (fake_sandboxd.another, "BAD_RESPONSE"),
    (fake_sandboxd.fails(grpc.StatusCode.DATA_LOSS, "JOURNAL_CORRUPT"), "JOURNAL_CORRUPT"),
], ids=["skips", "claims", "garbage", "another", "corrupt"])
def test_a_stream_that_lies_is_not_believed(many, pods, sandboxctl, what, reason):
    pods[0].faults.append(Fault(20, what))
    done = sandboxctl("run", "box", "make it")
    assert done.returncode == 255
    assert done.stdout == "".join("line %d\n" % i for i in range(1, 20))
    assert "sandboxctl: DATA_LOSS (%s): " % reason in done.stderr
    assert pods[0].address in done.stderr
    assert pods[1].calls == []


@pytest.mark.parametrize("error", [
    Error(grpc.StatusCode.ALREADY_EXISTS, "COMMAND_MISMATCH"),
    Error(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND"),
    Error(grpc.StatusCode.INTERNAL, "INTERNAL"),
    Error(grpc.StatusCode.RESOURCE_EXHAUSTED, "E2B_QUOTA"),
    Error(grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED"),
], ids=lambda error: error.reason)
def test_a_failure_for_good_is_reported_at_once(pods, sandboxctl, error):
    pods[0].errors["RunCommand"].append(error)
    done = sandboxctl("run", "box", "make it")
    assert done.returncode == 255
    assert done.stderr == "sandboxctl: %s (%s): it did not work out (from %s)\n" % (
        error.code.name, error.reason, pods[0].address)
    assert pods[1].calls == []


def test_it_gives_up_in_the_end(many, pods, sandboxctl):
    for pod in pods:
        pod.faults.append(Fault(20, fake_sandboxd.die))
    before = time.monotonic()
    done = sandboxctl("--give-up=2s", "run", "box", "make it")
    assert done.returncode == 255
    assert done.stdout == "".join("line %d\n" % i for i in range(1, 40))
    assert broke(pods, 20) in done.stderr
    assert "sandboxctl: UNAVAILABLE: " in done.stderr.splitlines()[-1]
    assert 0.5 < time.monotonic() - before < 20


def test_a_pod_that_only_says_hello_is_no_progress(pods, sandboxctl):
    for pod in pods:
        pod.faults.extend(
            Fault(0, fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE)) for _ in range(1000))
    done = sandboxctl("--give-up=2s", "run", "box", "make it")
    assert done.returncode == 255
    assert 4 < len(pods[0].calls) + len(pods[1].calls) < 100  # backing off


# ---- acknowledgements


def test_what_was_delivered_is_acknowledged(pods, world, sandboxctl):
    world.next_command = lambda: Command(lines(2500))
    pods[0].faults.append(Fault(1700, fake_sandboxd.die))
    done = sandboxctl("run", "--id=c", "--overflow=block", "box", "make it")
    assert done.returncode == 0
    acked = world.commands["c"].acked
    assert acked == sorted(acked) and acked[-1] == 2502
    assert len(acked) >= 2


def test_a_small_record_is_acknowledged_in_time(world, sandboxctl):
    """A command that waits whenever 1 MiB is not acknowledged is not slowed down to 1 MiB/s."""
    size, total = 60_000, 300
    command = Command([started()], finished=False)
    world.next_command = lambda: command
    before = time.monotonic()
    child = sandboxctl.start("run", "--overflow=block", "--max-journal=1MiB", "box", "make it",
                             stdout=subprocess.DEVNULL)
    for seq in range(2, total):
        wait_until(lambda: (seq - max([0, *command.acked])) * size < 1 << 20)
        command.append(event(seq, stdout=bytes(size)))
    command.append(exited(total), finished=True)
    child.communicate(timeout=30)
    assert child.returncode == 0
    assert time.monotonic() - before < total * size / (1 << 20) / 2
    assert command.acked[-1] == total


def test_other_commands_are_not_acknowledged(pods, sandboxctl):
    assert sandboxctl("run", "box", "make it").returncode == 0
    assert pods[0].made("AckLogs") == []


# ---- leaving


def test_detach_leaves_when_the_command_runs(pods, world, sandboxctl):
    world.next_command = lambda: Command([started()], finished=False)
    done = sandboxctl("run", "--detach", "box", "make it")
    assert done.returncode == 0
    assert done.stdout == pods[0].made("RunCommand")[0].command_id + "\n"


def test_detach_tells_of_a_command_that_cannot_start(world, sandboxctl):
    world.next_command = lambda: Command([
        started(pid=0), exited(2, code=127, reason="START_FAILED", message="no such program")])
    done = sandboxctl("run", "--detach", "box", "make it")
    assert (done.returncode, done.stdout) == (127, "")
    assert "no such program" in done.stderr


@pytest.fixture
def running(world, sandboxctl):
    """A command that goes on, and the sandboxctl that follows it."""
    command = Command([started(), event(2, stdout=b"ready\n")], finished=False)
    world.next_command = lambda: command
    child = sandboxctl.start("run", "--id=c", "box", "make it")
    assert child.stdout.readline() == "ready\n"
    yield child, command
    child.kill()
    child.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_go_to_the_command(running, number):
    child, command = running
    child.send_signal(number)
    wait_until(lambda: command.signals == [number])
    assert child.poll() is None
    command.append(exited(3, code=128 + number, signal=number, reason="SIGNALED"), finished=True)
    child.communicate(timeout=30)
    assert child.returncode == 128 + number


def test_the_third_signal_leaves(running):
    child, command = running
    for n in (1, 2):
        child.send_signal(signal.SIGINT)
        wait_until(lambda: len(command.signals) == n)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "sandboxctl logs -f --from=3 ID c" in said
    assert len(command.signals) == 2 and not command.finished


def test_output_that_waits_is_not_piled_up(world, sandboxctl):
    """Nobody reads it for a while: then no more of it is taken from the server."""
    n, chunk = 512, bytes(128 << 10)
    command = Command(
        [started(), *(event(i + 2, stdout=chunk) for i in range(n)), exited(n + 2)])
    world.next_command = lambda: command
    child = sandboxctl.start("run", "box", "make it", text=False)
    stands = {"at": 0, "since": 0}

    def stands_still():
        if command.served != stands["at"]:
            stands.update(at=command.served, since=time.monotonic())
        return stands["at"] and time.monotonic() - stands["since"] > 1

    wait_until(stands_still, 30)
    assert command.served < n / 4
    if not programs.is_sanitized("client/sandboxctl"):
        with open("/proc/%d/statm" % child.pid, encoding="ascii") as f:
            assert int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 48 << 20
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0 and len(out) == n * len(chunk)


def test_output_that_nobody_reads_ends_the_view(world, sandboxctl):
    command = Command([started()], finished=False)
    world.next_command = lambda: command
    child = sandboxctl.start("run", "--id=c", "box", "make it")
    wait_until(lambda: world.starts)
    child.stdout.close()
    command.append(event(2, stdout=b"x"))
    child.wait(timeout=30)
    assert child.returncode == 1
    assert "Broken pipe; the command c goes on" in child.stderr.read()
    child.stderr.close()
