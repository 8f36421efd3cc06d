"""What E2B's Python SDK can do with a sandbox as a whole, each method once: see python_driver.py.

Every method is awaited; where the flavours differ, `sdk.sync` tells which one this is.
"""

import os
import time
from datetime import datetime, timedelta, timezone

import e2b
from e2b import (
    NotFoundException, SandboxException, SandboxNotFoundException, SandboxNotRunningException,
    SandboxQuery, SandboxState, TimeoutException,
)
from python_cases import fetch, raises, until


async def create_and_list(sdk, sandbox):
    info = await sandbox.get_info()
    assert info.metadata == {"purpose 1": "a&b"} and info.state == SandboxState.RUNNING
    assert (info.sandbox_id, info.name or info.template_id) == (sandbox.sandbox_id, "base")
    assert (await sdk.Sandbox.get_info(sandbox.sandbox_id)).started_at == info.started_at
    assert sandbox.sandbox_domain == info.sandbox_domain
    assert sandbox.envd_api_url == os.environ["E2B_SANDBOX_URL"] == sandbox.envd_direct_url
    assert sandbox.connection_config.api_url == os.environ["E2B_API_URL"]

    same = {"key": "first-%s" % sandbox.sandbox_id}
    two = await sdk.Sandbox.create(metadata=same, timeout=120)
    await two.set_timeout(300)
    await sdk.Sandbox.set_timeout(two.sandbox_id, 200)
    assert 190 < ((await two.get_info()).end_at - datetime.now(timezone.utc)).total_seconds() <= 200
    found = await (await sdk.Sandbox.list(SandboxQuery(
        metadata=same, state=[SandboxState.RUNNING], template="base",
        started_after=info.started_at))).next_items()
    assert [s.sandbox_id for s in found] == [two.sandbox_id]

    oldest = await sdk.Sandbox.list(
        SandboxQuery(started_after=info.started_at), limit=1, order="asc")
    assert [s.sandbox_id for s in await oldest.next_items()] == [sandbox.sandbox_id]
    assert oldest.has_next
    rest = await sdk.Sandbox.list(SandboxQuery(started_after=info.started_at), limit=1, order="asc",
                                  next_token=oldest.next_token)
    assert [s.sandbox_id for s in await rest.next_items()] == [two.sandbox_id]

    connected = await sdk.Sandbox.connect(two.sandbox_id, timeout=400)
    assert ((await two.get_info()).end_at - datetime.now(timezone.utc)).total_seconds() > 390
    await two.connect()
    assert (await connected.commands.run("echo 2")).stdout == "2\n"
    assert await sdk.Sandbox.kill(two.sandbox_id) and not await sdk.Sandbox.kill(two.sandbox_id)
    await raises(SandboxNotFoundException, two.connect)
    unknown = await raises(SandboxException, sdk.Sandbox.create, "no-such-template")
    assert "no-such-template" in str(unknown)


async def end(sdk, sandbox):
    running = await sandbox.commands.run("sleep 100", background=True)
    assert await sandbox.is_running()
    assert await sandbox.kill()
    gone = await raises(SandboxNotRunningException, running.wait)
    assert "killed or reached its end of life" in str(gone)
    assert not await sandbox.is_running() and not await sandbox.kill()
    await raises(SandboxNotFoundException, sdk.Sandbox.connect, sandbox.sandbox_id)
    await raises(SandboxNotFoundException, sandbox.get_info)
    await raises(SandboxNotFoundException, sandbox.set_timeout, 1)
    await raises(TimeoutException, sandbox.commands.run, "true")


async def idempotency(sdk):
    """A create that is said twice makes one sandbox."""
    key = "key-%d" % time.monotonic_ns()
    one = await sdk.Sandbox.create(timeout=60, idempotency_key=key)
    two = await sdk.Sandbox.create(timeout=60, idempotency_key=key)
    assert one.sandbox_id == two.sandbox_id
    await raises(SandboxException, sdk.Sandbox.create, timeout=61, idempotency_key=key)
    await one.kill()


