"""Traces: joined from a caller, followed through sandboxd and E2B into the command, and exported.

The spans are read back from a real OpenTelemetry Collector where there is one
(SANDBOXD_TEST_COLLECTOR), else straight from what sandboxd sends.
"""

import http.server
import json
import os
import re
import secrets
import socket
import threading

import pytest
from fakes import e2b
from harness import api, follow, programs
from harness.programs import wait_until

SERVICE = "sandbox.v1.SandboxService"


class Receiver:
    """Takes OTLP over HTTP in JSON, and keeps the spans."""

    def __init__(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/v1/traces":
                    receiver.take(body, self.headers)
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

        self.spans = []  # each with its resource's attributes
        self.headers = None
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, body, headers):
        self.headers = headers
        for by_resource in body["resourceSpans"]:
            resource = attributes(by_resource["resource"])
            for scope in by_resource["scopeSpans"]:
                self.spans.extend({**span, "resource": resource} for span in scope["spans"])

    def of(self, trace_id):
        return [span for span in list(self.spans) if span["traceId"] == trace_id]

    def wait(self, trace_id, *names):
        """The spans of these names in a trace, once they have come."""
        def found():
            have = {span["name"]: span for span in self.of(trace_id)}
            return [have[name] for name in names] if have.keys() >= set(names) else None
        return wait_until(found, 60, "spans %s, beside %s" % (
            names, [span["name"] for span in self.spans]))

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def attributes(owner):
    return {a["key"]: next(iter(a["value"].values())) for a in owner.get("attributes", ())}


class Collector(programs.Program):
    """OpenTelemetry's own, which hands on what it understood."""

    def __init__(self, folder, receiver):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = folder / "collector.yaml"
        config.write_text("""
receivers:
  otlp:
    protocols:
      http:
        endpoint: 127.0.0.1:%d
exporters:
  otlphttp:
    endpoint: %s
    encoding: json
    compression: none
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [otlphttp]
""" % (port, receiver.url), encoding="ascii")
        super().__init__("collector", [os.environ["SANDBOXD_TEST_COLLECTOR"], "--config=%s" % config])
        self.wait_log("Everything is ready", 60)
        self.url = "http://127.0.0.1:%d" % port


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def endpoint(receiver, tmp_path_factory):
    """Where sandboxd sends its spans, so that they come to the receiver."""
    if not os.environ.get("SANDBOXD_TEST_COLLECTOR"):
        yield receiver.url
        return
    collector = Collector(tmp_path_factory.mktemp("collector"), receiver)
    yield collector.url
    collector.stop()


@pytest.fixture(scope="module")
def pod(local, endpoint):
    pod = programs.Pod(local.url, "http://" + local.sandbox_address, env={
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": "sandboxes",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"})
    yield pod
    pod.stop()


@pytest.fixture(scope="module")
def traced(pod):
    with api.channel(pod.address) as channel:
        yield api.Stub(channel)


