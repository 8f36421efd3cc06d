"""The demo of ./dev run, as a newcomer sees it."""

import glob
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from harness import leftovers, programs


def start(*options):
    return subprocess.Popen([sys.executable, "-u", str(programs.find("tests/demo/demo.py")), *options],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8",
                            stderr=subprocess.STDOUT)


@pytest.fixture
def data_dirs():
    """Folders that the demo left."""
    before = set(glob.glob("/tmp/sandboxd-*"))
    return lambda: set(glob.glob("/tmp/sandboxd-demo-*")) - before


def test_it_shows_a_killed_pod_and_no_line_lost():
    demo = start("--once")
    out, _ = demo.communicate(timeout=120)
    print(out)
    assert demo.returncode == 0
    assert out.splitlines()[-1] == "100000 lines, 0 missing, 0 repeated, 1 pod killed"
    broke = re.search(r"broke after seq (\d+) on A, resumed at (\d+) on B", out)
    assert int(broke[2]) == int(broke[1]) + 1 < 90_000
    assert "GetCommand says running" in out and "OK" in out


def test_the_commands_it_prints_work_when_pasted():
    grpcurl = os.environ.get("SANDBOXD_TEST_GRPCURL")
    if not grpcurl:
        pytest.skip("grpcurl is not there: it takes a newer Go than Debian 12 has")
    demo, commands = start(), []
    for line in demo.stdout:
        if line.startswith("  grpcurl "):
            commands.append(line.strip())
        if "Ctrl-C ends everything" in line:
            break
    env = {**os.environ, "PATH": "%s:%s" % (os.path.dirname(grpcurl), os.environ["PATH"])}
    outputs = []
    try:
        for command in commands:
            done = subprocess.run(["bash", "-c", command], env=env, capture_output=True,
                                  encoding="utf-8", timeout=60, check=False)
            assert done.returncode == 0, "%s\n%s" % (command, done.stderr)
            outputs.append(done.stdout)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(60) == 0
    listed, got, ran, logs, read = outputs
    assert "sandbox.v1.SandboxService" in listed and "STATE_RUNNING" in got
    assert "Hello from" in ran and '"code"' not in ran
    assert "\\n100000\\n" in logs and "raineth" in read


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["pod B", "kill -9", "Ctrl-C ends everything"])
def test_it_leaves_nothing_when_interrupted(number, moment, data_dirs):
    demo = start()
    for line in demo.stdout:
        if moment in line:
            break
    else:
        pytest.fail("the demo never said " + moment)
    if moment == "Ctrl-C ends everything":
        assert len(leftovers.descendants(demo.pid)) >= 4
        time.sleep(1)
        assert demo.poll() is None, "it did not stay up"
    demo.send_signal(number)
    demo.stdout.read()
    demo.wait(60)
    assert demo.returncode == (0 if moment == "Ctrl-C ends everything" else 1)
    assert not data_dirs()
    # That no process is left is asserted for every test file.
