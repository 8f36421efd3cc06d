"""One request_id or reuse_key, 50 callers, three pods, the same moment, and an E2B that loses requests
and answers: in the end there is one sandbox.

SANDBOXD_CHAOS_CREATES rounds (10 unless set), in which each caller repeats its call until it is
answered. All must be given the same sandbox, and that one is never deleted. What attempts with a
lost answer have made is gone within 70 s; where the pod died meanwhile, its own time ends it.

So many rounds are beyond what a machine can start: their sandboxes are entries of tests/chaos/doubt.py.
A few rounds more are those of the local runtime.
"""

import asyncio
import os
import threading
import time

import grpc
import pytest
from doubt import Doubt, Memory
from harness import api, programs
from harness.service import Service

ROUNDS = int(os.environ.get("SANDBOXD_CHAOS_CREATES", "10"))
REAL_ROUNDS = 3
AT_ONCE = 5  # rounds
CALLERS = 50
CALL_S = 120
HUNTED_S = 70


async def create(stub, request, figures):
    """As any client: what failed for now may be asked again."""
    again = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED
    end = time.monotonic() + CALL_S
    while True:
        try:
            made = await stub.CreateSandbox(request, timeout=60)
            return made.sandbox.sandbox_id
        except grpc.RpcError as failure:
            if failure.code() not in again or time.monotonic() > end:
                raise
            figures["repeated"] += 1
            await asyncio.sleep(0.2)


async def one_round(n, stubs, e2b, figures):
    field = ("request_id", "reuse_key")[n % 2]
    key = "race%d-%d" % (os.getpid(), n)
    request = api.CreateSandboxRequest(
        **{field: key}, metadata={"round": key}, timeout=api.seconds(900))
    given = set(await asyncio.gather(*(
        create(stubs[caller % len(stubs)], request, figures) for caller in range(CALLERS))))
    assert len(given) == 1, "round %d: callers were given %s" % (n, given)
    while e2b.doubt.late.get(key):
        await asyncio.sleep(0.05)
    since = time.monotonic()
    while (left := await e2b.living({"round": key})) != given:
        assert given <= left, "round %d: the sandbox that was given is gone" % n
        assert time.monotonic() < since + HUNTED_S, "round %d: %s are left beside %s" % (
            n, left - given, given)
        await asyncio.sleep(0.2)
    assert not given & e2b.doubt.deleted, "round %d" % n
    figures["longest"] = max(figures["longest"], time.monotonic() - since)
    figures["given"] |= given
    await e2b.delete(given.pop())


async def race(addresses, rounds, e2b, figures):
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(a, options=options) for a in addresses for _ in range(2)]
    stubs = [api.Stub(c) for c in channels]
    numbers = iter(range(rounds))

    async def worker():
        for n in numbers:
            await one_round(n, stubs, e2b, figures)
            if (n + 1) % 50 == 0:
                print("%d rounds, %s" % (n + 1, e2b.doubt.happened), flush=True)

    try:
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    finally:
        for channel in channels:
            await channel.close()


class InMemory:
    """What is seen past the doubt."""

    def __init__(self, memory):
        self.doubt = memory

    async def living(self, label):
        return {i for i, s in list(self.doubt.sandboxes.items())
                if label.items() <= s["metadata"].items()}

    async def delete(self, sandbox_id):
        del self.doubt.sandboxes[sandbox_id]


class Real:
    """The same of the local runtime, by a pod that is in no doubt."""

    def __init__(self, doubt, stub):
        self.doubt, self._stub = doubt, stub

    async def living(self, label):
        listed = self._stub.ListSandboxes(api.ListSandboxesRequest(metadata=label), timeout=60)
        return {s.sandbox_id for s in listed.sandboxes}

    async def delete(self, sandbox_id):
        self._stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=60)


class Doubted:
    """A local E2B as pods see it through the proxy."""

    def __init__(self, local, doubt):
        self.url, self.sandbox_address = doubt.url, local and local.sandbox_address


@pytest.fixture(scope="session")
def local(data_dir):
    """With room for all that is made at once."""
    program = programs.Local(data_dir / "local", "--max-sandboxes=2000")
    yield program
    program.stop()


@pytest.fixture
def doubt(local):
    doubt = Doubt(local.address, seed=1)
    yield doubt
    doubt.close()


def run(e2b, local, rounds):
    figures = {"repeated": 0, "longest": 0, "given": set()}
    began = time.monotonic()
    with Service(Doubted(local, e2b.doubt), sandbox_url=local is None and "http://127.0.0.1:9",
                 count=3) as doubted:
        asyncio.run(race(doubted.addresses, rounds, e2b, figures))
    assert len(figures["given"]) == rounds
    assert all(e2b.doubt.happened.values()), "not everything happened: %s" % e2b.doubt.happened
    print("%d rounds of %d callers in %.0f s: %s; %d calls repeated; the last of a round's others "
          "was gone %.1f s after E2B had made it" % (
              rounds, CALLERS, time.monotonic() - began, e2b.doubt.happened, figures["repeated"],
              figures["longest"]))


def test_one_key_makes_one_sandbox_whatever_is_lost():
    memory = Memory(seed=1)
    try:
        run(InMemory(memory), None, ROUNDS)
        assert not memory.sandboxes, "left: %s" % memory.sandboxes
    finally:
        memory.close()


def test_one_key_makes_one_real_sandbox(local, stub, doubt):
    run(Real(doubt, stub), local, REAL_ROUNDS)


def test_what_a_killed_pod_leaves_ends_by_its_own_time(local, stub, doubt):
    doubt.chances = dict.fromkeys(doubt.chances, 0) | {"late": 1}
    label = {"killed": str(time.time_ns())}
    request = api.CreateSandboxRequest(
        request_id="killed%d" % time.time_ns(), metadata=label, timeout=api.seconds(8))

    def listed():
        return stub.ListSandboxes(api.ListSandboxesRequest(metadata=label), timeout=30).sandboxes

    with Service(Doubted(local, doubt), count=1) as doubted:
        caller = threading.Thread(target=lambda: pytest.raises(
            grpc.RpcError, doubted.stub().CreateSandbox, request, timeout=30))
        caller.start()
        programs.wait_until(lambda: doubt.happened["late"], 30, "the request")
        doubted.pods[0].kill()
        caller.join()
        programs.wait_until(listed, 30, "the sandbox that nobody waits for")
        programs.wait_until(lambda: not listed(), 60, "its end", every=0.1)
