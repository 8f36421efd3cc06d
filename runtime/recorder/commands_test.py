"""What a command is given, how it ends, and what can be done with it meanwhile."""

import os
import signal
import subprocess
import threading
import time

import pytest

import driver
from driver import wait_for

USER = "nobody"


@pytest.fixture
def recorder():
    with driver.temporary() as r:
        yield r


def test_version_and_help_are_printed():
    out = subprocess.run([driver.RECORDER, "--version"], stdout=subprocess.PIPE, check=True).stdout
    assert out.startswith(b"recorder ")
    out = subprocess.run([driver.RECORDER, "version"], stdout=subprocess.PIPE, check=True).stdout
    assert b"format 2" in out
    out = subprocess.run([driver.RECORDER, "--help"], stdout=subprocess.PIPE, check=True).stdout
    assert b"follow" in out


def test_output_and_exit_code_are_recorded(recorder):
    events = recorder.run("a", "echo out; echo err >&2; exit 7")
    assert events[0].kind == "started" and events[0].sub[1] > 0
    assert driver.output(events) == b"out\n"
    assert driver.output(events, "stderr") == b"err\n"
    assert events[-1].reason == driver.EXITED and events[-1].code == 7
    closed = recorder.follow("a", "--until=closed")
    assert closed[:-1] == events and closed[-1].kind == "closed"


def test_every_from_seq_gives_the_rest(recorder):
    recorder.run("a", "for i in 1 2 3 4 5; do echo $i; sleep 0.01; done")
    events = recorder.follow("a", "--until=closed")
    for first in range(1, len(events) + 3):
        assert recorder.follow("a", "--until=closed", first=first) == events[first - 1:]
    assert recorder.follow("a", first=len(events)) == []


def test_a_second_run_attaches(recorder):
    marks = recorder.state / "marks"
    line = f"echo x >> {marks}; sleep 0.2; echo done"
    first = recorder.run("a", line)
    assert recorder.run("a", line) == first
    assert marks.read_text() == "x\n"


def test_64_concurrent_runs_start_once(recorder):
    marks = recorder.state / "marks"
    runs = [recorder.start("a", f"echo x >> {marks}; echo done") for _ in range(64)]
    outputs = {r.communicate()[0] for r in runs}
    assert [r.returncode for r in runs] == [0] * 64
    assert marks.read_text() == "x\n"
    assert len(outputs) == 1
    assert not [n for n in os.listdir(recorder.state / "cmd") if n.startswith(".")]


def test_another_command_with_the_id_is_refused(recorder):
    recorder.run("a", "true", digest=b"\xab\xcd")
    done = recorder.verb("run", recorder.write_spec(
        recorder.command_spec("a", "false", digest=b"\x00")))
    assert done.returncode == 4
    digest, sentence = done.stderr.decode().splitlines()
    assert digest == "abcd" and "another" in sentence


def test_the_id_of_another_sandbox_can_only_be_read(recorder):
    recorder.run("a", "echo hello", sandbox="parent")
    done = recorder.verb("run", recorder.write_spec(recorder.command_spec("a", "echo hello")))
    assert done.returncode == 12 and b"parent" in done.stderr
    for verb in (["signal", "--signal=9"], ["ack", "--seq=1"]):
        assert recorder.verb(*verb, "--id=a", "--sandbox=sandbox").returncode == 12
    assert driver.output(recorder.follow("a")) == b"hello\n"


@pytest.mark.parametrize("args, spec, code, words", [
    (["no-such-program"], {}, 127, "not found"),
    (["/no/such/program"], {}, 127, "does not exist"),
    (["/etc/passwd"], {}, 126, "cannot be run"),
    (["/tmp"], {}, 126, "cannot be run"),
    ("true", {"cwd": "/no/such/directory"}, 126, "/no/such/directory"),
    ("true", {"user": "no-such-user"}, 126, "no-such-user"),
])
def test_what_cannot_start_says_why(recorder, args, spec, code, words):
    events = recorder.run("a", args, **spec)
    assert [e.kind for e in events] == ["started", "exited"]
    assert events[0].sub == {}
    assert events[1].reason == driver.START_FAILED and events[1].code == code
    assert words in events[1].sub[4].decode()
    assert 7 not in recorder.show("a")


def test_a_missing_interpreter_is_named(recorder):
    script = recorder.state / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    end = recorder.run("a", [str(script)])[-1]
    assert end.code == 126 and b"interpreter" in end.sub[4]


