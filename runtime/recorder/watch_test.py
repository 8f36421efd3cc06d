"""All commands in one stream: merged by time, then as they come, from any cursor on."""

import os
import random
import signal
import subprocess
import time

import pytest

import driver
from driver import block, wait_for

MIB = 1 << 20


@pytest.fixture
def recorder():
    with driver.temporary() as r:
        yield r


class Watch:
    """What a watcher saw: events of each command, checked for gaps, and the last cursor."""

    def __init__(self, cursor=b"", seen=None, sparse=False):
        self.cursor = cursor
        self.sparse = sparse  # events are left out
        self.events = {}  # id -> events
        self.order = []   # (time, id, seq), as they came
        self.messages = 0
        self.ended = False
        self.last = dict(seen or {})
        self.rest = b""

    def feed(self, data):
        self.rest += data
        while self.rest:
            try:
                tag, at = driver.read_varint(self.rest, 0)
                size, at = driver.read_varint(self.rest, at)
            except IndexError:
                return
            if tag == 0x78:
                assert size == 1
                self.ended, self.rest = True, self.rest[at:]
                assert not self.rest
                return
            assert tag == 0x0A and not self.ended
            if len(self.rest) < at + size:
                return
            self.take(self.rest[at:at + size])
            self.rest = self.rest[at + size:]

    def take(self, message):
        self.messages += 1
        frames, found = b"", {}
        for field, value in driver.fields(message):
            if field == 1:
                assert not found
                frames += block(1, value)
            else:
                found[field] = value
        events = driver.parse(frames)
        if events:
            id = found[3].decode()
            assert found[2] == events[-1].seq
            if self.sparse:
                assert events[0].seq > self.last.get(id, 0)
            else:
                driver.check(events, self.last.get(id, 0) + 1)
            self.last[id] = events[-1].seq
            self.events.setdefault(id, []).extend(events)
            self.order += [(e.time, id, e.seq) for e in events]
        if 4 in found:
            self.cursor = found[4]


def spec(recorder, cursor=b""):
    return recorder.write_spec(block(3, block(1, cursor) if cursor else b"") + block(15, "end"))


def watch(recorder, *options, cursor=b"", seen=None):
    done = recorder.verb("watch", spec(recorder, cursor), *options)
    assert done.returncode == 0, done.stderr
    w = Watch(cursor, seen, any("streams" in o or "since" in o for o in options))
    w.feed(done.stdout)
    assert w.ended and not w.rest
    return w


class Follow:
    """A watcher that goes on."""

    def __init__(self, recorder, *options, cursor=b"", seen=None):
        self.process = recorder.popen("watch", spec(recorder, cursor), "--follow", *options)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.seen = Watch(cursor, seen)

    def until(self, condition):
        def step():
            data = self.process.stdout.read()
            if data:
                self.seen.feed(data)
            return condition(self.seen)
        return wait_for(step)

    def kill(self):
        self.process.kill()
        self.process.wait()


def test_history_is_merged_by_time(recorder):
    runs = [recorder.start(f"c{i}", f"for n in 1 2 3 4 5; do echo {i}.$n; sleep 0.0{i}; done",
                           "--until=closed") for i in range(1, 6)]
    for r in runs:
        r.communicate()
    w = watch(recorder)
    assert w.order == sorted(w.order, key=lambda o: o[0]) and len(w.order) == 5 * 8
    for i in range(1, 6):
        assert w.events[f"c{i}"] == recorder.follow(f"c{i}", "--until=closed")


def test_every_cursor_goes_on_behind_its_message(recorder):
    for i in range(4):
        recorder.run(f"c{i}", f"for n in 1 2 3; do echo {i}.$n; sleep 0.01; done",
                     "--until=closed")
    done = recorder.verb("watch", spec(recorder))
    at, seen = 0, Watch()
    whole = watch(recorder)
    while at < len(done.stdout):
        tag, body = driver.read_varint(done.stdout, at)
        size, body = driver.read_varint(done.stdout, body)
        if tag == 0x78:
            break
        seen.take(done.stdout[body:body + size])
        at = body + size
        rest = watch(recorder, cursor=seen.cursor, seen=seen.last)
        assert seen.order + rest.order == whole.order
    assert watch(recorder, cursor=whole.cursor).order == []


def test_what_comes_is_shown_also_of_new_commands(recorder):
    recorder.run("before", "echo old")
    f = Follow(recorder)
    f.until(lambda w: "before" in w.events)
    recorder.detach("a", "echo a1; read -r x; echo a2", stdin=True)
    f.until(lambda w: driver.output(w.events.get("a", [])) == b"a1\n")
    recorder.detach("b", "echo b1")
    f.until(lambda w: w.events.get("b", [])[-1:] and w.events["b"][-1].kind == "closed")
    recorder.input("a", b"\n")
    f.until(lambda w: w.events["a"][-1].kind == "closed")
    assert driver.output(f.seen.events["a"]) == b"a1\na2\n"
    f.kill()


