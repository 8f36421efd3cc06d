"""What the journal promises: nothing lost, nothing twice, and what is gone is counted."""

import os
import random
import signal
import subprocess
import time

import pytest

import driver
from driver import BLOCK, DROP_OLDEST, KEEP_UP, wait_for

MIB = 1 << 20

# Writes argv[2] bytes on both streams in chunks of random size, each stream a sequence of its own.
WRITER = """
import os, random, sys
r = random.Random(int(sys.argv[1]))
left, counts = int(sys.argv[2]), [0, 0]
largest = int(sys.argv[3])
while left > 0:
    stream = r.choice([0, 0, 0, 1])
    n = min(left, r.randint(1, largest))
    data = bytes((counts[stream] + i) * 7 % 251 for i in range(n))
    while data:
        done = os.write(stream + 1, data)
        counts[stream] += done
        data = data[done:]
    left -= n
"""


def sequence(first, n):
    block = bytes(i * 7 % 251 for i in range(251))
    first %= 251
    return (block * (n // 251 + 2))[first:first + n]


def writes(seed, total, largest=50_000):
    return ["/usr/bin/python3", "-c", WRITER, str(seed), str(total), str(largest)]


def verify_content(events):
    """Every output event holds what was written at its offset, and offsets follow each other."""
    offsets = {}
    for e in events:
        if e.kind in ("stdout", "stderr"):
            assert e.data == sequence(e.offset, len(e.data))
            assert offsets.get(e.kind, e.offset) == e.offset
            offsets[e.kind] = e.offset + len(e.data)
        elif e.kind == "dropped":
            offsets = {}


def size(events):
    return sum(len(e.data) for e in events if e.kind in ("stdout", "stderr"))


def dropped(events):
    return sum(e.dropped[2] for e in events if e.kind == "dropped")


@pytest.fixture
def recorder():
    with driver.temporary() as r:
        yield r


def test_random_writes_are_recorded_as_they_were(recorder):
    for seed in range(5):
        events = recorder.run(f"c{seed}", writes(seed, 700_000, 10 ** (seed + 1)))
        verify_content(events)
        assert size(events) == 700_000


def test_random_reads_of_a_rotated_journal(recorder):
    full = recorder.run("a", writes(1, 900_000, 400), "--until=closed", max_bytes=16 * MIB)
    small = recorder.run("b", writes(1, 500_000, 400), "--until=closed", max_bytes=MIB)
    assert len([n for n in os.listdir(recorder.dir("b")) if n.startswith("journal.")]) >= 2
    r = random.Random(7)
    for id, events in (("a", full), ("b", small)):
        assert size(events) == (900_000 if id == "a" else 500_000)
        for _ in range(50):
            first = r.randint(1, len(events))
            assert recorder.follow(id, "--until=closed", first=first) == events[first - 1:]
            assert recorder.follow(id, "--until=now", first=first) == events[first - 1:]


def test_drop_oldest_never_waits_and_counts_what_is_gone(recorder):
    total = 12 * MIB
    recorder.detach("a", writes(2, total), overflow=DROP_OLDEST, max_bytes=MIB)
    wait_for(lambda: 10 in recorder.show("a"))
    events = recorder.follow("a", "--until=closed")
    verify_content(events)
    assert events[0].kind == "dropped" and events[-2].kind == "exited"
    assert size(events) + dropped(events) == total
    assert 0.5 * MIB < size(events) <= MIB
    assert recorder.show("a")[13] <= MIB + 300_000


def test_what_is_gone_is_counted_exactly_from_every_event(recorder):
    run = recorder.start("a", writes(3, 6 * MIB, 3000), "--until=closed", overflow=KEEP_UP,
                         max_bytes=MIB)
    full = driver.check(driver.parse(run.communicate()[0]))
    verify_content(full)
    assert size(full) == 6 * MIB and not dropped(full)
    kept = recorder.show("a")[11]
    assert kept > 100
    r = random.Random(11)
    for first in [1, 2, kept - 1, kept, kept + 1] + [r.randint(1, kept) for _ in range(20)]:
        events = recorder.follow("a", "--until=closed", first=first)
        if first >= kept:
            assert events == full[first - 1:]
            continue
        assert events[0].dropped == (first, kept - 1, size(full[first - 1:kept - 1]))
        assert events[1:] == full[kept - 1:]


def test_the_end_is_told_even_when_it_was_dropped(recorder):
    line = "echo first; (sleep 0.3; head -c 5000000 /dev/zero) & exit 6"
    events = recorder.run("a", line, "--until=exited", overflow=DROP_OLDEST, max_bytes=MIB)
    assert events[-1].code == 6
    wait_for(lambda: recorder.show("a")[2] == 4)
    events = recorder.follow("a", "--until=closed")
    assert [e.kind for e in events[:3]] == ["dropped", "exited", "dropped"]
    assert events[0].dropped[2] == 6
    assert size(events) + dropped(events) == 5_000_006
    assert recorder.follow("a")[-1].code == 6


def read_slowly(follower, chunk, pause):
    data = b""
    while True:
        got = os.read(follower.stdout.fileno(), chunk)
        if not got:
            return data
        data += got
        time.sleep(pause)


def test_keep_up_waits_for_a_reader_that_goes_on(recorder):
    run = recorder.start("a", writes(4, 4 * MIB), "--until=closed", overflow=KEEP_UP, max_bytes=MIB)
    events = driver.check(driver.parse(read_slowly(run, 20_000, 0.015)))
    verify_content(events)
    assert size(events) == 4 * MIB and not dropped(events)


def test_keep_up_goes_on_without_a_reader_that_stopped(recorder):
    total = 6 * MIB
    run = recorder.start("a", writes(5, total), "--until=closed", overflow=KEEP_UP, max_bytes=MIB)
    assert run.stdout.read(100)
    wait_for(lambda: 10 in recorder.show("a"))  # it ended although this reader stands still
    os.set_blocking(run.stdout.fileno(), True)
    other = recorder.follow("a", "--until=closed")
    assert size(other) + dropped(other) == total
    run.communicate()


def test_a_stalled_reader_gets_all_or_a_count(recorder):
    total = 20 * MIB
    recorder.detach("a", ["sh", "-c", "read x; exec \"$@\"", "sh"] + writes(6, total),
                    overflow=DROP_OLDEST, max_bytes=MIB, stdin=True)
    stalled = recorder.popen("follow", "--id=a", "--until=closed")
    first = os.read(stalled.stdout.fileno(), 1)
    recorder.input("a", b"\n")
    begin = time.monotonic()
    wait_for(lambda: 10 in recorder.show("a"))
    assert time.monotonic() - begin < 60
    events = driver.check(driver.parse(first + stalled.communicate()[0]))
    verify_content(events)
    assert dropped(events) > 0
    assert size(events) + dropped(events) == total


def test_block_loses_nothing_and_waits_for_acks(recorder):
    total = 5 * MIB
    recorder.detach("a", writes(8, total), overflow=BLOCK, max_bytes=MIB)
    wait_for(lambda: recorder.show("a").get(15))
    before = recorder.show("a")
    time.sleep(1.5)  # longer than KEEP_UP's patience
    after = recorder.show("a")
    assert after.get(15) and after[12] == before[12] and after[11] == 1
    events, r = [], random.Random(3)
    while not events or events[-1].kind != "exited":
        follower = recorder.popen("follow", "--id=a", f"--from={len(events) + 1}")
        data = follower.stdout.read(r.randint(1, 400_000))
        follower.kill()  # as a pod that dies: the next one goes on from what was kept
        follower.communicate()
        whole = whole_frames(data)
        events += driver.parse(whole)
        driver.check(events)
        assert recorder.ack("a", max(len(events), 1)).returncode == 0
    verify_content(events)
    assert size(events) == total and not dropped(events)


def whole_frames(data):
    at = 0
    while at < len(data):
        try:
            n, start = driver.read_varint(data, at + 1)
        except IndexError:
            break
        if start + n > len(data):
            break
        at = start + n
    return data[:at]


def test_timeout_and_signals_work_while_blocked(recorder):
    recorder.detach("a", ["cat", "/dev/zero"], overflow=BLOCK, max_bytes=MIB, timeout_ms=1000,
                    grace_ms=200)
    recorder.detach("b", ["cat", "/dev/zero"], overflow=BLOCK, max_bytes=MIB)
    wait_for(lambda: recorder.show("b").get(15))
    assert recorder.signal("b", signal.SIGKILL).returncode == 0
    assert recorder.follow("b", "--until=closed")[-2].reason == driver.KILLED
    assert recorder.follow("a", "--until=closed")[-2].reason == driver.TIMED_OUT


# --- text ---

PIECES = ["gr", b"\xc3", b"\xbc\xc3", b"\x9f", "\u20ac", b"\xf0", b"\x9f", b"\x98", b"\x80", b"\xff",
          b"\xe2\x82", "x", b"\xc3\xa9\xc3"]


def test_text_is_the_same_from_every_event(recorder):
    script = "import os, time\n"
    for i, piece in enumerate(PIECES):
        raw = piece.encode() if isinstance(piece, str) else piece
        script += f"os.write({1 + (i % 5 == 4)}, {raw!r}); time.sleep(0.03)\n"
        script += f"os.write(2, {bytes([0xe2, 0x82, 0xac][i % 3:i % 3 + 1])!r}); time.sleep(0.03)\n"
    recorder.run("a", ["/usr/bin/python3", "-c", script])
    raw = recorder.follow("a")
    full = recorder.follow("a", "--text")
    assert [e.seq for e in full] == [e.seq for e in raw]
    for stream, kind in ((1, "stdout"), (2, "stderr")):
        want = driver.output(raw, kind).decode(errors="replace").rstrip("\ufffd")
        assert driver.text(full, stream).rstrip("\ufffd") == want
    for first in range(1, len(raw) + 1):
        assert recorder.follow("a", "--text", first=first) == full[first - 1:]


def test_text_looks_back_into_older_segments(recorder):
    line = ("printf '\\xe2\\x82' >&2; sleep 0.1; head -c 600000 /dev/zero; sleep 0.1; "
            "printf '\\xac' >&2")
    recorder.run("a", line, max_bytes=MIB)
    full = recorder.follow("a", "--text")
    assert driver.text(full, 2) == "\u20ac"
    last = max(e.seq for e in full if e.kind == "text" and e.sub.get(2))
    assert driver.text(recorder.follow("a", "--text", first=last), 2) == "\u20ac"


def test_the_worst_text_fits(recorder):
    recorder.run("a", "head -c 500000 /dev/zero | tr '\\0' '\\377'")
    events = recorder.follow("a", "--text")
    assert driver.text(events) == "\ufffd" * 500_000


# --- writers that are killed ---

def test_a_killed_writer_leaves_a_prefix_and_one_end(recorder):
    r = random.Random(99)
    for i in range(25):
        id = f"c{i}"
        recorder.detach(id, writes(i, 200 * MIB, 30_000), max_bytes=64 * MIB)
        early = recorder.popen("follow", f"--id={id}", "--until=closed")
        time.sleep(r.random() * 0.15)
        assert recorder.kill_writer(id)
        late = [recorder.popen("follow", f"--id={id}", "--until=closed") for _ in range(3)]
        outputs = {f.communicate()[0] for f in [early, *late]}
        assert len(outputs) == 1
        events = driver.check(driver.parse(outputs.pop()))
        verify_content(events)
        assert [e.kind for e in events].count("exited") == 1
        assert [e.kind for e in events[-2:]] == ["exited", "closed"]
        assert events[-2].reason == driver.LOST and events[-2].sub[4]
        command = recorder.show(id)
        assert command[2] == 4 and command[12] == events[-1].seq
        pid = command.get(7)
        assert not pid or not os.path.exists(f"/proc/{pid}") or \
            "Z" in open(f"/proc/{pid}/stat").read()


def test_what_a_lost_command_left_running_is_ended(recorder):
    recorder.detach("a", "trap '' HUP TERM; sleep 1000 & echo $!; sleep 1000")
    events = wait_for(lambda: [e for e in recorder.follow("a", "--until=now")
                               if e.kind == "stdout"])
    child = int(events[0].data)
    assert recorder.kill_writer("a")
    assert recorder.follow("a")[-1].reason == driver.LOST
    wait_for(lambda: not os.path.exists(f"/proc/{child}") or
             "Z" in open(f"/proc/{child}/stat").read().rsplit(")", 1)[1])
    assert recorder.signal("a", 9).returncode == 6
    assert recorder.input("a", b"x").returncode == 6


def test_killed_between_any_two_steps_it_stays_readable(recorder):
    r = random.Random(5)
    kinds = set()
    for i in range(60):
        id = f"c{i}"
        run = recorder.start(id, "echo hello; sleep 5")
        time.sleep(r.random() * 0.012)
        run.kill()
        if recorder.dir(id).exists():
            recorder.kill_writer(id)
        run.communicate()
        # What was forked a moment before may still be on its way.
        if recorder.dir(id).exists() and recorder.kill_writer(id):
            wait_for(lambda: not recorder.writer(id) or not recorder.kill_writer(id))
        done = recorder.verb("follow", f"--id={id}", "--until=closed")
        if done.returncode == 3:
            kinds.add("never")
            again = recorder.run(id, "echo hello; sleep 5", timeout_ms=50)
            assert again[-1].reason == driver.TIMED_OUT
            continue
        assert done.returncode == 0, done.stderr
        events = driver.check(driver.parse(done.stdout))
        assert events[-1].kind == "closed" and events[-2].reason == driver.LOST
        kinds.add(events[0].kind)
        assert recorder.run(id, "echo hello; sleep 5") == events[:-1]
    assert len(kinds) >= 2  # the points were spread
    assert recorder.verb("list").returncode == 0


# --- damage ---

def test_a_torn_tail_is_cut_and_a_changed_journal_is_told(recorder):
    events = recorder.run("a", "echo one; sleep 0.1; echo two", "--until=closed")
    segment, = recorder.dir("a").glob("journal.*")
    whole = segment.read_bytes()
    os.unlink(recorder.dir("a") / "end")
    segment.write_bytes(whole[:-35])
    torn = recorder.follow("a", "--until=closed")
    assert torn[:-2] == events[:len(torn) - 2] and torn[-2].reason == driver.LOST
    segment.write_bytes(b"\x12" + whole[1:])
    assert recorder.verb("follow", "--id=a").returncode == 5
    segment.write_bytes(driver.block(1, driver.number(1, 3) + driver.block(5, b"x")))
    assert recorder.verb("follow", "--id=a").returncode == 5


# --- a full disk ---

@pytest.fixture
def small_disk(recorder):
    path = recorder.state.parent / "small"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", path],
                          stderr=subprocess.PIPE)
    if done.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: " + done.stderr.decode().strip())
    r = driver.Recorder(path / "state")
    yield r
    r.end_all()
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_costs_output_but_not_the_end(small_disk):
    events = small_disk.run("a", writes(1, 8 * MIB), "--until=closed")
    verify_content(events)
    assert events[-2].kind == "exited" and events[-2].reason == driver.EXITED
    assert size(events) + dropped(events) == 8 * MIB and dropped(events) > 0
    assert small_disk.follow("a", "--until=closed") == events


def test_recording_goes_on_when_there_is_space_again(small_disk):
    filler = small_disk.state.parent / "filler"
    line = "read x; head -c 100000 /dev/zero; read x; echo back; read x"
    small_disk.detach("a", line, stdin=True)
    wait_for(lambda: small_disk.show("a").get(12))
    with open(filler, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass
    assert small_disk.verb("follow", "--id=a", "--until=now").returncode == 0
    spec = driver.block(2, driver.block(1, b"\n")) + driver.block(15, "end")

    def newline():
        path = small_disk.state.parent.parent / "input"
        path.write_bytes(spec)
        assert small_disk.verb("input", "--id=a", f"--spec={path}").returncode == 0

    newline()
    time.sleep(0.3)
    os.unlink(filler)
    newline()
    newline()
    events = small_disk.follow("a", "--until=closed")
    assert size(events) + dropped(events) == 100_005 and dropped(events) > 0
    assert driver.output(events).endswith(b"back\n")


def test_block_waits_for_space(small_disk):
    follower = small_disk.start("a", writes(2, 3 * MIB), "--until=closed", overflow=BLOCK,
                                max_bytes=MIB * 16)
    wait_for(lambda: small_disk.dir("a").exists())
    wait_for(lambda: small_disk.show("a").get(13, 0) > 1.5 * MIB)
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk.state.parent], check=True)
    events = driver.check(driver.parse(follower.communicate()[0]))
    verify_content(events)
    assert size(events) == 3 * MIB and not dropped(events)


def test_no_space_to_begin_with_is_told(small_disk):
    with open(small_disk.state.parent / "filler", "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass
    path = small_disk.state.parent.parent / "spec"
    path.write_bytes(small_disk.command_spec("a", "true"))
    done = small_disk.verb("run", f"--spec={path}")
    assert done.returncode == 10 and done.stderr
