"""WatchSandboxes: what becomes of sandboxes, told in order, for one list of E2B in a period."""

import hashlib
import secrets
import threading
import time
import types
import urllib.request

import grpc
import pytest
from harness import api, programs, upstream
from harness.service import Service
from prometheus_client.parser import text_string_to_metric_families

T = api.SandboxEvent
ADDED, CHANGED, REMOVED, SYNCED = T.TYPE_ADDED, T.TYPE_CHANGED, T.TYPE_REMOVED, T.TYPE_SYNCED
RUNNING, PAUSED = 1, 2
OPTIONS = ("--watch-period=1s", "--heartbeat-interval=200ms")


class Watch:
    """What a watch told, as (type, sandbox_id), and the sandboxes that this makes."""

    def __init__(self, stub, synced=True, metadata_of_call=None, **filters):
        self.stream = stub.WatchSandboxes(api.WatchSandboxesRequest(**filters), timeout=120,
                                          metadata=metadata_of_call)
        self.events, self.now, self.states = [], {}, []
        if synced:
            self.until(lambda w: w.events and w.events[-1] == (SYNCED, ""))

    def step(self):
        message = next(self.stream)
        if not message.events:
            self.states.append(message.state)
        for event in message.events:
            sandbox = event.sandbox
            assert (event.type == ADDED) == (bool(sandbox.sandbox_id) and
                                             sandbox.sandbox_id not in self.now)
            if event.type == REMOVED:
                del self.now[sandbox.sandbox_id]
            elif event.type != SYNCED:
                assert sandbox != self.now.get(sandbox.sandbox_id)
                self.now[sandbox.sandbox_id] = sandbox
            self.events.append((event.type, sandbox.sandbox_id))

    def until(self, condition):
        while not condition(self):
            self.step()
        return self

    def sees(self, type, sandbox_id):
        """As the next event, or the last one of those that come with it."""
        n = len(self.events)
        return self.until(lambda w: len(w.events) > n and w.events[-1] == (type, sandbox_id))

    def leave(self):
        self.stream.cancel()


def lists(pod):
    """How often E2B was asked for a list by it."""
    with urllib.request.urlopen("http://%s/metrics" % pod.ready["admin"], timeout=30) as page:
        families = text_string_to_metric_families(page.read().decode())
        return sum(s.value for f in families for s in f.samples
                   if s.name == "sandboxd_upstream_requests_total"
                   and s.labels["operation"] == "list_sandboxes")


@pytest.fixture(scope="session")
def service(local):
    with Service(local, options=OPTIONS) as service:
        yield service


@pytest.fixture
def label():
    return {"watch": secrets.token_hex(8)}


def test_the_period_is_told(stub):
    told = stub.GetCapabilities(api.GetCapabilitiesRequest(), timeout=10)
    assert told.watch_period.seconds == 1


def test_a_life_is_told_in_order(stub, other_stub, new_sandbox, label):
    first = new_sandbox(metadata=label)
    w = Watch(stub, metadata=label)
    assert w.events == [(ADDED, first), (SYNCED, "")]
    listed = stub.ListSandboxes(api.ListSandboxesRequest(metadata=label), timeout=10)
    assert list(w.now.values()) == list(listed.sandboxes)
    made = new_sandbox(metadata=label, timeout=api.seconds(300))
    w.sees(ADDED, made)
    assert w.now[made].state == RUNNING and dict(w.now[made].metadata) == label
    other_stub.PauseSandbox(api.PauseSandboxRequest(sandbox_id=made), timeout=60)
    w.sees(CHANGED, made)
    assert w.now[made].state == PAUSED
    other_stub.ResumeSandbox(api.ResumeSandboxRequest(sandbox_id=made), timeout=60)
    w.sees(CHANGED, made)
    assert w.now[made].state == RUNNING
    given = other_stub.SetSandboxTimeout(api.SetSandboxTimeoutRequest(
        sandbox_id=made, timeout=api.seconds(900)), timeout=30)
    w.sees(CHANGED, made)
    assert w.now[made].end_time == given.end_time
    other_stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made), timeout=30)
    w.sees(REMOVED, made)
    assert set(w.now) == {first}
    w.leave()


def test_filters(stub, new_sandbox, label):
    w = Watch(stub, metadata={**label, "a": "b"}, states=[RUNNING])
    assert w.events == [(SYNCED, "")]
    made = [new_sandbox(metadata={**label, **more}) for more in ({}, {"a": "c"}, {"a": "b"})][-1]
    w.sees(ADDED, made)
    paused = Watch(stub, metadata=label, states=[PAUSED])
    stub.PauseSandbox(api.PauseSandboxRequest(sandbox_id=made), timeout=60)
    w.sees(REMOVED, made), paused.sees(ADDED, made)
    stub.ResumeSandbox(api.ResumeSandboxRequest(sandbox_id=made), timeout=60)
    w.sees(ADDED, made), paused.sees(REMOVED, made)
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made), timeout=30)
    w.sees(REMOVED, made)
    assert len(w.events) == 5 and len(paused.events) == 3
    w.leave(), paused.leave()


def test_what_is_no_filter(stub, fails):
    for field, filters in [("metadata", {"metadata": {"sandboxd.tenant": "x"}}),
                           ("states", {"states": [7]})]:
        found = fails(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", stub.WatchSandboxes,
                      api.WatchSandboxesRequest(**filters))
        assert found["BadRequest"].field_violations[0].field == field


