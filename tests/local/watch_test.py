"""Watching directories over the wire, where one agent may do better than E2B's own; what both do
alike is in tests/conformance."""

import http.client
import json
import struct
import time

import pytest
from tiers import local  # noqa: F401, the fixture
from wire import Api


@pytest.fixture(scope="module")
def sandbox(local):
    made = Api(local.address).create(timeout=600)
    yield made
    made.delete()


def rpc(sandbox, method, **message):
    answer = sandbox.request("POST", "/filesystem.Filesystem/" + method, json.dumps(message),
                             headers={"Content-Type": "application/json"})
    return answer.status, answer.json


class Watch:
    def __init__(self, sandbox, headers=None, **message):
        payload = json.dumps(message).encode()
        self.connection = http.client.HTTPConnection(sandbox.api.address, timeout=30)
        self.connection.request(
            "POST", "/filesystem.Filesystem/WatchDir",
            struct.pack(">BI", 0, len(payload)) + payload,
            {**sandbox.headers(), "Content-Type": "application/connect+json", **(headers or {})})
        self.response = self.connection.getresponse()
        assert self.next() == {"start": {}}

    def next(self):
        flags, size = struct.unpack(">BI", self.response.read(5))
        message = json.loads(self.response.read(size))
        return message.get("error", {}) if flags & 2 else message

    def until(self, name):
        """All events up to the first one of that name, as (type, name)."""
        seen = []
        while not seen or seen[-1][1] != name:
            event = self.next()["filesystem"]
            seen.append((event["type"].replace("EVENT_TYPE_", ""), event["name"]))
        return seen

    def close(self):
        self.connection.close()
        self.response.close()


def test_what_left_the_tree_is_not_watched_any_more(sandbox):
    sandbox.run("mkdir -p tree/out/deep")
    watch = Watch(sandbox, path="tree", recursive=True)
    sandbox.run("mv tree/out gone; echo > gone/unseen; echo > gone/deep/unseen; mkdir tree/last")
    assert watch.until("last") == [("RENAME", "out"), ("CREATE", "last")]
    sandbox.run("mv gone tree/back")
    assert watch.until("back/unseen") == [
        ("CREATE", "back"), ("CREATE", "back/deep"), ("CREATE", "back/deep/unseen"),
        ("CREATE", "back/unseen")]
    sandbox.run("echo > tree/back/deep/seen; touch tree/done")
    assert watch.until("done") == [
        ("CREATE", "back/deep/seen"), ("WRITE", "back/deep/seen"), ("CREATE", "done")]
    watch.close()


def test_a_tree_behind_a_link_is_watched(sandbox):
    sandbox.run("mkdir -p real/sub; ln -s real link")
    watch = Watch(sandbox, path="link", recursive=True)
    sandbox.run("mkdir real/sub/new")
    assert watch.until("sub/new") == [("CREATE", "sub/new")]
    watch.close()


def test_events_wait_for_a_client_that_does_not_read(sandbox):
    """What does not fit between agent and client waits in the kernel, and then is an error."""
    watch = Watch(sandbox, path=".", includeEntry=True)
    code, _ = sandbox.run("mkdir many; cd many; seq 200 | xargs touch; cd ..; rm -r many; "
                          "for i in 1 2 3 4 5; do seq -f f%.0f 4000 | xargs touch; "
                          "seq -f f%.0f 4000 | xargs rm; done; echo end > end")
    assert code == 0
    n, last = 0, None
    while last != "end":
        message = watch.next()
        if "code" in message:
            assert message["code"] == "internal" and "lost" in message["message"]
            break
        n, last = n + 1, message["filesystem"]["name"]
    assert n > 10_000
    assert sandbox.health() == 204
    watch.close()


def test_a_watcher_keeps_what_nobody_asks_for(sandbox):
    sandbox.run("mkdir kept")
    watcher = rpc(sandbox, "CreateWatcher", path="kept")[1]["watcherId"]
    sandbox.run("cd kept; for i in 1 2 3; do seq 4000 | xargs touch; seq 4000 | xargs rm; done")
    events = []
    while len(events) < 36_000:
        status, answer = rpc(sandbox, "GetWatcherEvents", watcherId=watcher)
        if status != 200:
            assert answer["code"] == "internal"
            break
        events += answer.get("events", [])
        if not answer.get("events"):
            time.sleep(0.01)
    assert len(events) > 16_000
    assert rpc(sandbox, "RemoveWatcher", watcherId=watcher) == (200, {})


def test_watchers_are_bounded(sandbox):
    """By the kernel or by us, and the agent goes on."""
    ids = []
    while len(ids) < 1100:
        status, answer = rpc(sandbox, "CreateWatcher", path="/tmp")
        if status != 200:
            assert answer["code"] in ("internal", "resource_exhausted")
            break
        ids.append(answer["watcherId"])
    assert 10 < len(ids) <= 1024
    for watcher in ids:
        assert rpc(sandbox, "RemoveWatcher", watcherId=watcher) == (200, {})
    assert rpc(sandbox, "ListDir", path="/")[0] == 200
