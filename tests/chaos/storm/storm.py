"""The storm: many commands, their readers, and everything in between breaking all the time.

    readers ── Envoy ── three pods ── Toxiproxy ── e2b-local ── sandboxes

At random points pods are killed, drained and stopped, connections to E2B are cut in the middle of a
frame, E2B refuses, its daemon is killed, followers in the sandboxes are killed, readers stall and
reconnect. In the end every reader must have every line of its command once and in order, and nothing
may be left over. The last line says so:

    faults=N lines=N lost=0 repeated=0 dropped=0 leaked=0

With --overflow there is more output than is kept, and three readers of each command, of which two are slower than it.
Then what a reader received and what it was told to be dropped must make up all that was written, to the byte.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from harness import api, leftovers, programs, upstream  # noqa: E402
from harness.envoy import Envoy  # noqa: E402
from harness.service import Service  # noqa: E402

HEARTBEAT_S = 0.5
PODS = 3
PER_SANDBOX = 25  # commands
READERS = 4  # processes
REFUSALS = (429, 502, 503)
KEEP_UP_JOURNAL = 64 << 20  # more than any command prints
BLOCK_JOURNAL = 1 << 20
OVERFLOW_JOURNAL = 1 << 20
# Of the speed at which the command prints; 0: as fast as it can.
OVERFLOW_SPEEDS = (0, 1 / 2, 1 / 5)


class Readers:
    """The processes that read, and what they say."""

    def __init__(self, addresses, plans):
        self.reports, self.obeyed = [], collections.Counter()
        self._changed = threading.Condition()
        self._children, self._of = [], {}
        for n in range(min(READERS, len(plans))):
            mine = plans[n::READERS]
            child = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("reader.py"))],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
            child.stdin.write(json.dumps({
                "addresses": addresses, "heartbeat_s": HEARTBEAT_S, "readers": mine}) + "\n")
            child.stdin.flush()
            self._children.append(child)
            self._of.update({p["name"]: child for p in mine})
            threading.Thread(target=self._listen, args=(child,), daemon=True).start()

    def _listen(self, child):
        for line in child.stdout:
            said = json.loads(line)
            with self._changed:
                if "obeyed" in said:
                    self.obeyed[said["obeyed"]] += 1
                else:
                    self.reports.append(said)
                self._changed.notify_all()

    def order(self, verb, name, *rest):
        child = self._of[name]
        try:
            child.stdin.write(" ".join([verb, name, *map(str, rest)]) + "\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass  # it has everything already

    @property
    def running(self):
        done = {r["name"] for r in self.reports}
        return [name for name in self._of if name not in done]

    @property
    def dead(self):
        """Those that ended without having said what became of their commands."""
        return any(c.poll() is not None for c in self._children) and any(
            self._of[name].poll() is not None for name in self.running)

    def stop(self):
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()


class Storm:
    def __init__(self, options):
        self.options = options
        self.dice = random.Random(options.seed)
        self.faults = collections.Counter()
        self.data = Path(tempfile.mkdtemp(prefix="sandboxd-storm-", dir="/tmp"))
        self.local = self.wire = self.service = self.envoy = self.readers = None
        self.sandboxes, self.plans = [], []

    # --- what is there ---

    @property
    def per_sandbox(self):
        """With E2B's own envd all sandboxes are one."""
        return self.options.commands if self.options.envd else PER_SANDBOX

    def start(self):
        self.start_local()
        self.wire = upstream.make(self.options.toxiproxy, self.local.sandbox_address)
        self.service = Service(
            self.local, "http://" + self.wire.address, count=PODS,
            options=["--heartbeat-interval=%dms" % (HEARTBEAT_S * 1000), "--follower-lease=30s",
                     "--drain-spread=500ms", "--drain-budget=2s", "--max-timeout=6h"])
        self.service.__enter__()
        addresses = self.service.addresses
        if self.options.envoy:
            self.envoy = Envoy(self.options.envoy, addresses, self.data)
            addresses = [self.envoy.address]
        for _ in range(0, self.options.commands, self.per_sandbox):
            self.sandboxes.append(self.make_sandbox())
        make_plans = self.overflow_plans if self.options.overflow else self.plans_to_keep_all
        self.plans = [plan for n in range(self.options.commands) for plan in make_plans(n)]
        self.readers = Readers(addresses, self.plans)

    def start_local(self, listen="127.0.0.1:0"):
        envd = self.local.envd if self.local else None
        self.local = programs.Local(self.data / "local", listen=listen)
        if self.options.envd:
            self.local.envd = envd or programs.Envd(self.options.envd)

    def make_sandbox(self):
        stub = self.service.stub(0)
        sandbox_id = stub.CreateSandbox(api.CreateSandboxRequest(
            timeout=api.seconds(6 * 3600)), timeout=60).sandbox.sandbox_id
        request = api.WriteFilesRequest(sandbox_id=sandbox_id)
        request.files.add(path="printer", mode=0o755,
                          data=programs.find("tests/chaos/storm/printer").read_bytes())
        stub.WriteFiles(request, timeout=60)
        return sandbox_id

    def plan(self, n, steps):
        """Of a command that takes about as long as the storm."""
        return {
            "name": "storm-%d" % n, "command_id": "storm-%d" % n,
            "sandbox_id": self.sandboxes[n // self.per_sandbox], "lines": self.options.lines,
            "burst": max(self.options.lines // steps, 1),
            "pause_ms": int(self.options.seconds * 1000 / steps),
            "bytes_per_s": 0, "slow_s": self.options.seconds,
        }

    def plans_to_keep_all(self, n):
        """Some commands print in many small steps, some in few large ones; each has one reader."""
        block = n % 2 == 1
        return [{**self.plan(n, self.dice.choice((50, 200, 800))),
                 "overflow": api.OVERFLOW_BLOCK if block else api.OVERFLOW_KEEP_UP,
                 "journal": BLOCK_JOURNAL if block else KEEP_UP_JOURNAL}]

    def overflow_plans(self, n):
        plan = self.plan(n, self.dice.choice((200, 800)))
        bytes_per_s = self.written(plan) / self.options.seconds
        return [{**plan, "name": "%s-%d" % (plan["name"], i),
                 "overflow": api.OVERFLOW_DROP_OLDEST, "journal": OVERFLOW_JOURNAL,
                 "bytes_per_s": bytes_per_s * speed} for i, speed in enumerate(OVERFLOW_SPEEDS)]

    @staticmethod
    def written(plan):
        """How many bytes the command prints."""
        lines = plan["lines"] + plan["lines"] // 3
        return lines * len(plan["command_id"] + " o 00000000 00000000\n")

    # --- what breaks; each returns whether it did ---

    def pod_killed(self):
        self.service.restart(self.dice.randrange(PODS))
        return True

    def pod_drained(self):
        pod = self.dice.choice(self.service.pods)
        pod.terminate()
        pod.process.wait(30)
        self.service.restart(self.service.pods.index(pod))
        return True

    def pod_stopped(self):
        pod = self.dice.choice(self.service.pods)
        os.kill(pod.pid, signal.SIGSTOP)
        time.sleep(self.dice.uniform(0.2, 2 * HEARTBEAT_S + 0.5))
        os.kill(pod.pid, signal.SIGCONT)
        return True

    def connections_cut(self):
        cut = self.wire.cut(self.dice.randint(0, 20_000))
        time.sleep(self.dice.uniform(0.1, 0.4))
        self.wire.restore()
        return cut > 0

    def e2b_refuses(self):
        self.wire.refuse(self.dice.choice(REFUSALS))
        time.sleep(self.dice.uniform(0.1, 0.6))
        self.wire.restore()
        return True

    def e2b_killed(self):
        """Its daemon: sandboxes and commands go on below it."""
        listen = self.local.address
        self.local.kill()
        self.start_local(listen)
        return True

    def follower_killed(self):
        pids = [pid for pid in leftovers.descendants(os.getpid())
                if "follow" in leftovers.command_line(pid).split()]
        if not pids:
            return False
        try:
            os.kill(self.dice.choice(sorted(pids)), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def reader_stalls(self):
        """Counted by the reader, when it did it."""
        self.readers.order("stall", self.dice.choice(self.readers.running),
                           round(self.dice.uniform(0.5, 3), 2))
        return False

    def reader_reconnects(self):
        self.readers.order("reconnect", self.dice.choice(self.readers.running))
        return False

    @property
    def kinds(self):
        return [self.pod_killed, self.pod_drained, self.pod_stopped, self.connections_cut,
                self.e2b_refuses, self.e2b_killed, self.follower_killed, self.reader_stalls,
                self.reader_reconnects]

    # --- how it goes ---

    def rage(self):
        """Breaks one thing after the other, every kind in turn, until all commands have ended."""
        bag, begin = [], time.monotonic()
        deadline = begin + self.options.seconds * 4 + 120
        due = begin  # of the next fault: what one takes itself must not make the next come later
        while self.readers.running:
            if self.readers.dead:
                raise RuntimeError("a reader died")
            if time.monotonic() > deadline:
                raise RuntimeError("these did not end: %s" % self.readers.running)
            if not bag:
                bag = self.dice.sample(self.kinds, len(self.kinds))
            kind = bag.pop()
            if kind():
                self.faults[kind.__name__] += 1
            due += self.dice.uniform(0.2, 1.8) * self.options.every
            time.sleep(max(0, due - time.monotonic()))
        self.faults["reader_stalls"] = self.readers.obeyed["stall"]
        self.faults["reader_reconnects"] = self.readers.obeyed["reconnect"]
        return time.monotonic() - begin

    def check_starts(self):
        """Each command began once, whatever its readers did to make it begin."""
        problems = []
        for sandbox_id in self.sandboxes:
            text = self.service.stub(0).ReadFile(api.ReadFileRequest(
                sandbox_id=sandbox_id, path="starts", encoding=api.ENCODING_TEXT),
                timeout=60, wait_for_ready=True).text
            want = {p["command_id"] for p in self.plans if p["sandbox_id"] == sandbox_id}
            if sorted(text.split()) != sorted(want):
                problems.append("started in %s: %s" % (sandbox_id, sorted(text.split())))
        return problems

    def check_report(self, report):
        problems = report["wrong"]
        if report["failure"]:
            problems.append(report["failure"])
        elif report["torn"] or report["exited"] != [1, 0, ""]:
            problems.append("ends in a line: %s, exit %s" % (report["torn"], report["exited"]))
        elif self.options.overflow:
            problems += self.check_bytes(report)
        else:
            problems += self.check_lines(report)
        return ["%s: %s" % (report["name"], p) for p in problems]

    def check_lines(self, report):
        want = self.options.lines + self.options.lines // 3
        if report["lines"] != want:
            yield "%d lines of %d" % (report["lines"], want)
        if report["started"] != 1:
            yield "started %d times" % report["started"]

    def check_bytes(self, report):
        plan = next(p for p in self.plans if p["name"] == report["name"])
        got, dropped = report["received_bytes"], report["dropped_bytes"]
        if got + dropped != self.written(plan):
            yield "%d bytes of %d, and %d dropped" % (got, self.written(plan), dropped)
        if report["started"] > 1:
            yield "started %d times" % report["started"]

    def leaked(self):
        """Deletes the sandboxes, stops everything, and counts what is still there."""
        for sandbox_id in self.sandboxes:
            self.service.stub(0).DeleteSandbox(
                api.DeleteSandboxRequest(sandbox_id=sandbox_id, allow_missing=True), timeout=60,
                wait_for_ready=True)
        self.stop()
        leftovers.reap()
        left = leftovers.none_within(15, lambda: leftovers.descendants(os.getpid()))
        found = [leftovers.command_line(pid) for pid in left]
        found += leftovers.mounts_below(self.data) + leftovers.cgroups_of(self.data / "local")
        return found

    def stop(self):
        for part in (self.readers, self.envoy, self.wire):
            if part is not None:
                part.stop()
        self.readers = self.envoy = self.wire = None
        if self.service is not None:
            self.service.__exit__(None, None, None)
            self.service = None
        if self.local is not None:
            if self.local.envd:
                self.local.envd.stop()
            self.local.stop()
            self.local = None

    def run(self):
        """True when nothing was lost."""
        say = self.options.say
        say("seed %d, %d commands of %d lines, through %s and %s, to %s" % (
            self.options.seed, self.options.commands, self.options.lines,
            "Envoy" if self.options.envoy else "no balancer",
            "Toxiproxy" if self.options.toxiproxy else "our own proxy",
            "E2B's envd" if self.options.envd else "our agent"))
        try:
            self.start()
            took = self.rage()
            reports = self.readers.reports
            problems = [p for r in reports for p in self.check_report(r)] + self.check_starts()
            left = self.leaked()
        finally:
            self.stop()
        shutil.rmtree(self.data, ignore_errors=True)
        for problem in problems + ["left over: " + what for what in left]:
            say(problem)
        say("%s; %.0f s, %d streams broke" % (
            ", ".join("%s %d" % item for item in sorted(self.faults.items())), took,
            sum(r["breaks"] for r in reports)))
        total = {key: sum(r[key] for r in reports) for key in ("lines", "lost", "repeated", "dropped")}
        if self.options.overflow:
            say("%d readers: written=%d received=%d dropped=%d bytes" % (
                len(reports), sum(map(self.written, self.plans)),
                sum(r["received_bytes"] for r in reports),
                sum(r["dropped_bytes"] for r in reports)))
        say("faults=%d lines=%d lost=%d repeated=%d dropped=%d leaked=%d" % (
            sum(self.faults.values()), total["lines"], total["lost"], total["repeated"],
            total["dropped"], len(left)))
        return not problems and not left and not total["lost"] and not total["repeated"] and (
            bool(total["dropped"]) == self.options.overflow)


def options(words, say):
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--overflow", action="store_true",
                        help="print more than is kept, for three readers each")
    parser.add_argument("--envd", action="store_true",
                        help="in E2B's own envd, which SANDBOXD_TEST_ENVD names")
    parser.add_argument("--commands", type=int, help="200, or 24 with --overflow")
    parser.add_argument("--lines", type=int,
                        help="of each command's stdout: 40,000, or 1,500,000 with --overflow")
    parser.add_argument("--seconds", type=float, default=1200, help="that a command takes, undisturbed")
    parser.add_argument("--every", type=float, default=1, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parsed = parser.parse_args(words)
    parsed.commands = parsed.commands or (24 if parsed.overflow else 200)
    parsed.lines = parsed.lines or (1_500_000 if parsed.overflow else 40_000)
    parsed.envoy = os.environ.get("SANDBOXD_TEST_ENVOY")
    parsed.toxiproxy = os.environ.get("SANDBOXD_TEST_TOXIPROXY")
    if parsed.envd:
        parsed.envd = os.environ.get("SANDBOXD_TEST_ENVD") or parser.error(
            "SANDBOXD_TEST_ENVD does not name a build of E2B's envd")
    parsed.say = say
    return parsed


def main():
    programs.adopt_orphans()
    storm = Storm(options(sys.argv[1:], lambda text: print(text, flush=True)))
    return 0 if storm.run() else 1


if __name__ == "__main__":
    sys.exit(main())