def test_the_environment_is_the_users_then_the_sandboxs_then_its_own(recorder):
    env = {"PATH": os.environ["PATH"], "HOME": "/root/elsewhere", "USER": "x", "SANDBOX_WIDE": "1",
           "BOTH": "sandbox"}
    spec = recorder.command_spec("a", ["env"], user=USER, envs=["BOTH=command", "EMPTY=", "A=b=c"])
    done = recorder.verb("run", recorder.write_spec(spec), env=env)
    lines = driver.output(driver.parse(done.stdout)).decode().splitlines()
    for line in ("USER=nobody", "LOGNAME=nobody", "SANDBOX_WIDE=1", "BOTH=command", "EMPTY=",
                 "A=b=c"):
        assert lines.count(line) == 1
    assert not [l for l in lines if "elsewhere" in l]


def test_the_command_runs_as_its_user_in_its_directory(recorder):
    events = recorder.run("a", "id -un; pwd; umask; cat; ps -o sid= -p $$ | grep -cw $$",
                          user=USER, cwd="/usr/lib")
    assert driver.output(events).split() == [b"nobody", b"/usr/lib", b"0022", b"1"]


def test_defaults_are_for_what_a_command_leaves_open(recorder):
    done = recorder.verb("setup", f"--default-user={USER}", "--default-cwd=/usr/lib")
    assert done.returncode == 0
    line = "id -un; pwd"
    assert driver.output(recorder.run("a", line)) == b"nobody\n/usr/lib\n"
    assert driver.output(recorder.run("b", line, user="root", cwd="/etc")) == b"root\n/etc\n"
    assert recorder.show("a")[5] == b"nobody"


def test_values_and_specs_do_not_stay(recorder):
    recorder.run("a", "true", envs=["TOKEN=very-secret"])
    assert recorder.show("a")[6] == b"TOKEN"
    assert os.listdir(recorder.state / "spec") == []
    for path, _, names in os.walk(recorder.state):
        for name in names:
            with open(os.path.join(path, name), "rb") as f:
                assert b"very-secret" not in f.read()


def test_others_can_change_nothing(recorder):
    line = (f"cd {recorder.state} || exit 9; for f in . spec cmd cmd/a cmd/a/*; do "
            "[ -w $f ] && echo writable $f; done; ls spec; ls cmd/a; kill -9 $PPID; exit 5")
    events = recorder.run("a", line, user=USER)
    assert driver.output(events) == b"" and events[-1].code == 5
    assert driver.output(events, "stderr").count(b"ermission denied") == 2
    assert driver.output(events, "stderr").count(b"not permitted") == 1


def test_a_spec_is_waited_for_while_it_grows(recorder):
    data = recorder.command_spec("a", "echo whole", envs=["PADDING=" + "end" * 10000])
    path = recorder.spec_path()
    run = recorder.popen("run", f"--spec={path}")
    with open(path, "wb", buffering=0) as f:
        for at in range(0, len(data), 5000):
            f.write(data[at:at + 5000])
            time.sleep(0.01)
    out, err = run.communicate()
    assert driver.output(driver.parse(out)) == b"whole\n", err
    assert not path.exists()


@pytest.mark.parametrize("data", [
    driver.block(1, driver.block(4, "true")) + driver.block(15, "end"),
    driver.block(1, driver.block(1, "../up") + driver.block(4, "true")) + driver.block(15, "end"),
    driver.block(1, driver.block(1, "a") + driver.block(4, "tr\0ue")) + driver.block(15, "end"),
    driver.block(1, driver.block(1, "a") + driver.block(4, "t") + driver.block(5, "=x")) +
    driver.block(15, "end"),
    driver.block(1, b"\xff\xff") + driver.block(15, "end"),
])
def test_a_bad_spec_is_refused(recorder, data):
    done = recorder.verb("run", recorder.write_spec(data))
    assert done.returncode == 9 and done.stderr
    assert os.listdir(recorder.state / "spec") == []


def test_bad_arguments_are_told(recorder):
    for args in (["follow"], ["run"], ["signal", "--id=a"], ["ack", "--id=a"], ["nonsense"],
                 ["follow", "--id=../a"], ["follow", "--id=a", "--until=never"]):
        assert recorder.verb(*args).returncode == 2
    for verb in (["follow"], ["show"], ["ack", "--seq=1"], ["signal", "--signal=9"]):
        assert recorder.verb(*verb, "--id=unknown").returncode == 3


