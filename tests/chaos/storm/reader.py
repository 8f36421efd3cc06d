"""A client of the storm: runs many commands at once and checks every line of theirs.

Takes a JSON object on its first line of stdin: {"addresses", "heartbeat_s", "readers": [{"name", "sandbox_id",
"command_id", "lines", "burst", "pause_ms", "overflow", "journal", "bytes_per_s", "slow_s"}]}: a reader takes no more
than so many bytes a second (0: all it gets) for the first slow_s seconds. Later lines are orders: "stall NAME SECONDS"
stops reading for so long, "reconnect NAME" drops the stream. One JSON line per reader comes out at its end, and one
when an order was carried out.
"""

import asyncio
import json
import random
import sys
import time
import zlib
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from harness import api  # noqa: E402

PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL,
           grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
ACK_EVERY = 8  # events
NAP_MAX_S = 3


def say(**what):
    print(json.dumps(what), flush=True)


class Lines:
    """The lines of one stream: each is what the printer must have written at its place."""

    def __init__(self, name, stream):
        self.prefix = ("%s %s " % (name, stream)).encode()
        self.size = len(self.prefix) + len("00000000 00000000\n")
        self.count = 0
        self.wrong = []
        self._last = 0  # the number of the last line
        self._rest = b""  # of the next one; None: its beginning was dropped

    def take(self, offset, data):
        if self._rest is None:
            cut = -offset % self.size
            if cut >= len(data):
                return
            data, self._rest, self._last = data[cut:], b"", (offset + cut) // self.size
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self.count += 1
            self._last += 1
            said = self.prefix + b"%08d " % self._last
            if line != said + b"%08x" % zlib.crc32(said) and len(self.wrong) < 5:
                self.wrong.append("line %d of %s is %r" % (self._last, self.prefix, line[:80]))

    def skip(self):
        """What comes next is anywhere behind."""
        self._rest = None

    @property
    def torn(self):
        return bool(self._rest)


class Reader:
    """One command, from its start to its exit, whatever happens on the way."""

    def __init__(self, plan, channels, heartbeat_s):
        self.plan, self.channels, self.patience = plan, channels, 4 * heartbeat_s
        self.streams = {"stdout": Lines(plan["command_id"], "o"),
                        "stderr": Lines(plan["command_id"], "e")}
        self.next_seq, self.acked = 1, 0
        self.lost = self.repeated = self.dropped = self.breaks = self.started = 0
        self.dropped_bytes = self.received_bytes = 0
        self.slow_until = time.monotonic() + plan["slow_s"] if plan["bytes_per_s"] else 0
        self.exited = None
        self.order = None  # what to do before the next message is read

    async def run(self):
        delay = 0.0
        while self.exited is None:
            self.breaks += 1
            try:
                await self._read_one_stream(random.choice(self.channels))
            except grpc.aio.AioRpcError as error:
                if error.code() not in PASSING:
                    return self._report("%s: %s" % (error.code(), error.details()))
            except (asyncio.TimeoutError, ConnectionResetError):
                pass
            if self.exited is None:
                delay = min(delay + 0.05, 0.5)
                await asyncio.sleep(delay * random.random())
        return self._report(None)

    async def _read_one_stream(self, stub):
        plan = self.plan
        call = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=plan["sandbox_id"], command_id=plan["command_id"], from_seq=self.next_seq,
            argv=api.Argv(args=["./printer", plan["command_id"], str(plan["lines"]),
                                str(plan["burst"]), str(plan["pause_ms"])]),
            overflow=plan["overflow"], max_journal_bytes=plan["journal"]))
        try:
            while True:
                response = await asyncio.wait_for(call.read(), self.patience)
                if response is grpc.aio.EOF:
                    return
                before = self.received_bytes
                for event in response.events:
                    self._take(event)
                if time.monotonic() < self.slow_until:
                    await asyncio.sleep(
                        min((self.received_bytes - before) / plan["bytes_per_s"], NAP_MAX_S))
                if plan["overflow"] == api.OVERFLOW_BLOCK and self.next_seq - self.acked > ACK_EVERY:
                    await self._ack(stub)
                if self.order is not None and not await self._obey():
                    return
        finally:
            call.cancel()

    def _take(self, event):
        kind = event.WhichOneof("event")
        if kind == "dropped":
            if event.dropped.first_seq != self.next_seq:
                self.lost += 1
            self.dropped += event.dropped.last_seq - event.dropped.first_seq + 1
            self.dropped_bytes += event.dropped.bytes
            self.next_seq = event.dropped.last_seq + 1
            for lines in self.streams.values():
                lines.skip()
            return
        if event.seq < self.next_seq:
            self.repeated += 1
            return
        self.lost += event.seq - self.next_seq
        self.next_seq = event.seq + 1
        if kind in self.streams:
            data = getattr(event, kind)
            self.received_bytes += len(data)
            self.streams[kind].take(event.offset, data)
        elif kind == "started":
            self.started += 1
        elif kind == "exited":
            self.exited = event.exited

    async def _ack(self, stub):
        self.acked = self.next_seq
        await stub.AckLogs(api.AckLogsRequest(
            sandbox_id=self.plan["sandbox_id"], command_id=self.plan["command_id"],
            seq=self.next_seq - 1), timeout=self.patience)

    async def _obey(self):
        """False: the stream is to be dropped."""
        order, self.order = self.order, None
        say(obeyed=order[0])
        if order[0] == "reconnect":
            return False
        await asyncio.sleep(order[1])
        return True

    def _report(self, failure):
        out, err = self.streams["stdout"], self.streams["stderr"]
        return {
            "name": self.plan["name"], "failure": failure,
            "lines": out.count + err.count, "wrong": out.wrong + err.wrong,
            "torn": out.torn or err.torn, "lost": self.lost, "repeated": self.repeated,
            "dropped": self.dropped, "dropped_bytes": self.dropped_bytes,
            "received_bytes": self.received_bytes, "started": self.started,
            "breaks": self.breaks - 1, "exited": None if self.exited is None else [
                self.exited.reason, self.exited.code, self.exited.message],
        }


async def take_orders(readers, lines):
    by_name = {r.plan["name"]: r for r in readers}
    while line := await lines.readline():
        verb, name, *rest = line.decode().split()
        by_name[name].order = (verb, *map(float, rest))


async def main():
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    plan = json.loads(await lines.readline())
    # A few connections each, as a backend would have; which pod they reach is the balancer's choice.
    channels = [grpc.aio.insecure_channel(address, options=[
        ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 300),
    ]) for address in plan["addresses"] for _ in range(3)]
    stubs = [api.Stub(channel) for channel in channels]
    readers = [Reader(p, stubs, plan["heartbeat_s"]) for p in plan["readers"]]
    orders = asyncio.ensure_future(take_orders(readers, lines))

    async def one(reader):
        say(**await reader.run())

    await asyncio.gather(*(one(r) for r in readers))
    orders.cancel()
    for channel in channels:
        await channel.close()


asyncio.run(main())
