"""A pod with ten times the callers that its limit lets in, against the same pod with one caller."""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes import e2b  # noqa: E402
from harness import programs  # noqa: E402

LIMIT = 16  # --max-calls
TIMES = 10
# What E2B's own API takes for a question like ours, and more than a whole call takes of this
# machine: with the local runtime behind it the pod would be measured against its own processor.
E2B_S = 0.025


class SlowE2B(asyncio.Protocol):
    """Says of a sandbox that it runs, after a while, as often as it is asked."""

    body = json.dumps(e2b.describe()).encode()
    answer = (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def connection_made(self, transport):
        self.transport, self.rest = transport, b""

    def data_received(self, data):
        *requests, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for _ in requests:
            asyncio.get_running_loop().call_later(E2B_S, self.transport.write, self.answer)


async def serve():
    server = await asyncio.get_running_loop().create_server(SlowE2B, "127.0.0.1", 0)
    print(json.dumps({"msg": "ready", "listen": "127.0.0.1:%d" % server.sockets[0].getsockname()[1]}),
          file=sys.stderr, flush=True)
    await server.serve_forever()


def call(pod, callers, patience, seconds=8):
    """How many and the median and p99 in ms, of accepted and of refused calls."""
    done = programs.run("tests/bench/overload", pod.address, e2b.SANDBOX, callers, seconds, patience,
                        timeout=seconds + 60)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    *figures, failed = map(float, done.stdout.split())
    assert failed == 0, done.stderr
    accepted, refused = figures[:3], figures[3:]
    return ([accepted[0], accepted[1] / 1000, accepted[2] / 1000],
            [refused[0], refused[1] / 1000, refused[2] / 1000])


def overload():
    """Whether one of the two promises does not hold; prints what they are made of."""
    upstream = programs.Program("E2B", [sys.executable, __file__]).wait_ready()
    pod = programs.Pod("http://" + upstream.address, None, "--max-calls=%d" % LIMIT)
    try:
        alone, _ = call(pod, 1, "patient")
        full, _ = call(pod, LIMIT, "patient")
        bad = False
        print("overload one caller p50 %.2f ms, p99 %.2f ms; %d callers, the limit: p50 %.2f, p99 %.2f"
              % (alone[1], alone[2], LIMIT, full[1], full[2]))
        for patience in ("patient", "hasty"):
            accepted, refused = call(pod, TIMES * LIMIT, patience)
            ratio, quick = accepted[2] / alone[2], refused[2] / accepted[1]
            bad |= patience == "patient" and (ratio > 2 or quick >= 1)
            print("overload %d callers, %s when refused: accepted %d, p50 %.2f ms, p99 %.2f ms: %.2f "
                  "of one caller's (limit 2); refused %d, p50 %.2f ms, p99 %.2f ms: %.2f of the "
                  "accepted p50 (limit 1)" % (
                      TIMES * LIMIT, patience, *accepted, ratio, *refused, quick), flush=True)
    finally:
        pod.stop()
        upstream.kill()
    return bad


if __name__ == "__main__":
    asyncio.run(serve())
