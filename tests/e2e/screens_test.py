"""Programs that draw on a terminal, through sandboxctl attach in a real one (tmux).

What a person sees must be the same before and after the pod is lost, and after leaving and coming back.
"""

import shlex
import signal
import subprocess
import time

import grpc
import pytest
from harness import api, programs
from harness.service import Service

COLS, ROWS = 90, 24


class Screen:
    """A terminal with a program in it."""

    def __init__(self, socket, command):
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self.run("new-session", "-d", "-x", str(COLS), "-y", str(ROWS), command + "; exec cat")

    def run(self, *words):
        return subprocess.run(self._tmux + list(words), check=True, stdout=subprocess.PIPE,
                              env={"TERM": "screen", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                              encoding="utf-8").stdout

    def lines(self):
        return self.run("capture-pane", "-p").splitlines()

    def type(self, *keys):
        self.run("send-keys", *keys)

    def shows(self, *texts):
        """Waits until all of these are on the screen; returns its lines."""
        def there():
            lines = self.lines()
            return lines if all(any(t in line for line in lines) for t in texts) else None
        try:
            return programs.wait_until(there, 20, repr(texts))
        except TimeoutError as failure:
            raise AssertionError("%s; the screen:\n%s" % (failure, "\n".join(self.lines()))) from None

    def close(self):
        self.run("kill-server")


@pytest.fixture
def pair(local):
    """Two pods that may be killed."""
    with Service(local, count=2, options=["--heartbeat-interval=300ms"]) as service:
        yield service


@pytest.fixture
def attach(pair, sandbox, data_dir):
    """attach(id, …): a screen with sandboxctl attach in it."""
    screens = []

    def make(command_id, *options):
        # A socket's path has to be short.
        screens.append(Screen(data_dir / ("tmux%d" % len(screens)), shlex.join(
            [str(programs.find("client/sandboxctl")), "--address=" + ",".join(pair.addresses),
             "--heartbeat=300ms", "attach", *options, sandbox, command_id])))
        return screens[-1]
    yield make
    for screen in screens:
        screen.close()


@pytest.fixture
def start(pair, sandbox):
    """start(program, …): runs it in a terminal; returns the command's id."""
    started = []

    def run(*argv):
        stub = pair.stub(1)
        name = "terminal%d" % time.time_ns()
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox, command_id=name, pty=api.TerminalSize(cols=COLS, rows=ROWS),
            argv=api.Argv(args=argv)), timeout=60)
        next(stream)
        stream.cancel()
        started.append(name)
        return name
    yield run
    for name in started:
        try:
            pair.stub(1).SignalCommand(api.SignalCommandRequest(
                sandbox_id=sandbox, command_id=name, signal=signal.SIGKILL), timeout=30)
        except grpc.RpcError as error:
            api.check_error(error, grpc.StatusCode.FAILED_PRECONDITION, "COMMAND_ENDED")


@pytest.fixture
def book(pair, sandbox):
    """A file of numbered lines."""
    request = api.WriteFilesRequest(sandbox_id=sandbox)
    request.files.add(path="book", text="".join("line %d of the book\n" % n for n in range(1, 1001)))
    pair.stub(1).WriteFiles(request, timeout=30)
    return "book"


def kill_carrier(pair):
    """Kills both pods, one after the other, so that it was the one that carried the stream too."""
    for n in range(2):
        pair.restart(n)


def test_less_goes_on_through_the_loss_of_pods(pair, attach, start, book):
    name = start("less", book)
    screen = attach(name)
    screen.shows("line 1 of the book", "line 20 of the book")
    screen.type("500g")
    before = screen.shows("line 500 of the book", "line 520 of the book")
    kill_carrier(pair)
    screen.type("Space")
    after = screen.shows("line 523 of the book", "line 540 of the book")
    assert len(before) == len(after) == ROWS
    screen.type("q")
    screen.shows("")  # it ended, and the shell's cat is there
    programs.wait_until(lambda: not any("line 5" in line for line in screen.lines()), 10,
                        "the end of less")


def test_vim_is_as_it_was_when_one_comes_back(pair, sandbox, attach, start, book):
    name = start("vi", "-u", "NONE", "-N", book)
    screen = attach(name)
    screen.shows("line 1 of the book")
    screen.type("700G", "zt", "ccsomething of mine", "Escape")
    screen.shows("something of mine", "line 710 of the book")
    programs.wait_until(lambda: "INSERT" not in screen.lines()[-1], 10, "the end of insertion")
    before = screen.lines()
    screen.type("C-p", "C-q")
    screen.shows("sandboxctl: left")
    kill_carrier(pair)
    again = attach(name)
    again.shows(*before[:1], *before[-2:-1])
    programs.wait_until(lambda: again.lines() == before, 10, "the same screen")
    again.type(":wq", "Enter")
    programs.wait_until(lambda: not any("something" in line for line in again.lines()), 10, "its end")
    stored = pair.stub(0).ReadFile(api.ReadFileRequest(
        sandbox_id=sandbox, path=book, encoding=api.ENCODING_TEXT), timeout=30).text
    assert "\nsomething of mine\nline 701 of the book\n" in stored


def test_top_goes_on_through_the_loss_of_pods(pair, attach, start):
    name = start("top", "-d", "0.3")
    screen = attach(name)
    screen.shows("load average", "PID USER")
    kill_carrier(pair)
    screen.type("c")  # command lines instead of names
    screen.shows("load average", "top -d 0.3")
    screen.type("q")
    programs.wait_until(lambda: not any("PID USER" in line for line in screen.lines()[:3]), 10,
                        "the end of top")


def test_the_window_may_change(pair, attach, start):
    name = start("bash", "--norc", "-i")
    screen = attach(name)
    screen.type("stty size", "Enter")
    screen.shows("%d %d" % (ROWS, COLS))
    screen.run("resize-window", "-x", "70", "-y", "20")
    screen.type("clear; sleep 0.3; stty size", "Enter")
    screen.shows("20 70")
    screen.type("exit 3", "Enter")
    programs.wait_until(lambda: any("exit" in line for line in screen.lines()), 10, "exit")