def test_stdin_is_written_in_order_and_closed(recorder):
    run = recorder.start("a", ["cat"], stdin=True)
    wait_for(lambda: recorder.dir("a").exists())
    blob = os.urandom(300_000)
    assert recorder.input("a", b"one ").stdout == b"4\n"
    assert recorder.input("a", blob).stdout == b"300004\n"
    assert recorder.input("a", b"two", eof=True).stdout == b"300007\n"
    events = driver.check(driver.parse(run.communicate()[0]))
    assert driver.output(events) == b"one " + blob + b"two"
    assert recorder.input("a", b"late").returncode == 6


def test_stdin_that_is_not_there_or_not_read(recorder):
    recorder.detach("none", "sleep 100")
    assert recorder.input("none", b"x").returncode == 7
    recorder.detach("closed", "exec <&-; echo; sleep 100", stdin=True)
    wait_for(lambda: len(recorder.follow("closed", "--until=now")) >= 2)
    assert recorder.input("closed", b"x").returncode == 7
    recorder.detach("full", "sleep 100", stdin=True)
    done = recorder.input("full", b"x" * 1_000_000)
    assert done.returncode == 8 and 0 < int(done.stdout) < 1_000_000


def test_without_stdin_it_is_empty(recorder):
    assert driver.output(recorder.run("a", "cat; echo end")) == b"end\n"


def test_signals_reach_process_group_and_tree(recorder):
    line = ("trap 'echo main' USR1; (trap 'echo child; exit' USR1; echo ready; while :; do sleep "
            "0.05; done) & (setsid bash -c \"trap 'echo away; exit' USR1; echo ready; while :; do "
            "sleep 0.05; done\") & while :; do sleep 0.05; done")
    recorder.detach("a", line)

    def out():
        return driver.output(recorder.follow("a", "--until=now")).split()

    wait_for(lambda: out().count(b"ready") == 2)
    assert recorder.signal("a", signal.SIGUSR1, "process").returncode == 0
    wait_for(lambda: b"main" in out())
    assert b"child" not in out()
    # sleep has no handler: the group loses it, which is why the shells loop.
    assert recorder.signal("a", signal.SIGUSR1, "group").returncode == 0
    wait_for(lambda: b"child" in out())
    assert b"away" not in out()
    assert recorder.signal("a", signal.SIGUSR1, "tree").returncode == 0
    wait_for(lambda: b"away" in out())
    assert recorder.signal("a", signal.SIGKILL).returncode == 0
    end = recorder.follow("a")[-1]
    assert end.reason == driver.KILLED and end.code == 137 and end.sub[3] == 9
    assert recorder.signal("a", signal.SIGKILL, "process").returncode == 6


def test_a_signal_of_its_own_is_told_apart(recorder):
    end = recorder.run("a", "kill -SEGV $$")[-1]
    assert end.reason == driver.SIGNALED and end.code == 139 and end.sub[3] == 11


def test_timeout_ends_politely_first(recorder):
    end = recorder.run("a", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.02; done",
                       timeout_ms=300)
    assert driver.output(end) == b"bye\n"
    assert end[-1].reason == driver.TIMED_OUT and end[-1].code == 3


def test_timeout_kills_the_whole_tree_after_the_grace(recorder):
    begin = time.monotonic()
    events = recorder.run("a", "trap '' TERM; setsid bash -c \"trap '' TERM; echo $$; sleep 100\" & "
                               "while :; do sleep 0.05; done",
                          "--until=closed", timeout_ms=200, grace_ms=300)
    assert events[-2].reason == driver.TIMED_OUT and events[-2].code == 137
    assert 0.5 <= time.monotonic() - begin < 60


def test_background_output_goes_on_after_the_exit(recorder):
    begin = time.monotonic()
    events = recorder.run("a", "(sleep 1; echo later) & echo now")
    assert time.monotonic() - begin < 1
    assert driver.output(events) == b"now\n"
    assert recorder.show("a")[2] == 3  # EXITED, not CLOSED
    events = recorder.follow("a", "--until=closed")
    assert [e.kind for e in events[-3:]] == ["exited", "stdout", "closed"]
    assert driver.output(events) == b"now\nlater\n"


def test_a_followers_death_does_not_matter(recorder):
    run = recorder.start("a", "echo one; read x; echo two", stdin=True)
    assert run.stdout.read(10)
    run.kill()
    run.communicate()
    recorder.input("a", b"\n")
    assert driver.output(recorder.follow("a")) == b"one\ntwo\n"


