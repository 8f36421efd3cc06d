"""Two versions of the recorder in one sandbox: the newer one takes over what the older one began."""

import os
import shutil
import signal

import pytest

import driver
from driver import wait_for

NEXT = os.path.abspath("runtime/recorder/recorder_next")


@pytest.fixture
def versions(tmp_path):
    """The older recorder, installed where it can be removed, and the newer one."""
    with driver.temporary() as r:
        old = str(tmp_path / "recorder-old")
        shutil.copy(driver.RECORDER, old)
        r.program = old
        yield r, driver.Recorder(r.state, NEXT)
        r.program = driver.RECORDER


def test_they_are_two(versions):
    old, new = versions
    said = [r.verb("version").stdout for r in (old, new)]
    assert said[0] != said[1] and b"format 3" in said[1]


def test_an_older_writer_goes_on_and_is_driven_by_the_newer(versions):
    old, new = versions
    old.detach("a", "echo first; read -r x; echo \"[$x]\"; exec sleep 1000", stdin=True)
    os.unlink(old.program)  # its file is gone; the writer lives
    events = new.popen("follow", "--id=a")
    assert new.input("a", b"hello\n").stdout == b"6\n"
    wait_for(lambda: driver.output(new.follow("a", "--until=now")) == b"first\n[hello]\n")
    tail = new.verb("follow", "--id=a", "--until=now", "--tail-lines=1").stdout
    assert driver.output(driver.parse(tail)) == b"[hello]\n"
    shown = new.show("a")
    assert shown[2] == 2 and shown[21] == 6
    assert new.ack("a", 2).stdout == b"2\n"
    assert new.signal("a", signal.SIGTERM).returncode == 0
    out, err = events.communicate()
    assert driver.check(driver.parse(out))[-1].sub[3] == signal.SIGTERM, err
    new.verb("wait", "--id=a", "--until=closed", "--timeout-ms=60000")
    assert new.show("a")[2] == 4


def test_a_terminal_of_the_older_is_resized_by_the_newer(versions):
    old, new = versions
    spec = driver.block(1, driver.block(1, "t") + driver.block(2, "sandbox") +
                        b"".join(driver.block(4, a) for a in
                                 ["/bin/bash", "-c", "read -r x; stty size"]) +
                        driver.number(13, 1) + driver.number(14, 80) + driver.number(15, 24))
    assert old.verb("run", old.write_spec(spec + driver.block(15, "end")),
                    "--until=now").returncode == 0
    assert new.verb("resize", "--id=t", "--cols=100", "--rows=40").returncode == 0
    new.input("t", b"\r")
    events = new.follow("t")
    assert driver.output(events, "terminal").endswith(b"40 100\r\n")


def test_the_same_id_joins_the_older_run(versions):
    old, new = versions
    marks = old.state / "marks"
    line = f"echo x >> {marks}; echo done"
    first = old.run("a", line)
    assert new.run("a", line) == first
    assert marks.read_text() == "x\n"
    assert new.verb("run", new.write_spec(
        new.command_spec("a", line, digest=b"other"))).returncode == 4


def test_an_older_writer_that_is_lost_is_ended_by_the_newer(versions):
    old, new = versions
    old.detach("a", "printf unfinished; sleep 1000")
    wait_for(lambda: driver.output(new.follow("a", "--until=now")) == b"unfinished")
    assert old.kill_writer("a")
    events = new.follow("a", "--until=closed")
    assert events[-2].reason == driver.LOST
    assert old.follow("a", "--until=closed") == events


def test_both_write_side_by_side_and_the_newer_shows_all(versions):
    old, new = versions
    for i in range(6):
        (old, new)[i % 2].run(f"c{i}", f"echo {i}")
    assert [driver.output(new.follow(f"c{i}")) for i in range(6)] == [b"%d\n" % i for i in range(6)]
    listed = new.verb("list")
    assert len(list(driver.fields(listed.stdout))) == 6
    assert new.verb("prune", "--max-commands=2").stdout.startswith(b"4 ")


def test_an_older_reader_says_that_it_is_too_old(versions):
    """A pod of the older version: another one can read it, so the client is sent there."""
    old, new = versions
    new.run("a", "echo hello")
    for verb in (["follow", "--id=a"],
                 ["watch", old.write_spec(driver.block(3, b"") + driver.block(15, "end"))]):
        done = old.verb(*verb)
        assert done.returncode == 16 and b"newer" in done.stderr
    assert old.verb("run", old.write_spec(old.command_spec("a", "echo hello"))).returncode == 16
    # What it can do without reading the journal it does.
    assert old.show("a")[2] == 4