async def pause(sdk):
    sandbox = await sdk.Sandbox.create(timeout=60)
    counter = await sandbox.commands.run("sleep 1000", background=True)
    await sandbox.files.write("kept", "1")

    async def pids():
        return [process.pid for process in await sandbox.commands.list()]

    assert await sandbox.pause() and not await sandbox.pause()
    assert not await sdk.Sandbox.pause(sandbox.sandbox_id)
    assert (await sandbox.get_info()).state == SandboxState.PAUSED
    assert not await sandbox.is_running()
    paused = await sdk.Sandbox.list(SandboxQuery(state=[SandboxState.PAUSED]))
    assert sandbox.sandbox_id in [s.sandbox_id for s in await paused.next_items()]
    await sandbox.connect(timeout=120)
    assert (await sandbox.get_info()).state == SandboxState.RUNNING
    assert counter.pid in await pids()
    assert await sandbox.pause(keep_memory=True, strict=True)
    await sdk.Sandbox.connect(sandbox.sandbox_id, on_resume="restore")
    assert counter.pid in await pids()

    assert await sandbox.pause(mode="filesystem")
    await sandbox.connect()
    assert await pids() == [] and await sandbox.files.read("kept") == "1"
    await sandbox.commands.run("sleep 1000", background=True)
    assert await sdk.Sandbox.beta_pause(sandbox.sandbox_id)
    await sandbox.connect(on_resume="reboot")
    assert await pids() == [] and await sandbox.files.read("kept") == "1"
    assert await sandbox.beta_pause(mode="full")
    await sandbox.connect()
    assert await sandbox.beta_pause(keep_memory=False)
    assert await sandbox.kill()
    await raises(SandboxNotFoundException, sandbox.pause)


async def lifecycle(sdk):
    """What a timeout does: pause, and what wakes it."""
    filesystem = await sdk.Sandbox.create(
        timeout=3, lifecycle={"on_timeout": {"action": "pause", "mode": "filesystem"}})
    woken = await sdk.Sandbox.create(
        timeout=3, lifecycle={"on_timeout": "pause", "auto_resume": True})
    await filesystem.files.write("kept", "1")
    # No stream is left open: the SDK asks after a sandbox whose stream breaks, and that would wake it.
    await woken.commands.run("python3 -m http.server 8000 >/dev/null 2>&1 &")
    for sandbox in filesystem, woken:
        end = time.monotonic() + 15
        while (await sandbox.get_info()).state != SandboxState.PAUSED:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert (await woken.get_info()).lifecycle == {"on_timeout": "pause", "auto_resume": True}
    assert not await filesystem.is_running()
    await filesystem.connect()
    assert await filesystem.files.read("kept") == "1"
    assert fetch(await woken.get_host(8000))[0] == 200
    assert (await woken.get_info()).state == SandboxState.RUNNING
    for sandbox in filesystem, woken:
        assert await sandbox.kill()


async def snapshots(sdk):
    sandbox = await sdk.Sandbox.create(timeout=60)
    await sandbox.files.write("kept", "1")
    plain = await sandbox.create_snapshot(mode="full")
    name = "snapshot-%d" % time.monotonic_ns()
    named = await sdk.Sandbox.create_snapshot(sandbox.sandbox_id, name=name, mode="filesystem")
    assert await sandbox.is_running() and any(name in n for n in named.names)
    await sandbox.files.write("kept", "2")

    pages = await sandbox.list_snapshots(limit=1)
    first = await pages.next_items()
    assert pages.has_next
    rest = await sandbox.list_snapshots(next_token=pages.next_token)
    ids = [snapshot.snapshot_id for snapshot in first + await rest.next_items()]
    assert sorted(ids) == sorted([plain.snapshot_id, named.snapshot_id])
    by_name = await sdk.Sandbox.list_snapshots(sandbox.sandbox_id, name=name)
    assert [s.snapshot_id for s in await by_name.next_items()] == [named.snapshot_id]

    for snapshot in plain, named:
        made = await sdk.Sandbox.create(snapshot.snapshot_id, timeout=60)
        assert await made.files.read("kept") == "1"
        assert await made.kill()
        assert await sdk.Sandbox.delete_snapshot(snapshot.snapshot_id)
        assert not await sdk.Sandbox.delete_snapshot(snapshot.snapshot_id)
        await raises(SandboxException, sdk.Sandbox.create, snapshot.snapshot_id)

    forks = await sandbox.fork(timeout=60, count=2)
    forks += await sdk.Sandbox.fork(sandbox.sandbox_id)
    for n, fork in enumerate(forks):
        assert await fork.files.read("kept") == "2"
        await fork.files.write("kept", "fork %d" % n)
    assert [await s.files.read("kept") for s in [sandbox] + forks] == [
        "2", "fork 0", "fork 1", "fork 2"]
    for s in [sandbox] + forks:
        assert await s.kill()


