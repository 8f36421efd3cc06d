"""Watches of directories: what changes, as events of a journal that can be read again."""

import os
import shutil
import signal
import time

import pytest

import driver
from driver import block, number, wait_for

CREATED, WRITTEN, REMOVED, RENAMED, MODE, READY, MISSED = range(1, 8)


@pytest.fixture
def recorder():
    with driver.temporary() as r:
        r.kind = "watch"
        yield r


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    path.mkdir()
    return path


def spec(recorder, tree, id="w", recursive=True, unread_ms=0, max_bytes=0):
    message = block(1, id) + block(2, "sandbox") + block(3, b"\x01")
    message += number(10, 2) + number(12, max_bytes)
    message += block(23, str(tree)) + number(24, int(recursive)) + number(25, unread_ms)
    return recorder.write_spec(block(1, message) + block(15, "end"))


def change(event):
    """(type, path, new path, is a directory, reason)"""
    found = dict(driver.fields(event.data))
    return (found[1], found.get(2, b"").decode(), found.get(3, b"").decode(), bool(found.get(4)),
            found.get(5, b"").decode())


def short(events):
    """(type, path[, new path]) of each change."""
    changes = [change(e) for e in events if e.kind == "stdout"]
    return [(c[0], c[1]) + ((c[2],) if c[0] == RENAMED else ()) for c in changes]


def whole(data):
    """Without a frame that is still on its way."""
    at = 0
    while at < len(data):
        try:
            size, body = driver.read_varint(data, at + 1)
        except IndexError:
            break
        end = body if data[at] != 0x0A else body + size
        if end > len(data):
            break
        at = end
    return data[:at]


class Watch:
    """A watch that is followed."""

    def __init__(self, recorder, tree, **fields):
        self.recorder, self.id = recorder, fields.get("id", "w")
        self.process = recorder.popen("run", spec(recorder, tree, **fields), "--watches",
                                      "--until=closed")
        os.set_blocking(self.process.stdout.fileno(), False)
        self.data, self.parsed = b"", []
        self.until(lambda seen: (READY, "") in seen)

    def events(self):
        self.data += self.process.stdout.read() or b""
        new = whole(self.data)
        self.data = self.data[len(new):]
        self.parsed += driver.parse(new)
        return self.parsed

    def until(self, condition):
        def holds():
            before = len(self.parsed)
            return (len(self.events()) > before or before == 0) and condition(short(self.parsed))
        if not condition(short(self.events())):
            wait_for(holds)
        return self.seen()

    def seen(self):
        """Since it was ready."""
        seen = short(self.events())
        return seen[seen.index((READY, "")) + 1:]

    def stop(self):
        self.recorder.verb("signal", "--watches", "--id=" + self.id, "--signal=9")
        self.process.communicate(timeout=30)
        wait_for(lambda: not self.recorder.writer(self.id))


@pytest.fixture
def watch(recorder):
    made = []

    def make(tree, **fields):
        made.append(Watch(recorder, tree, **fields))
        return made[-1]

    yield make
    for w in made:
        w.stop()


def test_changes_are_told_in_order(watch, tree):
    (tree / "old").write_text("x")
    w = watch(tree)
    (tree / "a").write_text("hello")
    w.until(lambda seen: (WRITTEN, "a") in seen)
    (tree / "a").chmod(0o600)
    (tree / "a").rename(tree / "b")
    (tree / "b").unlink()
    (tree / "old").rename(tree.parent / "left")
    (tree.parent / "left").rename(tree / "back")
    seen = w.until(lambda seen: (CREATED, "back") in seen)
    assert [c for c in seen if c[1] != "old" or c[0] != MODE] == [
        (CREATED, "a"), (WRITTEN, "a"), (MODE, "a"), (RENAMED, "a", "b"), (REMOVED, "b"),
        (RENAMED, "old", ""), (CREATED, "back")]
    driver.check(w.events())


def test_directories_that_come_are_watched_with_what_they_hold(watch, tree, tmp_path):
    w = watch(tree)
    # Made, filled and moved as fast as can be: nothing may be missed, nor told twice.
    for i in range(30):
        deep = tree / ("d%d" % i) / "e" / "f"
        deep.mkdir(parents=True)
        (deep / "file").write_text("x")
    ready = tmp_path / "ready"
    (ready / "in").mkdir(parents=True)
    (ready / "in" / "file").write_text("x")
    ready.rename(tree / "came")
    (tree / "last").touch()
    seen = w.until(lambda seen: (CREATED, "last") in seen)
    for i in range(30):
        for path in "", "/e", "/e/f", "/e/f/file":
            assert seen.count((CREATED, "d%d%s" % (i, path))) == 1
        assert (WRITTEN, "d%d/e/f/file" % i) in seen
    for path in "came", "came/in", "came/in/file":
        assert seen.count((CREATED, path)) == 1
    # Under their new names.
    (tree / "came").rename(tree / "gone")
    w.until(lambda seen: (RENAMED, "came", "gone") in seen)
    (tree / "gone" / "in" / "more").touch()
    w.until(lambda seen: (CREATED, "gone/in/more") in seen)
    # And not where they are none of ours any more.
    (tree / "gone").rename(tmp_path / "away")
    w.until(lambda seen: (RENAMED, "gone", "") in seen)
    (tmp_path / "away" / "in" / "unseen").touch()
    (tree / "end").touch()
    assert not any("unseen" in c[1] for c in w.until(lambda seen: (CREATED, "end") in seen))


