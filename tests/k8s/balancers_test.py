"""The balancers' configurations that we ship, run by the real programs in front of three pods that are
restarted one after the other, under load from clients in two languages."""

import http.client
import json

import grpc
import pytest
from harness import api, follow
from kubernetes import tool
from rollout import (IDLE_S, PODS, Deployment, Envoy, Haproxy, check_load, clients, kill_load,
                     start_load)


@pytest.fixture(scope="module")
def deployment(local):
    deployment = Deployment(local)
    yield deployment
    deployment.stop()


@pytest.fixture(scope="module", params=[Envoy, Haproxy])
def balancer(request, deployment, tmp_path_factory):
    program = request.param(deployment, tmp_path_factory.mktemp("balancer"))
    yield program
    program.stop()


@pytest.fixture
def stub(balancer):
    with api.channel(balancer.address) as channel:
        yield api.Stub(channel)


@pytest.fixture
def sandbox_id(stub):
    made = stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(600)), timeout=60)
    yield made.sandbox.sandbox_id
    stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made.sandbox.sandbox_id), timeout=30)


# --- a rollout ---

@pytest.mark.parametrize("language", ["python", "node"])
def test_the_clients_are_there(language):
    if language not in clients():
        tool("SANDBOXD_TEST_GRPC_NODE_MODULES", "gRPC for Node")


def test_a_rolling_restart_fails_no_call_and_loses_no_line(balancer, deployment, stub, sandbox_id):
    running = start_load(stub, sandbox_id, balancer.address)
    try:
        for n in range(PODS):
            deployment.restart(n)
            balancer.wait_healthy()
        check_load(running, stub, sandbox_id, breaks=3)
    finally:
        kill_load(running)


# --- idle streams ---

def test_a_silent_stream_outlives_the_balancers_limits(balancer, stub, sandbox_id):
    """Also Envoy's stock limit of 15 s for every call, which our configuration lifts."""
    seconds = 16 if isinstance(balancer, Envoy) else IDLE_S + 2
    events = follow.run(stub, sandbox_id, shell="sleep %d; echo awake" % seconds)
    assert events.out == b"awake\n" and events.heartbeats > seconds


def test_without_heartbeats_it_would_not(balancer, local, tmp_path):
    silent = Deployment(local, heartbeat_s=60, count=1)
    try:
        proxy = type(balancer)(silent, tmp_path)
        try:
            with api.channel(proxy.address) as channel:
                stub = api.Stub(channel)
                made = stub.CreateSandbox(api.CreateSandboxRequest(), timeout=60).sandbox.sandbox_id
                with pytest.raises(grpc.RpcError):
                    follow.run(stub, made, shell="sleep 30")
        finally:
            proxy.stop()
    finally:
        silent.stop()


# --- JSON ---

def post(envoy, method, body):
    connection = http.client.HTTPConnection(envoy.address, timeout=60)
    try:
        connection.request("POST", "/sandbox.v1.SandboxService/" + method, json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read().decode("utf-8")
    finally:
        connection.close()


@pytest.mark.parametrize("balancer", [Envoy], indirect=True)
def test_calls_in_json(balancer, sandbox_id):
    status, kind, body = post(balancer, "GetSandbox", {"sandboxId": sandbox_id})
    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["sandbox"]["sandboxId"] == sandbox_id
    status, _, body = post(balancer, "RunCommand", {
        "sandboxId": sandbox_id, "shell": "echo as JSON", "encoding": "ENCODING_TEXT"})
    events = [event for line in body.splitlines() for event in json.loads(line).get("events", [])]
    assert status == 200 and events[-1]["exited"]["reason"] == "REASON_EXITED"
    assert "as JSON\n" in [e["text"]["text"] for e in events if "text" in e]
    status, _, body = post(balancer, "GetSandbox", {"sandboxId": "i0123456789abcdefghij"})
    assert status == 404 and json.loads(body)["details"][0]["reason"] == "SANDBOX_NOT_FOUND"