def test_e2b_is_asked_once_for_all_and_never_for_nobody(local, new_sandbox, label):
    with Service(local, count=1, options=("--watch-period=1s",)) as service:
        pod, stub = service.pods[0], service.stub(0)
        watches = [Watch(stub, metadata=label) for _ in range(8)]
        before, began = lists(pod), time.monotonic()
        made = new_sandbox(metadata=label)
        for w in watches:
            w.sees(ADDED, made)
        time.sleep(3)
        asked, took = lists(pod) - before, time.monotonic() - began
        assert 2 <= asked <= took + 2, "asked %d times in %.1f s" % (asked, took)
        for w in watches:
            w.leave()

        def is_quiet():
            before = lists(pod)
            time.sleep(2.5)
            return lists(pod) == before

        programs.wait_until(is_quiet, 30, "silence")


def test_a_slow_reader_holds_nobody_up(stub, new_sandbox, label):
    slow, fast = Watch(stub, synced=False, metadata=label), Watch(stub, metadata=label)
    made = [new_sandbox(metadata=label) for _ in range(3)]
    fast.until(lambda w: set(w.now) == set(made))
    for sandbox_id in made[:2]:
        stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=30)
    fast.until(lambda w: set(w.now) == {made[2]})
    slow.until(lambda w: (SYNCED, "") in w.events and set(w.now) == {made[2]})
    slow.leave(), fast.leave()


@pytest.fixture
def behind(local):
    """A pod, and what is between it and E2B."""
    between = upstream.Own(local.address)
    through = types.SimpleNamespace(url="http://" + between.address)
    try:
        with Service(through, local.url, count=1, options=OPTIONS) as service:
            yield service.stub(0), between
    finally:
        between.stop()


@pytest.mark.parametrize("status", [429, 500, 200])  # 200: an answer, but no list
def test_a_failing_e2b_removes_nothing(behind, stub, new_sandbox, label, status):
    made = new_sandbox(metadata=label)
    behind, between = behind
    w = Watch(behind, metadata=label)
    w.until(lambda w: api.STREAM_STATE_LIVE in w.states)
    between.refuse(status)
    w.until(lambda w: w.states[-1] == api.STREAM_STATE_RECONNECTING)
    n = len(w.states)
    w.until(lambda w: len(w.states) > n + 5)
    assert w.events == [(ADDED, made), (SYNCED, "")]
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made), timeout=30)
    between.restore()
    w.sees(REMOVED, made)
    w.leave()


def test_a_key_that_e2b_does_not_know_ends_it(behind, fails):
    stub, between = behind
    w = Watch(stub)
    between.refuse(401)
    with pytest.raises(grpc.RpcError) as caught:
        while True:
            w.step()
    api.check_error(caught.value, grpc.StatusCode.FAILED_PRECONDITION, "E2B_UNAUTHENTICATED")
    fails(grpc.StatusCode.FAILED_PRECONDITION, "E2B_UNAUTHENTICATED", stub.WatchSandboxes,
          api.WatchSandboxesRequest())


def test_tenants_see_their_own(local, tmp_path):
    keys = {name: "sbx_%s_%s" % (name, secrets.token_urlsafe(24)) for name in "ab"}
    path = tmp_path / "keys"
    path.write_text("".join("key %s sha256:%s\n" % (name, hashlib.sha256(key.encode()).hexdigest())
                            for name, key in keys.items()))
    with Service(local, count=1, options=(*OPTIONS, "--auth-keys=%s" % path)) as service:
        stub = service.stub(0)
        as_ = {name: (("authorization", "Bearer " + key),) for name, key in keys.items()}
        watches = {name: Watch(stub, metadata_of_call=as_[name]) for name in keys}
        made = {name: stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(300)),
                                         timeout=60, metadata=as_[name]).sandbox.sandbox_id
                for name in keys}
        for name, w in watches.items():
            w.sees(ADDED, made[name])
            stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made[name]), timeout=30,
                               metadata=as_[name])
            w.sees(REMOVED, made[name])
            assert {i for _, i in w.events} == {"", made[name]}
            w.leave()
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.WatchSandboxes(api.WatchSandboxesRequest(), timeout=30))
        api.check_error(caught.value, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_a_pod_that_stops_says_so(local):
    with Service(local, count=1, options=OPTIONS) as service:
        w = Watch(service.stub(0))
        stopping = threading.Thread(target=service.pods[0].terminate)
        stopping.start()
        with pytest.raises(grpc.RpcError) as caught:
            while True:
                w.step()
        stopping.join()
        api.check_error(caught.value, grpc.StatusCode.UNAVAILABLE, "POD_DRAINING")


def test_connections_that_age_end_it_in_time(local):
    with Service(local, count=1, options=(
            *OPTIONS, "--max-connection-age=2s", "--max-connection-age-grace=2s")) as service:
        w = Watch(service.stub(0))
        with pytest.raises(grpc.RpcError) as caught:
            while True:
                w.step()
        api.check_error(caught.value, grpc.StatusCode.UNAVAILABLE, "CONNECTION_AGED")
        Watch(service.stub(0)).leave()