def test_without_recursion_only_the_directory_itself(watch, tree):
    (tree / "sub").mkdir()
    w = watch(tree, recursive=False)
    (tree / "sub" / "deep").touch()
    (tree / "new").mkdir()
    (tree / "new" / "deep").touch()
    (tree / "end").touch()
    assert [c for c in w.until(lambda seen: (CREATED, "end") in seen) if c[0] == CREATED] == [
        (CREATED, "new"), (CREATED, "end")]


def test_it_can_be_read_again_and_from_anywhere(recorder, watch, tree):
    w = watch(tree)
    for i in range(20):
        (tree / ("f%d" % i)).touch()
    w.until(lambda seen: (CREATED, "f19") in seen)
    w.process.kill()
    # The same watch, without anything missed in between.
    (tree / "between").touch()
    again = Watch(recorder, tree)
    again.until(lambda seen: (CREATED, "between") in seen)
    events = again.events()
    driver.check(events)
    part = recorder.verb("follow", "--watches", "--id=w", "--from=10", "--until=now").stdout
    assert [e.seq for e in driver.parse(part)][:1] == [10]
    again.process.kill()
    # It is no command.
    assert recorder.verb("list").stdout == b""
    assert recorder.verb("show", "--id=w").returncode == 3


def test_it_ends_with_the_directory(watch, tree):
    w = watch(tree)
    shutil.rmtree(tree)
    w.process.wait(30)
    events = w.events()
    assert short(events)[-1] == (REMOVED, "") and events[-1].kind == "closed"


def test_it_ends_when_nobody_reads_it(recorder, tree):
    w = Watch(recorder, tree, unread_ms=1000)
    time.sleep(2)  # while somebody does, it goes on
    (tree / "a").touch()
    w.until(lambda seen: (CREATED, "a") in seen)
    w.process.kill()
    w.process.communicate()
    (tree / "b").touch()

    wait_for(lambda: not recorder.writer("w"))
    events = driver.parse(recorder.verb("follow", "--watches", "--id=w", "--until=now").stdout)
    assert events[-1].kind == "closed"
    assert (CREATED, "b") in short(events)
    assert [e.reason for e in events if e.kind == "exited"] == [4]


def test_names_may_be_anything(watch, tree):
    w = watch(tree)
    open(os.fsencode(str(tree)) + b"/odd\xffname", "w").close()
    w.until(lambda seen: any(c[1].startswith("odd") for c in seen))
    (tree / ("x" * 255)).touch()
    w.until(lambda seen: (CREATED, "x" * 255) in seen)


def test_what_is_full_says_what_is_gone(recorder, watch, tree):
    w = watch(tree, max_bytes=1 << 20)
    for i in range(6000):
        (tree / ("%s-%d" % ("n" * 200, i % 10))).touch()
    (tree / "end").touch()
    w.until(lambda seen: (CREATED, "end") in seen)
    done = recorder.verb("follow", "--watches", "--id=w", "--until=now").stdout
    events = driver.parse(done)
    assert events[0].kind in ("dropped", "started")
    driver.check(events)


def test_more_than_the_kernel_keeps_is_told(recorder, watch, tree):
    """The process is stopped while more happens than its queue holds."""
    w = watch(tree)
    writer = recorder.writer("w")
    with open("/proc/%d/task/%d/children" % (writer, writer)) as f:
        child = int(f.read().split()[0])
    os.kill(child, signal.SIGSTOP)
    with open("/proc/sys/fs/inotify/max_queued_events") as f:
        limit = int(f.read())
    for i in range(limit // 2 + 100):
        path = tree / ("f%d" % (i % 2))
        path.touch()
        path.unlink()
    (tree / "new").mkdir()
    os.kill(child, signal.SIGCONT)
    w.until(lambda seen: (MISSED, "") in seen)
    # From then on nothing is missed again, also in what was made meanwhile.
    (tree / "new" / "file").touch()
    w.until(lambda seen: (CREATED, "new/file") in seen)


@pytest.mark.parametrize("path,code", [("missing", 17), ("file", 19)])
def test_what_is_no_directory_is_refused(recorder, tree, path, code):
    (tree / "file").touch()
    done = recorder.verb("run", spec(recorder, tree / path), "--watches")
    assert done.returncode == code and done.stdout == b""
