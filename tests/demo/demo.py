"""The demo: two pods over a local E2B, a program in a sandbox, and a pod that dies in mid-stream.

Everything goes through sandboxctl, as a person would do it. What the last line counts, it counts from
the events that sandboxctl received.
"""

import argparse
import base64
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import leftovers, programs, web  # noqa: E402

PROGRAM = Path(__file__).resolve().parent / "program"
LINES = 100_000
PRINTER = """
import sys, time
begin = time.monotonic()
for n in range(1, %d + 1):
    print(n)
    if n %% 50 == 0:
        sys.stdout.flush()
        time.sleep(max(0, begin + n * %f - time.monotonic()))
"""


class Interrupted(BaseException):
    pass


class Screen:
    """Few words, one column for each kind, colours for people only."""

    def __init__(self):
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.step = 0

    def paint(self, code, text):
        return "\033[%sm%s\033[0m" % (code, text) if self.colour else text

    def line(self, text=""):
        print(text, flush=True)

    def title(self, text):
        self.step += 1
        self.line()
        self.line(self.paint("1", "%d  %s" % (self.step, text)))

    def say(self, what, text):
        self.line("   %s %s" % (self.paint("2", what.ljust(11)), text))


class Control:
    """sandboxctl, with JSON for an answer."""

    def __init__(self, addresses):
        self.command = [str(programs.find("client/sandboxctl")), "--address=" + ",".join(addresses),
                        "-o", "json"]

    def call(self, *args):
        """Runs one verb and returns its JSON lines."""
        done = subprocess.run(self.command + list(args), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                              preexec_fn=programs.die_with_parent)
        if done.returncode != 0:
            raise RuntimeError("sandboxctl %s: %s" % (shlex.join(args), done.stderr.decode().strip()))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, *args):
        """Starts a command in a sandbox; its events can be read from the process's stdout."""
        return subprocess.Popen(self.command + ["run", *args], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, start_new_session=True,
                                preexec_fn=programs.die_with_parent)


class Lines:
    """Counts the numbered lines that arrive."""

    def __init__(self):
        self.seen = bytearray(LINES + 1)
        self.last = 0
        self._rest = b""

    def take(self, data):
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self.last = int(line)
            self.seen[self.last] = min(self.seen[self.last] + 1, 255)

    @property
    def received(self):
        return sum(1 for n in self.seen if n)

    @property
    def missing(self):
        return LINES - self.received

    @property
    def repeated(self):
        return sum(n - 1 for n in self.seen if n > 1)


