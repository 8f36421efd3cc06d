"""One sandbox takes all it can get; meanwhile the server answers, and its neighbour works.

Each bomb says what stopped it, so we know that it went off. Small limits keep the machine's other
work going.
"""

import base64
import contextlib
import re
import statistics
import time

import pytest
from harness import programs
from tiers import TIERS, Place
from wire import api  # noqa: F401, the fixture

MIB = 1 << 20
MEMORY, DISK, PIDS, INODES = 192 * MIB, 64 * MIB, 100, 20000
WITHIN = 1.0  # seconds, for an answer while a bomb goes off
ROUNDS, LATE = 10, 1  # of so many rounds so many may be late: others work on this machine, too


@pytest.fixture(scope="module", params=TIERS)
def local(request):
    place = Place(request.param)
    program = place.start("--memory=%d" % MEMORY, "--disk=%d" % DISK, "--pids=%d" % PIDS,
                          "--inodes=%d" % INODES)
    yield program
    program.stop()
    place.close()


@pytest.fixture(scope="module")
def neighbour(api):
    made = api.create(timeout=600)
    yield made
    made.delete()


@pytest.fixture
def bombed(api):
    made = api.create(timeout=600)
    yield made
    started = time.monotonic()
    assert made.delete().status == 204
    assert time.monotonic() - started < 5 * WITHIN


HEAD = """
import errno, os, resource, signal, sys, time
def say(what):
    os.write(1, (what + '\\n').encode())
"""

# Forks until nobody may any more, and goes on.
FORKS = HEAD + """
said = False
while True:
    try:
        os.fork()
    except OSError as e:
        if not said:
            said = True
            say('fork: ' + errno.errorcode[e.errno])
"""

SHELL_FORKS = "exec 2>&1; bomb() { bomb | bomb & }; bomb; wait; sleep 30"

# Processes that each take a little, until one is killed; the others take more.
MEMORY_OF_ALL = HEAD + """
for i in range(8):
    pid = os.fork()
    if pid == 0:
        kept = []
        while True:
            kept.append(bytearray(1 << 20))
            kept[-1][::4096] = b'x' * 256
            time.sleep(0.001)
while True:
    pid, status = os.wait()
    say('killed by %d' % (status & 127))
    if os.fork() == 0:
        os.execlp(sys.executable, sys.executable, '-c', 'x = bytearray(1 << 30)')
"""

MEMORY_OF_ONE = HEAD + """
kept = []
while True:
    try:
        kept.append(bytearray(1 << 20))
    except MemoryError:
        say('MemoryError at %d MiB' % len(kept))
        kept.clear()
"""

DISK_FILLER = HEAD + """
os.chdir('/tmp')
n = 0
while True:
    n += 1
    fd = os.open('fill%d' % n, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, bytes(1 << 20))
    except OSError as e:
        if n == 1:
            say('write: ' + errno.errorcode[e.errno])
    os.close(fd)
    os.unlink('fill%d' % n)
"""

INODE_FILLER = HEAD + """
os.mkdir('/tmp/many')
os.chdir('/tmp/many')
n = 0
while True:
    try:
        os.close(os.open(str(n), os.O_WRONLY | os.O_CREAT))
        n += 1
    except OSError as e:
        say('create: %s after %d' % (errno.errorcode[e.errno], n))
        for i in range(n):
            os.unlink(str(i))
        n = 0
"""

# A million, by as many processes as it takes.
OPEN_FILES = HEAD + """
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
wanted = 1000000
report = os.pipe()
workers = 0
while workers * hard < wanted:
    try:
        pid = os.fork()
    except OSError as e:
        say('fork: ' + errno.errorcode[e.errno])
        break
    if pid == 0:
        n = 0
        try:
            while True:
                os.open('/dev/null', os.O_RDONLY)
                n += 1
        except OSError as e:
            os.write(report[1], b'%d %s\\n' % (n, errno.errorcode[e.errno].encode()))
        time.sleep(60)
        os._exit(0)
    workers += 1
signal.signal(signal.SIGCHLD, lambda *_: say('open: killed'))
for line in os.fdopen(report[0]):
    say('open: ' + line.strip())
"""

OUTPUT = "exec 2>&1; echo output: flows; exec yes $(printf 'x%.0s' $(seq 1000))"

BOTH, A, B = ("own", "ordinary"), ("own",), ("ordinary",)

