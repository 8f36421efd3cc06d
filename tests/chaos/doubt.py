"""A control plane in doubt: passes everything on, but of creates and lists it loses and delays some.

What happens to a request to create a sandbox, by chance:
- pass: nothing.
- lost: E2B makes the sandbox, and the connection is cut in place of its answer.
- late: the connection is cut at once, and E2B gets the request some time later.
- fault: E2B makes the sandbox, and its answer becomes a 500.
- never: a 500, and E2B hears nothing.
Now and then a list is answered by 503 in place of E2B.

Memory is such a control plane without an E2B behind it: its sandboxes are entries, in which nothing runs.
"""

import asyncio
import json
import random
import re
import secrets
import socket
import threading
import time
import urllib.parse

FAULT = b'{"code":500,"message":"in doubt"}'
BUSY = b'{"code":503,"message":"busy"}'


def answer(status, body):
    return (b"HTTP/1.1 %d Doubt\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (status, len(body))) + body


async def read_message(reader):
    """A head and the body behind it, or None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert b"chunked" not in head.lower()
    return head, await reader.readexactly(int(length[1]) if length else 0)


class Doubt:
    """Runs on a thread of its own."""

    def __init__(self, target, seed, latest=2.5):
        self.target = target  # "host:port"
        self.latest = latest  # seconds that a late request may take
        self.chances = {"pass": 40, "lost": 20, "late": 20, "fault": 10, "never": 10}
        self.happened = dict.fromkeys(self.chances, 0)
        self.deleted = set()  # ids that E2B was asked to delete
        self.late = {}  # key of a round -> requests that E2B has not had yet
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = "http://127.0.0.1:%d" % self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, sock=self._listener))
        self._loop.run_forever()

    def close(self):
        """Whatever it still holds is dropped."""
        async def drop():
            self._server.close()
            while tasks := [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _ask(self, upstream, head, body):
        """What E2B answers; upstream is kept for the next question."""
        if not upstream:
            host, port = self.target.rsplit(":", 1)
            upstream += await asyncio.open_connection(host, int(port))
        reader, writer = upstream
        writer.write(head + body)
        await writer.drain()
        answered = await read_message(reader)
        assert answered, "E2B closed the connection"
        return b"".join(answered)

    async def _ask_late(self, key, head, body):
        await asyncio.sleep(self._random.uniform(0.1, self.latest))
        upstream = []
        try:
            await self._ask(upstream, head, body)
        finally:
            self.late[key] -= 1
            for end in upstream[1:]:
                end.close()

    async def _create(self, upstream, head, body):
        """The answer to a request to create, or None to cut the connection."""
        labels = json.loads(body)["metadata"]
        key = labels.get("sandboxd.reuse_key") or labels.get("sandboxd.request_id")
        fate = self._random.choices(*zip(*self.chances.items()))[0]
        self.happened[fate] += 1
        if fate == "never":
            return answer(500, FAULT)
        if fate == "late":
            self.late[key] = self.late.get(key, 0) + 1
            self._loop.create_task(self._ask_late(key, head, body))
            return None
        made = await self._ask(upstream, head, body)
        return {"pass": made, "lost": None, "fault": answer(500, FAULT)}[fate]

    async def _answer(self, upstream, head, body):
        if head.startswith(b"POST /sandboxes "):
            return await self._create(upstream, head, body)
        if head.startswith(b"DELETE /sandboxes/"):
            self.deleted.add(re.match(rb"DELETE /sandboxes/(\w+)", head)[1].decode())
        if head.startswith(b"GET /v2/sandboxes") and self._random.random() < 0.02:
            return answer(503, BUSY)
        return await self._ask(upstream, head, body)

    async def _serve(self, reader, writer):
        upstream = []
        try:
            while (request := await read_message(reader)) is not None:
                answered = await self._answer(upstream, *request)
                if answered is None:
                    break
                writer.write(answered)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in [writer, *upstream[1:]]:
                end.close()


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".%06dZ" % (seconds % 1 * 1e6)


class Memory(Doubt):
    """Sandboxes start within 100 ms, get their time of start then, and are listed up to 100 ms later."""

    def __init__(self, seed):
        self.sandboxes = {}  # id -> what a list tells of it
        self._listed_from = {}
        super().__init__(None, seed)

    async def _ask(self, upstream, head, body):
        method, target = head.split(b" ")[:2]
        url = urllib.parse.urlsplit(target.decode())
        if method == b"POST":
            return answer(201, await self._make(json.loads(body)))
        if url.path == "/v2/sandboxes":
            return answer(200, json.dumps(self.listed(url.query)).encode())
        sandbox_id = url.path.rsplit("/", 1)[1]
        if sandbox_id not in self.sandboxes:
            return answer(404, b'{"code":404,"message":"no such sandbox"}')
        if method == b"DELETE":
            del self.sandboxes[sandbox_id]
            return b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"
        return answer(200, json.dumps(self.sandboxes[sandbox_id]).encode())

    async def _make(self, request):
        await asyncio.sleep(self._random.uniform(0, 0.1))
        now = time.time()
        made = {"sandboxID": "i" + secrets.token_hex(10), "templateID": request["templateID"],
                "clientID": "c", "envdVersion": "0.6.13", "state": "running",
                "startedAt": stamp(now), "endAt": stamp(now + request["timeout"]),
                "metadata": request["metadata"], "cpuCount": 2, "memoryMB": 512, "diskSizeMB": 512}
        # By the clock, not by when this thread gets to run again.
        self._listed_from[made["sandboxID"]] = now + self._random.uniform(0, 0.1)
        self.sandboxes[made["sandboxID"]] = made
        await asyncio.sleep(self._listed_from[made["sandboxID"]] - now)
        return json.dumps(made).encode()

    def listed(self, query):
        """As E2B reads the query of a list."""
        fields = urllib.parse.parse_qs(query)
        wanted = [tuple(map(urllib.parse.unquote, pair.split("="))) for pair in
                  urllib.parse.unquote(fields["metadata"][0]).split("&")]
        now = time.time()
        found = [s for s in self.sandboxes.values() if self._listed_from[s["sandboxID"]] <= now and
                 all(s["metadata"].get(key) == value for key, value in wanted)]
        assert fields["order"] == ["asc"]
        return sorted(found, key=lambda s: (s["startedAt"], s["sandboxID"]))[:int(fields["limit"][0])]