ECHO_HOST = """
import http.server

class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers["Host"].encode())

http.server.HTTPServer(("127.0.0.1", 8000), Echo).serve_forever()
"""


async def network(sdk):
    allow_nothing = {"deny_out": lambda every: [every.all_traffic], "allow_out": ["192.0.2.1"],
                     "allow_public_traffic": False, "mask_request_host": "masked:${PORT}"}
    sandbox = await sdk.Sandbox.create(timeout=60, network=allow_nothing)
    info = (await sandbox.get_info()).network
    assert (info["deny_out"], info["allow_out"]) == (["0.0.0.0/0"], ["192.0.2.1"])
    await sandbox.files.write("server.py", ECHO_HOST)
    await sandbox.commands.run("exec python3 server.py", background=True)
    host = await sandbox.get_host(8000)
    token = {"e2b-traffic-access-token": sandbox.traffic_access_token}
    assert fetch(host)[0] == 403
    until(lambda: fetch(host, token) == (200, b"masked:8000"))

    await sandbox.update_network({"deny_out": ["192.0.2.2"]})
    info = (await sandbox.get_info()).network
    assert (info.get("deny_out"), info.get("allow_out")) == (["192.0.2.2"], None)
    await sdk.Sandbox.update_network(sandbox.sandbox_id, {"allow_internet_access": False})
    assert (await sandbox.get_info()).network.get("deny_out") != ["192.0.2.2"]
    await sandbox.kill()
    await raises(SandboxNotFoundException, sandbox.update_network, {})


async def metrics(sdk):
    sandbox = await sdk.Sandbox.create(timeout=60)
    begin = datetime.now(timezone.utc) - timedelta(seconds=5)
    end = time.monotonic() + 20
    while not (measured := await sandbox.get_metrics()):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert measured[0].cpu_count >= 1 and 0 < measured[0].mem_used <= measured[0].mem_total
    assert 0 <= measured[0].disk_used <= measured[0].disk_total
    assert abs((measured[0].timestamp - begin).total_seconds()) < 60
    later = datetime.now(timezone.utc) + timedelta(seconds=5)
    assert await sdk.Sandbox.get_metrics(sandbox.sandbox_id, start=begin, end=later)
    assert not await sandbox.get_metrics(
        start=begin - timedelta(minutes=9), end=begin - timedelta(minutes=1))
    await sandbox.kill()


async def services(sdk):
    """What else E2B's cloud serves is looked up, or refused with a sentence."""
    client = e2b.E2B(api_key=os.environ["E2B_API_KEY"])
    names = {"Sandbox", "Template", "Volume", "Secret"}
    assert set(vars(client)) == names | {"Async" + name for name in names}
    template, volume, secret = (sdk.service(client, name) for name in ("Template", "Volume", "Secret"))
    made = await sdk.service(client, "Sandbox").create(timeout=60)
    assert await made.kill()
    assert await template.exists("base") and not await template.exists("no-such-template")
    for refused, call in (
            ("not built here", lambda: template.build(e2b.Template().from_base_image(), "mine")),
            ("no volumes", lambda: volume.create("v")),
            ("no secrets", lambda: secret.create("s", "value"))):
        assert refused in str(await raises(Exception, call))