# name, whose, program, what it must say: the limit it met.
BOMBS = [
    ("forks", BOTH, FORKS, r"fork: EAGAIN"),
    ("forks_of_a_shell", BOTH, SHELL_FORKS, r"fork: .*(Resource temporarily unavailable|retry)"),
    ("memory_of_all_processes", A, MEMORY_OF_ALL, r"killed by 9"),
    ("memory_of_one_process", B, MEMORY_OF_ONE, r"MemoryError at \d+ MiB"),
    ("disk", BOTH, DISK_FILLER, r"write: ENOSPC"),
    ("inodes", BOTH, INODE_FILLER, r"create: ENOSPC after \d+"),
    # What a process may have, or the memory that is used up by all of them.
    ("open_files", BOTH, OPEN_FILES, r"open: (\d+ EMFILE|killed)"),
    ("output_that_nobody_reads", BOTH, OUTPUT, r"output: flows"),
]


def command(program):
    if program.startswith("exec"):
        return program
    return "echo %s | base64 -d > ~/bomb.py && exec python3 ~/bomb.py 2>&1" % \
        base64.b64encode(program.encode()).decode()


@contextlib.contextmanager
def going_off(sandbox, program, said):
    """The bomb, once it has met its limit."""
    with sandbox.start(command(program)) as process:
        seen = b""
        for data in process.output():
            seen += data
            if re.search(said, seen.decode(errors="replace")):
                break
        else:
            pytest.fail("it ended: %r" % seen[-1000:])
        yield process


def timed(action):
    started = time.monotonic()
    action()
    return time.monotonic() - started


def answer_times(api, neighbour):
    """How long the server takes to answer, and the neighbour to run a command."""
    def listed():
        assert api.call("GET", "/sandboxes").status == 200

    def ran():
        assert neighbour.run("true") == (0, b"")

    return max(timed(listed), timed(lambda: api.request("GET", "/health"))), timed(ran)


@pytest.mark.parametrize("local, name, program, said", [
    pytest.param(who, name, program, said, id="%s-%s" % (who, name))
    for who in TIERS for name, whose, program, said in BOMBS if who in whose], indirect=["local"])
def test_bomb(local, api, neighbour, bombed, name, program, said):
    if name == "memory_of_all_processes" and local.ready["tier"] == "B":
        pytest.skip("an ordinary user runs the tests, whose sandboxes have no bound on memory")
    if name.startswith("memory") and local.ready["tier"] == "B" and \
            programs.is_sanitized("runtime/local/e2b-local"):
        pytest.skip("a sanitized agent cannot live with a limit on its own memory")
    with going_off(bombed, program, said):
        rounds = [answer_times(api, neighbour) for _ in range(ROUNDS)]
    late = [r for r in rounds if max(r) > WITHIN]
    print("%s: the server %.0f ms, the neighbour %.0f ms in the middle, %.0f and %.0f at most, "
          "%d of %d late" % ((name,) + tuple(1000 * f(r[i] for r in rounds)
                                             for f in (statistics.median, max) for i in (0, 1)) +
                             (len(late), ROUNDS)))
    assert len(late) <= LATE, rounds


def test_what_is_not_bounded_is_said(local):
    """A sandbox's memory, where there are no control groups: in the ready line."""
    said = local.ready["isolation"]
    assert ("NO bound on a sandbox's memory" in said) == (local.ready["tier"] == "B"), said
    assert ("NO bound on CPU time" in said) == (local.ready["tier"] == "B"), said


def test_the_limits_are_those_of_the_options(local, api, neighbour):
    told = neighbour.get().json
    assert (told["memoryMB"], told["diskSizeMB"]) == (MEMORY / MIB, DISK / MIB)
    total, inodes = neighbour.run(
        "df -B1 --output=size / | tail -1; df --output=itotal / | tail -1")[1].split()
    assert (int(total), int(inodes)) == (DISK, INODES)
    hard = int(neighbour.run("ulimit -Hn")[1])
    machine = int(open("/proc/sys/fs/file-max", encoding="ascii").read())
    assert hard <= min(65536, max(4096, machine // 2 // PIDS))


def test_daemon_and_zygote_go_last(local, neighbour):
    """Who in a sandbox asks the out-of-memory killer to be spared, is not more than they are."""
    code, output = neighbour.run("for i in 0 -1 -500 -1000; do "
                                 "(echo $i > /proc/self/oom_score_adj) 2>/dev/null && echo $i; "
                                 "done; cat /proc/self/oom_score_adj")
    granted = output.decode().split()
    assert set(granted[:-1]) <= {"0"} and int(granted[-1]) >= 0
    with open("/proc/%d/oom_score_adj" % local.pid, encoding="ascii") as f:
        assert int(f.read()) <= 0