def test_a_follower_ends_when_nobody_reads_it(recorder):
    recorder.detach("a", "sleep 100")
    follower = recorder.popen("follow", "--id=a")
    assert follower.stdout.read(10)
    follower.stdout.close()
    follower.wait(timeout=30)


def test_many_followers_see_the_same(recorder):
    run = recorder.start("a", "for i in {1..2000}; do echo $i; done; sleep 0.1; echo end")
    wait_for(lambda: recorder.dir("a").exists())
    followers = [recorder.popen("follow", "--id=a") for _ in range(10)]
    outputs = {f.communicate()[0] for f in followers} | {run.communicate()[0]}
    assert len(outputs) == 1
    want = b"".join(b"%d\n" % i for i in range(1, 2001)) + b"end\n"
    assert driver.output(driver.check(driver.parse(outputs.pop()))) == want


def test_list_is_in_pages_oldest_first(recorder):
    for i in range(7):
        recorder.run(f"c{(i * 3) % 7}", "true")
    seen, after = [], None
    while True:
        done = recorder.verb("list", "--limit=3", *([f"--after={after}"] if after else []))
        page = [driver.message(c) for _, c in driver.fields(done.stdout)]
        if not page:
            break
        seen += [c[1].decode() for c in page]
        start = driver.message(page[-1][8])
        after = f"{start[1] * 10**9 + start.get(2, 0)}:{seen[-1]}"
    assert seen == [f"c{(i * 3) % 7}" for i in range(7)]
    assert recorder.verb("list", "--after=nonsense").returncode == 2


def test_a_list_is_kept_small(recorder):
    long = "\u20ac" * 3000
    recorder.run("a", ["true", long, "more"], envs=[f"N{i:04}=x" for i in range(2000)])
    (_, frame), = driver.fields(recorder.verb("list").stdout)
    fields = list(driver.fields(frame))
    args = [v.decode() for k, v in fields if k == 3]
    assert args[0] == "true" and len(args) == 2 and args[1] == long[:len(args[1])]
    assert 4090 <= sum(len(a.encode()) for a in args) <= 4096
    assert 4090 <= sum(len(v) for k, v in fields if k == 6) <= 4096
    assert len(recorder.show("a")[6]) == 5  # show has all: the last name, in full


def test_show_tells_what_is_known(recorder):
    recorder.run("a", ["sh", "-c", "exit 4"], cwd="/tmp", user=USER, digest=b"\x09" * 32)
    command = recorder.show("a")
    assert command[1] == b"a" and command[2] == 4 and command[4] == b"/tmp"
    assert command[5] == b"nobody" and command[17] == b"\x09" * 32
    assert driver.message(command[10])[2] == 4
    assert command[11] == 1 and command[12] == 3
    assert command[18] == (1 if os.geteuid() == 0 else 0)


def test_acks_only_grow_and_stay_in_range(recorder):
    recorder.detach("a", "echo x; read y", stdin=True)
    wait_for(lambda: recorder.show("a").get(12) == 2)
    assert recorder.ack("a", 2).stdout == b"2\n"
    assert recorder.ack("a", 1).stdout == b"2\n"
    assert recorder.ack("a", 3).returncode == 11
    assert recorder.show("a")[16] == 2
    recorder.input("a", eof=True)
    recorder.follow("a", "--until=closed")
    wait_for(lambda: not recorder.writer("a"))
    assert recorder.ack("a", 1).stdout == b"2\n"
    assert recorder.ack("a", 4).stdout == b"4\n"
    assert recorder.ack("a", 5).returncode == 11
    assert recorder.show("a")[16] == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_an_ordinary_user_has_a_recorder_of_its_own(recorder):
    home = recorder.state / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    program = home / "recorder"
    program.write_bytes(open(driver.RECORDER, "rb").read())
    program.chmod(0o755)

    def run(spec):
        path = home / "spec"
        path.write_bytes(spec)
        os.chown(path, 65534, 65534)
        done = subprocess.run([program, "run", f"--spec={path}"], user=65534, group=65534,
                              extra_groups=[], env={"HOME": str(home), "PATH": os.environ["PATH"]},
                              cwd="/", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        return driver.check(driver.parse(done.stdout))

    assert driver.output(run(recorder.command_spec("a", "id -un"))) == b"nobody\n"
    end = run(recorder.command_spec("b", "id -un", user="root"))[-1]
    assert end.reason == driver.START_FAILED and b"no root" in end.sub[4]
    assert (home / ".sandboxd" / "cmd" / "a" / "meta").exists()
