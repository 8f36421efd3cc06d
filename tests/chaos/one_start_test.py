"""One command_id, many clients, three pods, the same moment: the command runs once.

SANDBOXD_CHAOS_STARTS rounds (10 unless set) of 64 calls each.
"""

import asyncio
import os

import grpc
from harness import api
from harness.service import Service

ROUNDS = int(os.environ.get("SANDBOXD_CHAOS_STARTS", "10"))
CLIENTS = 64


async def read_all(stub, request):
    """Every event of the stream, as bytes."""
    events = []
    async for response in stub.RunCommand(request, timeout=120):
        events += [event.SerializeToString() for event in response.events]
    return events


async def race(addresses, sandbox):
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
                for address in addresses for _ in range(2)]
    stubs = [api.Stub(channel) for channel in channels]
    for n in range(ROUNDS):
        request = api.RunCommandRequest(
            sandbox_id=sandbox, command_id="race%d" % n,
            shell="echo race%d >> ~/ran; for i in 1 2 3; do echo $i; echo e$i >&2; done" % n)
        streams = await asyncio.gather(*(
            read_all(stubs[client % len(stubs)], request) for client in range(CLIENTS)))
        assert len(streams[0]) >= 3, "started, output, exited"
        assert all(stream == streams[0] for stream in streams), "round %d" % n
    for channel in channels:
        await channel.close()


def test_a_command_runs_once_whoever_starts_it(local, sandbox):
    with Service(local, count=3) as service:
        asyncio.run(race(service.addresses, sandbox))
        ran = service.stub(0).ReadFile(api.ReadFileRequest(
            sandbox_id=sandbox, path="ran", encoding=api.ENCODING_TEXT), timeout=30).text.split()
    assert ran == ["race%d" % n for n in range(ROUNDS)]