def test_a_watcher_that_is_killed_goes_on_from_its_cursor(recorder):
    line = "for n in $(seq 1 400); do echo $n; sleep 0.002; done"
    for i in range(5):
        recorder.detach(f"c{i}", line)
    cursor, seen, events, r = b"", {}, {}, random.Random(3)
    while not all(events.get(f"c{i}", [None])[-1:] != [None] and
                  events[f"c{i}"][-1].kind == "closed" for i in range(5)):
        f = Follow(recorder, cursor=cursor, seen=seen)
        until = time.monotonic() + r.random() * 0.3
        f.until(lambda w: time.monotonic() > until)
        f.kill()
        # Every message is small here and has its cursor: what came is what it says.
        cursor, seen = f.seen.cursor, f.seen.last
        for id, some in f.seen.events.items():
            events.setdefault(id, []).extend(some)
    for i in range(5):
        assert events[f"c{i}"] == recorder.follow(f"c{i}", "--until=closed")


def test_views_hold_for_all_commands(recorder):
    for i in range(3):
        recorder.run(f"c{i}", f"printf 'out{i} '; echo err{i} >&2; sleep 0.02; echo more{i}")
    w = watch(recorder, "--streams=stderr")
    assert {driver.output(e, "stderr") for e in w.events.values()} == {b"err0\n", b"err1\n", b"err2\n"}
    w = watch(recorder, "--lines", "--text")
    assert driver.text(w.events["c1"]) == "out1 more1\n"
    assert [e.sub.get(2) for e in w.events["c1"] if e.kind == "text" and e.sub.get(1) == 1] == [
        None, b"out1 more1\n"]
    everything = watch(recorder).order
    middle = everything[len(everything) // 2][0]
    assert watch(recorder, f"--since={middle}").order == [o for o in everything if o[0] >= middle]
    part = watch(recorder, f"--before={middle}")
    assert part.order == [o for o in everything if o[0] < middle]
    # What was cut off by time is not what was seen.
    assert part.order + watch(recorder, cursor=part.cursor, seen=part.last).order == everything
    part = watch(recorder, "--limit-bytes=12")
    assert 12 <= sum(len(e.data) for es in part.events.values() for e in es
                     if e.kind in ("stdout", "stderr")) < 20
    assert part.order + watch(recorder, cursor=part.cursor, seen=part.last).order == everything


def test_a_lost_command_is_ended_for_the_watcher_too(recorder):
    recorder.detach("a", "echo hello; sleep 1000")
    f = Follow(recorder)
    f.until(lambda w: driver.output(w.events.get("a", [])) == b"hello\n")
    recorder.kill_writer("a")
    f.until(lambda w: w.events["a"][-1].kind == "closed")
    assert f.seen.events["a"][-2].reason == driver.LOST
    assert f.seen.events["a"] == recorder.follow("a", "--until=closed")
    f.kill()


def test_many_commands_and_much_output(recorder):
    for i in range(60):
        recorder.detach(f"c{i}", f"head -c {i * 3000} /dev/zero")
    for i in range(60):
        recorder.verb("wait", f"--id=c{i}", "--until=closed", "--timeout-ms=60000")
    w = watch(recorder)
    assert sum(len(e.data) for es in w.events.values() for e in es if e.kind == "stdout") == \
        sum(i * 3000 for i in range(60))
    # Few messages have the cursor, which is large by now; the last one has.
    assert watch(recorder, cursor=w.cursor).order == []


@pytest.mark.parametrize("cursor", [b"\xff", b"x", block(1, b""), block(1, block(1, "../up")),
                                    block(1, block(1, "a")) * 2, block(1, b"\x0a\x05a")])
def test_a_cursor_of_others_is_refused(recorder, cursor):
    recorder.run("a", "true")
    done = recorder.verb("watch", spec(recorder, cursor))
    assert done.returncode == 9 and b"cursor" in done.stderr


def test_a_watcher_without_a_reader_leaves(recorder):
    recorder.detach("a", "sleep 1000")
    f = Follow(recorder)
    f.until(lambda w: "a" in w.events)
    f.process.stdout.close()
    assert f.process.wait(20) == 0
    recorder.signal("a", signal.SIGKILL)


def test_an_empty_sandbox_has_nothing_to_show(recorder):
    assert watch(recorder).order == []
    f = Follow(recorder)
    with pytest.raises(subprocess.TimeoutExpired):
        f.process.wait(0.3)
    f.kill()
