"""First figures, as ratios within one run: the machine cancels out.

  unary    p50 of GetSandbox over p50 of the same request sent straight to e2b-local over HTTP
  logs     bytes per second of Logs of a finished 1 GiB journal, over curl of the same follower's output
           straight from the agent's Start
  memory   resident size of sandboxd, idle and per open follow stream at 1,000
  create   e2b-local through its API alone: a sandbox, over bwrap for a command; and until its first
           command is over
  start    a command in a sandbox that is there, over bwrap for the same
  overload a pod with ten times the callers that --max-calls lets in: p99 of those that are accepted
           over that of one caller, and p99 of refusals over the median of who is accepted
  many     500 sandboxes at once: the memory of each, and what they leave when they are deleted

Exits with 1 when a figure is behind the floor that the prototype set.
"""

import argparse
import base64
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import overload  # noqa: E402
import sandboxes  # noqa: E402
from harness import api, follow, programs  # noqa: E402
from harness.service import Service  # noqa: E402

GIB = 1 << 30
LOGS_FLOOR = 0.25
STREAM_LIMIT = 40 * 1024
# Three times what the prototype took for them, 2.2 and 0.9 ms where bwrap took 3.2.
CREATE_LIMIT = 3 * 2.2 / 3.2
START_LIMIT = 3 * 0.9 / 3.2


def p50(times):
    return statistics.median(times)


def unary(local, service, sandbox_id, calls=5000):
    """Medians in microseconds; see unary.c."""
    done = programs.run("tests/bench/unary", service.addresses[0], local.url, programs.API_KEY,
                        sandbox_id, calls, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [float(word) for word in done.stdout.split()]


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def start_request(*words):
    """A Connect envelope with process.StartRequest{process{cmd, args}}."""
    config = field(1, words[0].encode()) + b"".join(field(2, w.encode()) for w in words[1:])
    message = field(1, config)
    return b"\0" + len(message).to_bytes(4, "big") + message


def curl_start(local, sandbox_id, token, body, out="/dev/null"):
    """Bytes and seconds of one answer of the agent's Start."""
    basic = base64.b64encode(b"root:").decode()
    command = ["curl", "-sS", "--max-time", "300", "-o", out, "-w", "%{size_download} %{time_total}",
               "-X", "POST", "--data-binary", "@-",
               "-H", "Content-Type: application/connect+proto", "-H", "Connect-Protocol-Version: 1",
               "-H", "Authorization: Basic " + basic, "-H", "E2b-Sandbox-Id: " + sandbox_id,
               "-H", "E2b-Sandbox-Port: 49983", local.url + "/process.Process/Start"]
    if token:
        command += ["-H", "X-Access-Token: " + token]
    done = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True)
    size, seconds = done.stdout.split()
    return int(size), float(seconds)


def access_token(local, sandbox_id):
    host, port = local.address.split(":")
    connection = http.client.HTTPConnection(host, int(port))
    connection.request("GET", "/sandboxes/" + sandbox_id, headers={"X-API-KEY": programs.API_KEY})
    return json.loads(connection.getresponse().read()).get("envdAccessToken")


def logs(local, service, sandbox_id, rounds=5):
    """Megabytes per second of the same bytes on both ways, and of the relay with its own checks."""
    stub = service.stub(0)
    for response in stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox_id, command_id="gib", shell="head -c 1G /dev/zero",
            max_journal_bytes=2 * GIB), timeout=300):
        pass
    recorder = bytes(follow.run(
        stub, sandbox_id, user="root", shell="ls /var/lib/sandboxd/bin/recorder-*").out).decode().split()[0]
    body = start_request(recorder, "follow", "--id=gib")
    token = access_token(local, sandbox_id)
    raw = service.stub(0, raw=True)
    relayed, direct = [], []
    for n in range(rounds + 1):
        size, seconds = curl_start(local, sandbox_id, token, body)
        assert size > GIB, "the agent sent %d bytes only" % size
        begin, total = time.perf_counter(), 0
        for message in raw.Logs(
                api.LogsRequest(sandbox_id=sandbox_id, command_id="gib"), timeout=300):
            total += len(message)
        took = time.perf_counter() - begin
        assert total > GIB, "Logs sent %d bytes only" % total
        if n:
            direct.append(size / seconds)
            relayed.append(total / took)
    return p50(relayed), p50(direct)


