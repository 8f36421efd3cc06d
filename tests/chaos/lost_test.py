"""What records a command is killed at any time: whoever reads it, through any pod, sees the same end.

SANDBOXD_CHAOS_KILLS commands (60 unless set), each started and read through three pods at once. See also
runtime/recorder/kill_test, which kills at each single step.
"""

import asyncio
import os
import random
import signal
import time

import grpc
from harness import api, follow, leftovers
from harness.programs import wait_until
from harness.service import Service

KILLS = int(os.environ.get("SANDBOXD_CHAOS_KILLS", "60"))
SEED = int(os.environ.get("SANDBOXD_CHAOS_SEED", time.time_ns() % 1_000_000))
AT_ONCE = 6
LINES = 5000  # more than any prints until it is killed

# One of its processes leaves the session; both streams have numbers.
PRINTER = ("echo %s >> ~/ran; (setsid sleep 1000 <&- >&- 2>&- &); "
           "for i in $(seq %d); do echo $i; echo $i >&2; sleep 0.002; done; exec sleep 1000")
NUMBERS = b"".join(b"%d\n" % n for n in range(1, LINES + 1))


def environment(pid):
    try:
        with open("/proc/%d/environ" % pid, "rb") as f:
            return f.read().split(b"\0")
    except OSError:
        return []


def processes_of(name):
    """The command's, as seen from outside of the sandbox."""
    mark = b"CHAOS=" + name.encode()
    return [pid for pid in leftovers.descendants(os.getpid()) if mark in environment(pid)]


def parent(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
        return int(f.read().rsplit(")", 1)[1].split()[1])


def kill_writer(name):
    """SIGKILL to what started the command; False: there is nothing of it yet."""
    for pid in processes_of(name):
        try:
            above = parent(pid)
            if "recorder-" in leftovers.command_line(above):
                os.kill(above, signal.SIGKILL)
                return True
        except (FileNotFoundError, ProcessLookupError):
            continue
    return False


async def kill_soon(name, delay):
    """A while after the command has begun to run."""
    while not await asyncio.to_thread(processes_of, name):
        await asyncio.sleep(0.002)
    await asyncio.sleep(delay)
    assert await asyncio.to_thread(kill_writer, name)


async def read(stub, request):
    """A view to its end; and its events as they came, without the messages around them."""
    events, raw = follow.Events(), []
    async for response in stub.RunCommand(request, timeout=120):
        events.take(response)
        raw += [event.SerializeToString() for event in response.events]
    return events, raw


def check_end(events):
    assert events.exited.reason == api.Exited.REASON_LOST and events.exited.message
    assert NUMBERS.startswith(bytes(events.out)) and NUMBERS.startswith(bytes(events.err))
    assert not events.dropped


async def one(stubs, sandbox, name, delay):
    request = api.RunCommandRequest(
        sandbox_id=sandbox, command_id=name, shell=PRINTER % (name, LINES), envs={"CHAOS": name})
    killer = asyncio.ensure_future(kill_soon(name, delay))
    views = await asyncio.gather(*(read(stub, request) for stub in stubs))
    await killer
    # Who comes later would start it, were it not there.
    views += await asyncio.gather(*(read(stub, request) for stub in stubs))
    for events, raw in views:
        check_end(events)
        assert raw == views[0][1]
    await asyncio.to_thread(wait_until, lambda: not processes_of(name), 30, "the end of its tree")
    return len(views[0][0].out)


async def all_of_them(addresses, sandbox, dice):
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
                for address in addresses]
    stubs = [api.Stub(channel) for channel in channels]
    at_once, got = asyncio.Semaphore(AT_ONCE), []

    async def when_there_is_room(n, delay):
        async with at_once:
            got.append(await one(stubs, sandbox, "lost%d" % n, delay))

    # Many of them early, when there is more to go wrong than printing.
    await asyncio.gather(*(
        when_there_is_room(n, dice.random() ** 2 * 0.6) for n in range(KILLS)))
    for channel in channels:
        await channel.close()
    return got


def test_a_lost_command_has_one_end_for_all(local, sandbox):
    print("SANDBOXD_CHAOS_SEED=%d" % SEED)
    with Service(local, count=3) as service:
        got = asyncio.run(all_of_them(service.addresses, sandbox, random.Random(SEED)))
        ran = service.stub(0).ReadFile(api.ReadFileRequest(
            sandbox_id=sandbox, path="ran", encoding=api.ENCODING_TEXT), timeout=30).text.split()
    # One killed before its first line of shell did not run; none ran twice.
    assert len(ran) == len(set(ran)) and set(ran) <= {"lost%d" % n for n in range(KILLS)}
    print("%d kills, %d that ran, %d bytes of output" % (KILLS, len(ran), sum(got)))
    assert len(got) == KILLS and len(ran) > KILLS / 2 and sum(got)