def new_trace(sampled=True, state=None):
    """A client's trace: its id, its span, and the metadata of a call within it."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    metadata = [("traceparent", "00-%s-%s-%02x" % (trace, span, sampled))]
    return trace, span, metadata + ([("tracestate", state)] if state else [])


def run(stub, sandbox, metadata, **fields):
    """What a command prints in a call with this metadata."""
    out = b""
    request = api.RunCommandRequest(sandbox_id=sandbox, **fields)
    for response in stub.RunCommand(request, timeout=60, metadata=metadata):
        for event in response.events:
            out += event.stdout
    return out.decode()


SHOW = 'echo "$TRACEPARENT|$TRACESTATE"'


def test_a_trace_goes_from_the_client_into_the_command_and_back(traced, sandbox, receiver, pod):
    trace, span, metadata = new_trace(state="vendor=x1")
    shown = run(traced, sandbox, metadata, shell=SHOW)
    parent, state = shown.strip().split("|")
    version, in_command, command_parent, flags = parent.split("-")
    assert (version, in_command, flags, state) == ("00", trace, "01", "vendor=x1")

    server, start = receiver.wait(trace, SERVICE + "/RunCommand", "start_process")
    # The client's span, sandboxd's below it, and below that the request to E2B and the command.
    assert server["parentSpanId"] == span
    assert server["spanId"] == command_parent == start["parentSpanId"]
    assert (server["kind"], start["kind"]) == (2, 3)
    assert server["traceState"] == "vendor=x1"
    assert int(server["startTimeUnixNano"]) <= int(start["startTimeUnixNano"])
    assert int(start["endTimeUnixNano"]) <= int(server["endTimeUnixNano"])
    said = attributes(server)
    assert said["rpc.service"] == SERVICE and said["rpc.method"] == "RunCommand"
    assert said["rpc.grpc.status_code"] == "0" and said["sandboxd.sandbox_id"] == sandbox
    assert server["resource"]["service.name"] == "sandboxes"
    assert server["resource"]["deployment.environment"] == "test"

    line = json.loads(pod.wait_log(trace))
    assert line["trace_id"] == trace and line["request_id"] == said["sandboxd.request_id"]


def test_a_call_without_a_trace_begins_one(traced, sandbox, receiver):
    parent, _ = run(traced, sandbox, [], shell=SHOW).strip().split("|")
    _, trace, span, _ = parent.split("-")
    (server,) = receiver.wait(trace, SERVICE + "/RunCommand")
    assert server["spanId"] == span and not server.get("parentSpanId")


def test_a_caller_that_does_not_sample_is_left_alone(traced, sandbox, receiver):
    trace, _, metadata = new_trace(sampled=False)
    parent, _ = run(traced, sandbox, metadata, shell=SHOW).strip().split("|")
    assert parent.split("-")[1] == trace and parent.endswith("-00")
    other, _, metadata = new_trace()
    run(traced, sandbox, metadata, shell="true")
    receiver.wait(other, SERVICE + "/RunCommand")  # later, and it is there
    assert not receiver.of(trace)


def test_a_variable_of_the_callers_own_wins(traced, sandbox):
    _, _, metadata = new_trace(state="a=1")
    assert run(traced, sandbox, metadata, shell=SHOW, envs={"TRACEPARENT": "mine"}) == "mine|\n"


def test_a_repeated_step_is_the_same_command(traced, sandbox):
    """The trace is not part of what is run: a retry, which has another, attaches."""
    first, second = (run(traced, sandbox, new_trace()[2], shell=SHOW, command_id="traced-step")
                     for _ in range(2))
    assert first == second


def test_a_failure_is_marked(traced, receiver):
    trace, _, metadata = new_trace()
    with pytest.raises(Exception):
        traced.GetSandbox(api.GetSandboxRequest(sandbox_id="nosuchsandbox"), timeout=30,
                        metadata=metadata)
    server, get = receiver.wait(trace, SERVICE + "/GetSandbox", "get_sandbox")
    # The caller's mistake is no failure of the server, but the request to E2B did fail.
    assert server["status"].get("code", 0) == 0 and get["status"]["code"] == 2
    assert attributes(server)["rpc.grpc.status_code"] == "5"
    assert attributes(get)["http.response.status_code"] == "404"


@pytest.mark.parametrize("metadata", [
    [("traceparent", "nonsense")],
    [("traceparent", "00-" + "0" * 32 + "-" + "1" * 16 + "-01")],
    [("tracestate", "a=1")],
])
def test_what_is_no_trace_is_not_passed_on(traced, sandbox, metadata):
    parent, state = run(traced, sandbox, metadata, shell=SHOW).strip().split("|")
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", parent) and not state
    assert not parent.startswith("00-" + "0" * 32)


# --- without a collector ---

def test_a_trace_is_passed_on_without_a_collector(service, sandbox):
    trace, span, metadata = new_trace(state="a=1")
    untraced = service.stub(0)
    assert run(untraced, sandbox, metadata, shell=SHOW) == "00-%s-%s-01|a=1\n" % (trace, span)
    assert run(untraced, sandbox, [], shell=SHOW) == "|\n", "no trace begins where none is recorded"


def test_every_request_to_e2b_says_its_trace():
    fake = e2b.FakeE2B()
    pod = programs.Pod(fake.url)
    trace, span, metadata = new_trace(state="a=1")
    with api.channel(pod.address) as channel:
        stub = api.Stub(channel)
        stub.GetSandbox(api.GetSandboxRequest(sandbox_id=e2b.SANDBOX), timeout=30,
                        metadata=metadata)
        with pytest.raises(Exception):  # it has no files
            stub.ReadFile(api.ReadFileRequest(sandbox_id=e2b.SANDBOX, path="/x"), timeout=30,
                          metadata=metadata)
    pod.stop()
    fake.close()
    assert {path.split("?")[0] for _, path, _, _ in fake.requests} >= {
        "/sandboxes/" + e2b.SANDBOX, "/files"}
    for _, _, headers, _ in fake.requests:
        assert headers["traceparent"] == "00-%s-%s-01" % (trace, span)
        assert headers["tracestate"] == "a=1"


def test_a_collector_that_is_away_costs_nothing(local, sandbox):
    with socket.create_server(("127.0.0.1", 0)) as free:
        nowhere = "http://127.0.0.1:%d" % free.getsockname()[1]
    pod = programs.Pod(local.url, "http://" + local.sandbox_address, "--otlp-endpoint=" + nowhere)
    with api.channel(pod.address) as channel:
        for _ in range(20):
            api.Stub(channel).GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30)
        assert "spans cannot be exported" in pod.wait_log("spans cannot be exported", 60)
    pod.stop()