def memory(local, count=1000, per_sandbox=50):
    """Follow streams of commands that say nothing, over many sandboxes: each has its own limits."""
    with Service(local, count=1) as service:
        pod, stub = service.pods[0], service.stub(0)
        ids = [stub.CreateSandbox(api.CreateSandboxRequest(), timeout=60).sandbox.sandbox_id
               for _ in range(count // per_sandbox)]
        for sandbox_id in ids:
            stream = stub.RunCommand(api.RunCommandRequest(
                sandbox_id=sandbox_id, command_id="quiet", shell="sleep 1000"), timeout=60)
            next(stream)
            stream.cancel()
        time.sleep(1)
        idle = pod.rss()
        streams, ready = [], threading.Semaphore(0)
        channels = [api.channel(pod.address) for _ in range(8)]
        stubs = [api.Stub(c, raw=True) for c in channels]
        for n in range(count):
            streams.append(stubs[n % len(stubs)].Logs(api.LogsRequest(
                sandbox_id=ids[n // per_sandbox], command_id="quiet", follow=True), timeout=900))

        def first_event(stream):
            for message in stream:
                if len(message) > 8:  # the id alone comes first
                    break
            ready.release()

        threads = [threading.Thread(target=first_event, args=(s,), daemon=True) for s in streams]
        for thread in threads:
            thread.start()
        for _ in streams:
            if not ready.acquire(timeout=120):
                raise RuntimeError("not every stream came to its first event")
        time.sleep(2)
        full = pod.rss()
        for stream in streams:
            stream.cancel()
        for channel in channels:
            channel.close()
        for sandbox_id in ids:
            stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)
    return idle, (full - idle) / count


def spread(times):
    return "p50 %.2f ms, p99 %.2f ms" % (p50(times), sandboxes.percentile(times, 99))


def beside(ours, alone, limit):
    """How that compares with bwrap, measured in turns, and whether it is beyond the limit."""
    if None in alone:
        return "bwrap is not installed", False
    ratio = p50(ours) / p50(alone)
    return "%.2f of bwrap true, %s (limit %.2f)" % (ratio, spread(alone), limit), ratio > limit


def create(local):
    created, first, alone = sandboxes.create(local)
    text, bad = beside(created, alone, CREATE_LIMIT)
    print("create  %s: %s; to the end of its first command %s"
          % (spread(created), text, spread(first)), flush=True)
    return bad


def start(local):
    started, ended, alone = sandboxes.start(local)
    text, bad = beside(ended, alone, START_LIMIT)
    print("start   %s, to its end %s: that is %s" % (spread(started), spread(ended), text),
          flush=True)
    return bad


def many(local):
    seconds, each, before, full, after = sandboxes.many(local)
    print("many    500 sandboxes: %s" % ", ".join("%s %.2f s" % s for s in seconds.items()))
    print("many    each: resident %.0f KiB, in proportion %.0f KiB, of all of the machine's %.0f KiB"
          % (each[1] / 1024, each[2] / 1024, each[0] / 1024))
    print("many    %s" % "; ".join("%s %d, %d, then %d" % (what, before[what], full[what], after[what])
                                   for what in before), flush=True)
    return any(after[what] > before[what] for what in before)


def main():
    parser = argparse.ArgumentParser(prog="./dev bench")
    parser.add_argument("what", nargs="*", help="only these figures")
    wanted = parser.parse_args().what or [
        "unary", "logs", "memory", "create", "start", "many", "overload"]
    programs.adopt_orphans()
    data = tempfile.mkdtemp(prefix="sandboxd-bench-")
    bad = False
    local = programs.Local(Path(data) / "local", "--max-sandboxes=600")
    try:
        for figure in (create, start, many):
            if figure.__name__ in wanted:
                bad |= figure(local)
        with Service(local, count=1) as service:
            stub = service.stub(0)
            sandbox_id = stub.CreateSandbox(api.CreateSandboxRequest(
                timeout=api.seconds(2700)), timeout=60).sandbox.sandbox_id
            if "unary" in wanted:
                ours, theirs = unary(local, service, sandbox_id)
                print("unary   GetSandbox %.0f us, direct HTTP %.0f us: %.2f times"
                      % (ours, theirs, ours / theirs), flush=True)
            if "logs" in wanted:
                ours, theirs = logs(local, service, sandbox_id)
                ratio = ours / theirs
                bad |= ratio < LOGS_FLOOR
                print("logs    Logs %.0f MB/s, curl of Start %.0f MB/s: %.2f of it (floor %.2f)"
                      % (ours / 1e6, theirs / 1e6, ratio, LOGS_FLOOR), flush=True)
            stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)
        if "memory" in wanted:
            idle, each = memory(local)
            bad |= each > STREAM_LIMIT
            print("memory  idle %.1f MiB, per open follow stream at 1,000: %.1f KiB (limit %d)"
                  % (idle / (1 << 20), each / 1024, STREAM_LIMIT // 1024), flush=True)
        if "overload" in wanted:
            bad |= overload.overload()
    finally:
        local.stop()
        shutil.rmtree(data, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
