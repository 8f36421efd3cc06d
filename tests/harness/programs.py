"""The programs under test: found, started, waited for and stopped by their own process id.

This process becomes the reaper of everything that descends from it, also of what a program leaves
behind, so that leftovers() can tell at the end that nothing was.
"""

import collections
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from harness import leftovers

API_KEY = "e2b_" + "0123456789abcdef0123" * 2

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans():
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def die_with_parent():
    """For preexec_fn: also whom an interrupted Popen started, and nobody knows, ends with us."""
    _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def find(path):
    """A built file by its path below the root: in the test's runfiles, else in bazel-bin."""
    root = Path(__file__).absolute().parent.parent.parent
    for candidate in (Path.cwd() / path, root / path, root / "bazel-bin" / path):
        if candidate.is_file():
            return candidate.absolute()
    raise FileNotFoundError("%s is not built: bazel build //..." % path)


def is_sanitized(path):
    """Built with a sanitizer: then memory and speed say nothing about the product."""
    data = find(path).read_bytes()
    return b"__asan_init" in data or b"__tsan_init" in data


def short(value):
    """A parameter of a test, as a part of its name."""
    return str(value)[:40]


def wait_until(condition, timeout=15, what="the condition", every=0.01):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("%s did not come true within %s s" % (what, timeout))
        time.sleep(every)


class Program:
    """A program that says on stderr, with one JSON line, when it is ready."""

    def __init__(self, name, args, env=None):
        self.name = name
        self.args = [str(a) for a in args]
        self.log = collections.deque(maxlen=100_000)  # lines of stderr
        self.ready = None
        self._asked = False  # to end: a second time would mean at once
        self._seen = threading.Condition()
        inherited = {k: v for k, v in os.environ.items()
                     if not k.startswith(("E2B_", "SANDBOXD_"))}
        # It ends with the thread that starts it, so that a killed test leaves nothing, and does not
        # hear of a terminal's Ctrl-C: its starter stops it in good order.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *self.args],
            env={**inherited, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self):
        for raw in self.process.stderr:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            with self._seen:
                self.log.append(line)
                if self.ready is None and '"ready"' in line:
                    try:
                        entry = json.loads(line)
                    except ValueError:
                        entry = {}
                    if entry.get("msg") == "ready":
                        self.ready = entry
                self._seen.notify_all()
        with self._seen:
            self._seen.notify_all()

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return self.ready["listen"]

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def wait_ready(self, timeout=30):
        end = time.monotonic() + timeout
        with self._seen:
            # Its end is no line, and may come after its last one: to be looked for now and then.
            while not self.ready and self.process.poll() is None and time.monotonic() < end:
                self._seen.wait(0.05)
        if self.ready is None:
            if self.process.poll() is not None:
                self._reader.join(5)  # or its last words may still be in the pipe
            raise RuntimeError("%s is not ready; it said:\n%s" % (self.name, self.tail()))
        return self

    def wait_log(self, text, timeout=15):
        """The first line of the log that contains text."""
        def found():
            return next((line for line in list(self.log) if text in line), None)
        with self._seen:
            if not self._seen.wait_for(found, timeout):
                raise TimeoutError("%s did not log %r; it said:\n%s"
                                   % (self.name, text, self.tail()))
            return found()

    def tail(self, lines=40):
        return "\n".join(list(self.log)[-lines:])

    def rss(self):
        """Resident bytes."""
        with open("/proc/%d/statm" % self.pid, encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self):
        """SIGKILL, as a node that goes away."""
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """Asks it to end, as a person or Kubernetes would."""
        self._asked = True
        self.process.terminate()

    def stop(self, timeout=30):
        """Asks it to end, unless it has been asked, and insists that it does so cleanly."""
        if self.process.poll() is None and not self._asked:
            self.terminate()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("%s did not end within %s s of SIGTERM; it said:\n%s"
                                 % (self.name, timeout, self.tail())) from None
        finally:
            self._reader.join(5)
        if code not in (0, -signal.SIGKILL):
            raise AssertionError("%s ended with %d; it said:\n%s" % (self.name, code, self.tail()))


class Local(Program):
    """e2b-local: E2B on this machine."""

    def __init__(self, data_dir, *options, listen="127.0.0.1:0"):
        super().__init__("e2b-local", [find("runtime/local/e2b-local"), "--listen=" + listen,
                                       "--data-dir=%s" % data_dir, *options])
        self.wait_ready()
        self.data_dir = data_dir
        self.cgroups = leftovers.cgroups_of(data_dir)
        self.envd = None  # E2B's own, serving the traffic of all sandboxes instead

    def stop(self, timeout=30):
        super().stop(timeout)
        left = leftovers.none_within(10, lambda: leftovers.cgroups_of(self.data_dir))
        assert not left, "cgroups left: %s" % left

    @property
    def url(self):
        return "http://" + self.address

    @property
    def sandbox_address(self):
        return self.envd.address if self.envd else self.address


class Envd(Program):
    """E2B's envd, as if every sandbox were this one."""

    def __init__(self, binary):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        super().__init__("envd", [find("tests/harness/envd.sh"), binary, port])
        self.ready = {"listen": "127.0.0.1:%d" % port}
        wait_until(self._initialised, 15, "envd")

    def _initialised(self):
        """Does what E2B's orchestrator does once a sandbox has booted."""
        assert self.process.poll() is None, self.tail()
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("POST", "/init", json.dumps({"defaultUser": "user", "envVars": {}}),
                               {"Content-Type": "application/json"})
            return connection.getresponse().status == 204
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self, timeout=30):
        self.kill()


class Pod(Program):
    """One sandboxd in front of an E2B."""

    def __init__(self, api_url, sandbox_url=None, *options, listen="127.0.0.1:0", api_key=API_KEY,
                 name="sandboxd", env=None, program="service/sandboxd"):
        env = {"E2B_API_KEY": api_key, "E2B_API_URL": api_url,
               "E2B_SANDBOX_URL": sandbox_url or api_url, **(env or {})}
        super().__init__(name, [find(program), "--listen=" + listen, *options],
                         {k: v for k, v in env.items() if v is not None})
        self.wait_ready()


def run(path, *args, env=None, timeout=30, **kwargs):
    """Runs a program to its end and returns it with its output as text."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("E2B_", "SANDBOXD_"))}
    return subprocess.run([str(find(path)), *map(str, args)], env={**inherited, **(env or {})},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout, check=False, encoding="utf-8", **kwargs)
