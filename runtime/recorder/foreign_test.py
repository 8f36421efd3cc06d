"""The recorder that is built for the other machine, in an emulator of that machine's processor."""

import os
import platform
import shlex
import shutil
import signal

import pytest

import driver
from driver import EXITED, KILLED, START_FAILED, TIMED_OUT

MACHINE, ELF_MACHINE = {"x86_64": ("aarch64", 183)}.get(platform.machine(), ("x86_64", 62))
FOREIGN = os.path.abspath("runtime/recorder/recorder_foreign")
EMULATOR = shutil.which(f"qemu-{MACHINE}") or shutil.which(f"qemu-{MACHINE}-static")


@pytest.fixture
def foreign(tmp_path):
    assert EMULATOR, f"qemu-{MACHINE} is missing: install qemu-user"
    program = tmp_path / "recorder"
    program.write_text("#!/bin/sh\nexec %s %s \"$@\"\n" % (shlex.quote(EMULATOR),
                                                          shlex.quote(FOREIGN)))
    program.chmod(0o755)
    with driver.temporary() as r:
        r.program = str(program)
        yield r


def ended(events):
    exited = driver.message(events[-1].data)
    return exited.get(1), exited.get(2, 0)


def test_it_is_a_static_program_of_the_other_machine():
    with open(FOREIGN, "rb") as f:
        head = f.read(4096)
    assert head[:4] == b"\x7fELF" and int.from_bytes(head[18:20], "little") == ELF_MACHINE
    at, size, n = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    kinds = [int.from_bytes(head[at + i * size:at + i * size + 4], "little") for i in range(n)]
    assert 3 not in kinds, "it asks for an interpreter"


def test_it_is_the_same_version(foreign):
    ours = driver.Recorder(foreign.state).verb("version").stdout
    assert foreign.verb("version").stdout == ours != b""


def test_it_records_what_a_command_writes(foreign):
    events = foreign.run("a", "echo one; echo two >&2; exit 7")
    assert driver.output(events) == b"one\n"
    assert driver.output(events, "stderr") == b"two\n"
    assert ended(events) == (EXITED, 7)
    assert foreign.follow("a")[:len(events)] == events


def test_ours_reads_what_it_recorded_and_the_other_way_round(foreign):
    ours = driver.Recorder(foreign.state)
    theirs = foreign.run("a", "seq 20000; printf torn")
    assert ours.follow("a") == theirs == foreign.follow("a")
    mine = ours.run("b", "seq 20000; printf torn")
    assert foreign.follow("b") == mine
    assert foreign.show("b")[1] == b"b"


def test_it_drives_commands(foreign):
    foreign.detach("a", "read -r x; echo \"[$x]\"; exec sleep 1000", stdin=True)
    assert foreign.input("a", b"hello\n").stdout == b"6\n"
    driver.wait_for(lambda: driver.output(foreign.follow("a", "--until=now")) == b"[hello]\n")
    assert foreign.signal("a", signal.SIGKILL, "tree").returncode == 0
    assert ended(foreign.follow("a"))[0] == KILLED
    assert ended(foreign.run("b", "exec sleep 1000", timeout_ms=100))[0] == TIMED_OUT
    assert ended(foreign.run("c", ["/no/such/program"])) == (START_FAILED, 127)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_it_finds_users(foreign):
    assert driver.output(foreign.run("a", "id -un", user="nobody")) == b"nobody\n"
    assert ended(foreign.run("b", "id -un", user="no-such-user"))[0] == START_FAILED
