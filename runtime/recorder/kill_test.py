"""The recorder killed between any two of its steps: from the claim to the end.

SANDBOXD_CHAOS_KILLS says how many times (60 unless set). With 1000, which take some minutes, each
system call of the claim, the run and the end is one at which it was killed.
"""

import collections
import os
import random
import shutil
import signal
import subprocess

import pytest

import driver
from driver import wait_for

KILL_AT = os.path.abspath("runtime/recorder/kill_at")
KILLS = int(os.environ.get("SANDBOXD_CHAOS_KILLS", "60"))
NUMBERS = b"".join(b"%d\n" % n for n in range(1, 41))


@pytest.fixture
def recorder():
    with driver.temporary() as r:
        yield r


def run_and_kill(recorder, id, line, n):
    """Runs a command, and kills what records it at its n-th system call. How many there were, and
    whether one of them was the last."""
    # A sanitizer's look for leaks and ptrace exclude each other.
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    done = subprocess.run(
        [KILL_AT, str(n), driver.RECORDER, "run", f"--state={recorder.state}",
         recorder.write_spec(recorder.command_spec(id, line)), "--until=closed"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=120)
    assert done.returncode in (0, 3), done.stderr
    return int(done.stderr.splitlines()[-1].split()[0]), done.returncode == 0


def choose_steps(total):
    """At which system calls: all over the run, each once before any comes twice."""
    r = random.Random(int(os.environ.get("SEED", "7")))
    every = list(range(1, total + 1)) * (KILLS // total)
    left = KILLS - len(every)
    # As evenly as can be, so that the few that CI has meet every part of it.
    return every + [int((i + r.random()) * total / left) + 1 for i in range(left)]


def processes_with(mark):
    """Those whose environment has it: the command's whole tree."""
    found = []
    for pid in os.listdir("/proc"):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark in f.read().split(b"\0"):
                    found.append(int(pid))
        except (OSError, ValueError):
            continue
    return found


def check_end(recorder, id):
    """Readers of all kinds see the same end, none waits for long, and nothing of it lives on."""
    readers = [recorder.popen("follow", f"--id={id}", "--until=closed") for _ in range(3)]
    outputs = {r.communicate(timeout=60)[0] for r in readers}
    assert [r.returncode for r in readers] == [0] * 3
    assert len(outputs) == 1
    events = driver.check(driver.parse(outputs.pop()))
    assert [e.kind for e in events].count("exited") == 1
    assert [e.kind for e in events[-2:]] == ["exited", "closed"]
    assert NUMBERS.startswith(driver.output(events))
    end = events[-2]
    if end.reason == driver.LOST:
        assert end.sub[4]
    else:
        assert end.reason == driver.EXITED and driver.output(events) == NUMBERS
    shown = recorder.show(id)
    assert shown[2] == 4 and shown[12] == events[-1].seq
    return events


def test_killed_at_every_step_it_ends_once_and_for_all(recorder):
    marks = recorder.state / "marks"
    os.mkdir(marks)
    os.chmod(marks, 0o777)

    def line(id):
        return (f"export MARK={recorder.state}/{id}; echo x >> {marks}/{id}; "
                "setsid sleep 1000 <&- >&- 2>&- & "  # leaves its session, but not its command
                "for n in $(seq 1 40); do echo $n; done; sleep 0.02; kill $!")

    total, killed = run_and_kill(recorder, "whole", line("whole"), 1_000_000)
    assert not killed and total > 200
    check_end(recorder, "whole")
    kinds = collections.Counter()
    for i, n in enumerate(choose_steps(total)):
        id = f"k{i}"
        run_and_kill(recorder, id, line(id), n)
        # What was stopped when its tracer left may still be on its way to the claim's end.
        done = recorder.verb("follow", f"--id={id}", "--until=now")
        if done.returncode == 3:
            kinds["never"] += 1
            # Those are looked through by every claim for a minute: that would shift the steps.
            for half_made in (recorder.state / "cmd").glob(".claim.*"):
                shutil.rmtree(half_made)
            again = recorder.run(id, line(id), "--until=closed")
            assert again[-2].reason == driver.EXITED and driver.output(again) == NUMBERS
        else:
            assert done.returncode == 0, done.stderr
            events = check_end(recorder, id)
            kinds[events[-2].reason if events[0].kind == "started" else "claimed"] += 1
            if events[0].kind != "started" and (marks / id).exists():
                assert b"may have begun" in events[-2].sub[4]
            # The id is used up: the same command attaches to what there is.
            assert recorder.run(id, line(id), "--until=closed") == events
        ran = (marks / id).read_text().count("x") if (marks / id).exists() else 0
        assert ran <= 1, f"it ran {ran} times, killed at {n}"
        wait_for(lambda: not processes_with(f"MARK={recorder.state}/{id}".encode()), 30)
    print("%d kills at %d steps: %s" % (KILLS, total, dict(kinds)))
    assert kinds["never"] and kinds["claimed"] and kinds[driver.LOST], kinds
    # Nothing half made is in anybody's way.
    assert recorder.verb("list", "--limit=10000").returncode == 0


def test_a_settler_that_is_killed_leaves_it_to_the_next(recorder):
    """Whoever finds a lost command ends it; when that one dies too, the next does."""
    env = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    r = random.Random(3)
    for i in range(max(KILLS // 4, 5)):
        id = f"s{i}"
        recorder.detach(id, "printf unfinished; sleep 1000")
        wait_for(lambda: driver.output(recorder.follow(id, "--until=now")) == b"unfinished")
        assert recorder.kill_writer(id)
        subprocess.run([KILL_AT, str(1 + r.randrange(150)), driver.RECORDER, "follow",
                        f"--state={recorder.state}", f"--id={id}", "--until=closed"],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, timeout=60)
        readers = [recorder.popen("follow", f"--id={id}", "--until=closed") for _ in range(3)]
        outputs = {f.communicate(timeout=60)[0] for f in readers}
        assert len(outputs) == 1
        events = driver.check(driver.parse(outputs.pop()))
        assert [e.kind for e in events if e.kind in ("exited", "closed")] == ["exited", "closed"]
        assert events[-2].reason == driver.LOST
        assert driver.output(events) == b"unfinished"
        lines = recorder.follow(id, "--until=closed", "--lines")
        assert driver.output(lines) == b"unfinished"


def test_a_signal_and_an_input_do_not_hang_on_a_killed_writer(recorder):
    recorder.detach("a", ["cat"], stdin=True)
    wait_for(lambda: recorder.writer("a"))
    os.kill(recorder.writer("a"), signal.SIGSTOP)
    verbs = [recorder.popen("signal", "--id=a", "--signal=15"),
             recorder.popen("ack", "--id=a", "--seq=1"),
             recorder.popen("wait", "--id=a", "--timeout-ms=60000"),
             recorder.popen("follow", "--id=a")]
    recorder.kill_writer("a")
    for v in verbs:
        v.communicate(timeout=30)
    assert verbs[0].returncode == 6 and verbs[2].returncode == verbs[3].returncode == 0