class Demo:
    def __init__(self, once):
        self.once = once
        self.screen = Screen()
        self.data = Path(tempfile.mkdtemp(prefix="sandboxd-demo-"))
        self.local = None
        self.pods = []
        self.children = []  # processes of sandboxctl
        self.there_before = leftovers.descendants(os.getpid())  # Bazel's server, where we are init
        self.sandbox_id = None

    # --- the programs ---

    def start(self):
        self.local = self._on_port(3000, lambda listen: programs.Local(self.data, listen=listen))
        for n, name in enumerate("AB"):
            self.pods.append(self._on_port(
                50051 + n, lambda listen, name=name: programs.Pod(
                    self.local.url, listen=listen, name="pod " + name)))
        for program in [self.local, *self.pods]:
            self.screen.say(program.name, program.address)

    def _on_port(self, port, make):
        """Listens where people expect it, if that is free."""
        if not self.once:
            try:
                return make("127.0.0.1:%d" % port)
            except RuntimeError:
                pass
        return make("127.0.0.1:0")

    def stop(self):
        """Ends everything, in the order in which nothing complains. Returns what went wrong."""
        problems = []
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        for program in [*self.pods, self.local]:
            if program is None:
                continue
            try:
                program.stop()
            except AssertionError as problem:
                problems.append(str(problem))
        left = leftovers.none_within(
            5, lambda: leftovers.descendants(os.getpid()) - self.there_before)
        problems += ["left running: " + leftovers.command_line(pid) for pid in left]
        problems += ["left mounted: " + path for path in leftovers.mounts_below(self.data)]
        if not leftovers.mounts_below(self.data):
            shutil.rmtree(self.data, ignore_errors=True)
        return problems

    @property
    def addresses(self):
        return [pod.address for pod in self.pods]

    def pod_at(self, address):
        return self.pods[self.addresses.index(address)]

    # --- the scenes ---

    def play(self):
        screen = self.screen
        screen.line(screen.paint("1", "sandboxd: two pods over a local E2B"))
        self.start()
        control = Control(self.addresses)

        screen.title("A sandbox")
        begin = time.monotonic()
        made = control.call("create", "--timeout=45m")[0]
        self.sandbox_id = made["sandbox"]["sandboxId"]
        screen.say("created", "%s in %d ms" % (self.sandbox_id, (time.monotonic() - begin) * 1000))

        screen.title("A program of several files, written over gRPC")
        for path in sorted(p for p in PROGRAM.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            name = "words/%s" % path.relative_to(PROGRAM)
            size = self.write(control, name, path)
            screen.say("wrote", "%-28s %5d bytes" % (name, size))

        screen.title("Its own tests, run in the sandbox")
        code, output = self.run(control, "--cwd=words", "--", "python3", "-m", "unittest", "discover",
                                "-s", "tests", "-t", ".")
        for line in output.decode().strip().splitlines()[-3:]:
            if line.strip():
                screen.say("", line)
        if code != 0:
            raise RuntimeError("the program's tests failed:\n" + output.decode())

        screen.title("Its page, served in the sandbox and fetched from outside")
        self.serve(control)

        screen.title("%s lines over ten seconds, and a pod that dies" % format(LINES, ","))
        verdict = self.break_a_stream(control)
        screen.line()
        screen.line(screen.paint("1;32" if verdict[0] else "1;31", verdict[1]))
        return verdict[0]

    def write(self, control, name, path):
        (answer,) = control.call("write", self.sandbox_id, str(path), name)
        return int(answer["files"][0].get("size", 0))

    def run(self, control, *args):
        """Runs a command to its end: exit code and all output."""
        child = control.run(self.sandbox_id, *args)
        self.children.append(child)
        output, code = b"", None
        for line in child.stdout:
            event = Event(line)
            output += event.stdout + event.stderr
            if event.code is not None:
                code = event.code
        child.wait()
        return code, output

    def serve(self, control):
        port = 8080
        child = control.run(self.sandbox_id, "--cwd=words", "--",
                            "python3", "-u", "serve.py", "poem.txt", str(port))
        self.children.append(child)
        url = control.call("url", self.sandbox_id, str(port))[0]
        headers = url.get("headers", {})

        def page():
            status, body = web.fetch(url["url"], headers)
            return status == 200 and body.decode()

        body = programs.wait_until(page, 15, "the page")
        if "<td>the</td><td>6</td>" not in body:
            raise RuntimeError("this is not the page: " + body)
        self.screen.say("fetched", url["url"])
        self.screen.say("", "%d bytes: %s…" % (len(body), body[15:body.index("</title>")][7:]))

    def break_a_stream(self, control):
        screen = self.screen
        kill_at = random.randint(LINES // 5, LINES // 2)
        child = control.run(self.sandbox_id, "--id=numbers", "--", "python3", "-c",
                            PRINTER % (LINES, 10.5 / LINES))
        self.children.append(child)
        lines, killed, state, resumed, code = Lines(), None, None, None, None
        begin = time.monotonic()
        for raw in child.stdout:
            event = Event(raw)
            lines.take(event.stdout)
            if event.code is not None:
                code = event.code
            if event.resume:
                resumed = event.resume
                a, b = (self.pod_at(resumed[k]).name[-1] for k in ("from", "to"))
                seq = int(resumed["afterSeq"])
                screen.say("stream", "broke after seq %d on %s, resumed at %d on %s"
                           % (seq, a, seq + 1, b))
            if killed is None and lines.last >= kill_at:
                killed = self.pods[0]
                killed.kill()
                screen.say("line %d" % lines.last, "kill -9 %s" % killed.name)
                state = self.state_on(self.pods[1])
                screen.say("pod B", "GetCommand says %s" % state)
        child.wait()
        took = time.monotonic() - begin
        screen.say("took", "%.1f s" % took)
        problems = []
        if code != 0:
            problems.append("the command ended with %s" % code)
        if state != "running":
            problems.append("GetCommand did not say running")
        if resumed is None:
            problems.append("the stream did not break")
        elif not int(resumed["afterSeq"]) < 90_000:
            problems.append("it broke too late")
        if took < 10:
            problems.append("it took less than ten seconds")
        for problem in problems:
            screen.say("wrong", problem)
        good = not problems and lines.missing == 0 and lines.repeated == 0
        return good, "%d lines, %d missing, %d repeated, %d pod killed" % (
            lines.received, lines.missing, lines.repeated, int(killed is not None))

    def state_on(self, pod):
        """What GetCommand of one pod alone says of the command."""
        (command,) = Control([pod.address]).call("ps", self.sandbox_id, "numbers")
        return command["state"].replace("STATE_", "").lower()

    # --- afterwards ---

    def stay(self):
        screen = self.screen
        dead = self.pods[0]
        self.pods[0] = programs.Pod(self.local.url, listen=dead.address, name=dead.name)
        service = "sandbox.v1.SandboxService"
        a, b = self.addresses

        def grpcurl(address, method, **data):
            body = " -d '%s'" % json.dumps(data) if data else ""
            return "grpcurl -plaintext%s %s %s" % (body, address, method)

        which = {"sandbox_id": self.sandbox_id}
        screen.line()
        screen.line("Both pods are up again. Paste these (grpcurl needs no .proto file):")
        screen.line()
        for command in [
            grpcurl(a, "list"),
            grpcurl(b, service + "/GetSandbox", **which),
            grpcurl(a, service + "/RunCommand", **which, shell="echo Hello from $(hostname)",
                    encoding="ENCODING_TEXT"),
            grpcurl(b, service + "/Logs", **which, command_id="numbers", from_seq="1000",
                    encoding="ENCODING_TEXT"),
            grpcurl(a, service + "/ReadFile", **which, path="words/poem.txt",
                    encoding="ENCODING_TEXT"),
        ]:
            screen.line("  " + command)
        control = shlex.join(["bazel-bin/client/sandboxctl", "--address=%s,%s" % (a, b)])
        screen.line()
        screen.line("Or, with this repository's own client:")
        screen.line()
        screen.line("  %s run %s -- uname -a" % (control, self.sandbox_id))
        screen.line()
        screen.line("Ctrl-C ends everything.")
        while True:
            time.sleep(1)
            for program in [self.local, *self.pods]:
                if program.process.poll() is not None:
                    raise RuntimeError("%s ended; it said:\n%s" % (program.name, program.tail(10)))


class Event:
    """What one line of sandboxctl's JSON says, as far as the demo cares."""

    def __init__(self, line):
        said = json.loads(line)
        self.stdout = base64.b64decode(said.get("stdout", ""))
        self.stderr = base64.b64decode(said.get("stderr", ""))
        self.code = said["exited"].get("code", 0) if "exited" in said else None
        self.resume = said.get("resume")


def main():
    parser = argparse.ArgumentParser(prog="./dev run", description="Build, start and show everything.")
    parser.add_argument("--once", action="store_true", help="stop after the demo, exit with its result")
    options = parser.parse_args()

    def interrupt(number, frame):
        raise Interrupted

    programs.adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    demo, good = Demo(options.once), False
    try:
        good = demo.play()
        if not options.once:
            demo.stay()
    except Interrupted:
        demo.screen.line()
    except (RuntimeError, TimeoutError, OSError) as problem:
        good = False
        demo.screen.line(demo.screen.paint("1;31", "\nThe demo failed: %s" % problem))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        problems = demo.stop()
        for problem in problems:
            demo.screen.line(problem)
    return 0 if good and not problems else 1


if __name__ == "__main__":
    sys.exit(main())
