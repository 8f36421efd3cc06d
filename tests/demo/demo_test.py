"""The demo of ./dev run, as a newcomer sees it."""

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
    import glob
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
