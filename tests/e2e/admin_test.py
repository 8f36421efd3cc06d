"""The admin port of a pod that works: metrics that a real parser reads, health, and what is masked."""

import http.client
import json
import math
import re
import socket

import grpc
import pytest
from harness import api, follow, programs
from harness.programs import API_KEY, wait_until
from prometheus_client.parser import text_string_to_metric_families

SERVICE = "sandbox.v1.SandboxService"


class Admin:
    def __init__(self, pod):
        self.host, port = pod.ready["admin"].rsplit(":", 1)
        self.port = int(port)

    def get(self, path, host=None):
        connection = http.client.HTTPConnection(host or self.host, self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8"), answer.getheader("Content-Type")
        finally:
            connection.close()

    def families(self):
        status, text, kind = self.get("/metrics")
        assert status == 200 and kind.startswith("text/plain; version=0.0.4")
        return list(text_string_to_metric_families(text))

    def samples(self):
        """Every sample by its name and labels."""
        found = {}
        for family in self.families():
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in found, "%s is there twice" % (key,)
                found[key] = sample.value
        return found

    def value(self, name, **labels):
        return sum(v for (n, had), v in self.samples().items()
                   if n == name and labels.items() <= dict(had).items())

    def method(self, name, method, **labels):
        return self.value(name, grpc_service=SERVICE, grpc_method=method, **labels)


@pytest.fixture
def admin(pods):
    return Admin(pods[0])


# --- metrics ---

def test_a_real_parser_reads_the_page(admin, stub, sandbox):
    follow.run(stub, sandbox, shell="echo hello")
    families = admin.families()
    names = [f.name for f in families]
    assert len(names) == len(set(names))
    assert {"grpc_server_started", "grpc_server_handled", "grpc_server_handling_seconds",
            "grpc_server_msg_received", "grpc_server_msg_sent", "process_cpu_seconds",
            "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds",
            "sandboxd_open_streams", "sandboxd_build_info"} <= set(names)
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        # promtool's rules: what counts ends with _total, and nothing else does.
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_histograms_add_up(admin, stub, sandbox):
    for _ in range(3):
        stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30)
    samples = admin.samples()
    series = {}
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            labels = dict(labels)
            bound = float(labels.pop("le"))
            series.setdefault((name[:-7], frozenset(labels.items())), []).append((bound, value))
    assert len(series) > 20
    for (name, labels), buckets in series.items():
        buckets.sort()
        counts = [value for _, value in buckets]
        assert counts == sorted(counts), name
        assert buckets[-1][0] == math.inf and counts[-1] == samples[name + "_count", labels]
    took = admin.method("grpc_server_handling_seconds_sum", "GetSandbox")
    assert 0 < took < 30 * admin.method("grpc_server_handling_seconds_count", "GetSandbox")


def test_a_call_is_counted_with_its_code(admin, stub, sandbox):
    def counts(code):
        return (admin.method("grpc_server_started_total", "GetSandbox", grpc_type="unary"),
                admin.method("grpc_server_handled_total", "GetSandbox", grpc_code=code))
    good, bad = counts("OK"), counts("NotFound")
    stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30)
    with pytest.raises(grpc.RpcError):
        stub.GetSandbox(api.GetSandboxRequest(sandbox_id="nosuchsandbox"), timeout=30)
    assert counts("OK") == (good[0] + 2, good[1] + 1)
    assert counts("NotFound") == (bad[0] + 2, bad[1] + 1)


def test_messages_and_bytes_are_counted(admin, stub, sandbox):
    names = ("grpc_server_msg_received_total", "grpc_server_msg_sent_total",
             "sandboxd_received_bytes_total", "sandboxd_sent_bytes_total")

    def counts():
        samples = admin.samples()
        return [sum(v for (n, labels), v in samples.items()
                    if n == name and ("grpc_method", "RunCommand") in labels) for name in names]
    before = counts()
    request = api.RunCommandRequest(sandbox_id=sandbox, shell="head -c 300000 /dev/zero")
    responses = list(stub.RunCommand(request, timeout=60))
    received, sent, received_bytes, sent_bytes = [b - a for a, b in zip(before, counts())]
    assert (received, sent) == (1, len(responses))
    assert received_bytes == request.ByteSize()
    assert sent_bytes == sum(r.ByteSize() for r in responses) > 300000


def test_open_streams_go_up_and_down(admin, stub, sandbox):
    def open_now():
        return (admin.value("sandboxd_open_streams"),
                admin.method("sandboxd_calls_in_flight", "RunCommand"))
    streams, calls = open_now()
    views = [stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id="streams%d" % n, shell="sleep 1000"), timeout=120)
        for n in range(3)]
    for view in views:
        next(view)
    assert open_now() == (streams + 3, calls + 3)
    views[0].cancel()
    wait_until(lambda: open_now() == (streams + 2, calls + 2), 30, "one stream is closed")
    for n in range(3):
        stub.SignalCommand(api.SignalCommandRequest(
            sandbox_id=sandbox, command_id="streams%d" % n, signal=9), timeout=30)
    for view in views[1:]:
        list(view)
    wait_until(lambda: open_now() == (streams, calls), 30, "all streams are closed")


def test_resumes_and_gaps_are_counted(admin, stub, sandbox):
    def counts():
        return (admin.value("sandboxd_stream_resumes_total", by="caller"),
                admin.value("sandboxd_stream_gaps_total"))
    resumes, gaps = counts()
    request = api.RunCommandRequest(
        sandbox_id=sandbox, command_id="gaps", shell="head -c 8000000 /dev/zero | tr '\\0' x",
        max_journal_bytes=1 << 20, overflow=api.OVERFLOW_DROP_OLDEST)
    last = list(stub.RunCommand(request, timeout=60))[-1].last_seq
    list(stub.Logs(api.LogsRequest(sandbox_id=sandbox, command_id="gaps"), timeout=60))
    assert counts()[0] == resumes and counts()[1] > gaps
    list(stub.Logs(api.LogsRequest(
        sandbox_id=sandbox, command_id="gaps", from_seq=last), timeout=60))
    assert counts()[0] == resumes + 1


def test_requests_to_e2b_are_counted(admin, stub, sandbox):
    before = admin.value("sandboxd_upstream_seconds_count", operation="get_sandbox")
    stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30)
    assert admin.value("sandboxd_upstream_seconds_count", operation="get_sandbox") > before
    assert admin.value("sandboxd_upstream_requests_total", operation="start_process", code="OK") > 0
    assert admin.value("sandboxd_upstream_requests_total", operation="other") == 0


def test_nobody_can_make_new_series(admin, service):
    before = set(admin.samples())
    counted = admin.value("grpc_server_started_total", grpc_service="unknown")
    for n in range(20):
        for path in ("/sandbox.v1.SandboxService/Method%d", "/made.up%d/Get", "/%d", "%d"):
            call = service.channel(0).unary_unary(path % n)
            with pytest.raises(grpc.RpcError):
                call(b"", timeout=30)
    assert set(admin.samples()) == before
    assert admin.value("grpc_server_started_total", grpc_service="unknown") > counted + 20


# --- health ---

def test_readiness_follows_the_drain(local):
    pod = programs.Pod(local.url, None, "--drain-settle=1s", "--drain-budget=60s",
                       "--drain-spread=0s")
    admin = Admin(pod)
    assert admin.get("/readyz")[:2] == (200, "ok\n")
    assert admin.get("/livez")[:2] == (200, "ok\n")
    assert admin.value("sandboxd_draining") == 0
    pod.terminate()
    wait_until(lambda: admin.get("/readyz")[0] == 503, 30, "the pod is not ready any more")
    status, text, _ = admin.get("/readyz?verbose")
    assert status == 503 and "[-] not draining" in text
    assert admin.get("/livez")[0] == 200
    assert admin.value("sandboxd_draining") == 1
    pod.stop()


# --- looking into a pod ---

def test_the_configuration_says_where_values_are_from(local, tmp_path):
    (tmp_path / "conf").write_text("heartbeat-interval = 2s\nworkers = 1\n", encoding="ascii")
    pod = programs.Pod(local.url, None, "--workers=3",
                       env={"SANDBOXD_CONFIG": str(tmp_path / "conf")})
    status, text, kind = Admin(pod).get("/debug/config")
    pod.stop()
    assert status == 200 and kind == "application/json" and API_KEY not in text
    shown = json.loads(text)
    assert shown["e2b-api-key"] == {"value": "***", "source": "environment"}
    assert shown["heartbeat-interval"] == {"value": "2s", "source": "file"}
    assert shown["workers"] == {"value": "3", "source": "flag"}
    assert shown["stream-buffer"] == {"value": "64KiB", "source": "default"}


def test_channelz_shows_connections(admin, service):
    service.stub(0, "grpc.health.v1.Health").Check(
        api.message("grpc.health.v1.HealthCheckRequest")(), timeout=30)
    servers = json.loads(admin.get("/debug/channelz")[1])["server"]
    assert len(servers) == 1
    number = servers[0]["ref"]["serverId"]
    sockets = json.loads(admin.get("/debug/channelz?server=%s" % number)[1])["socketRef"]
    assert sockets
    socket_number = sockets[0]["socketId"]
    shown = json.loads(admin.get("/debug/channelz?socket=%s" % socket_number)[1])
    assert shown["socket"]["ref"]["socketId"] == socket_number
    assert admin.get("/debug/channelz?socket=999999")[0] == 404


def own_address():
    """An address of this machine that is not the loopback; None when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        return probe.getsockname()[0]


@pytest.mark.skipif(own_address() is None, reason="this machine has only the loopback")
def test_only_this_machine_sees_the_pages_of_debug(local):
    pod = programs.Pod(local.url, None, "--admin-listen=0.0.0.0:0")
    admin = Admin(pod)
    for path, from_outside in (("/metrics", 200), ("/readyz", 200), ("/debug/config", 403),
                               ("/debug/channelz", 403)):
        assert admin.get(path, "127.0.0.1")[0] == 200
        assert admin.get(path, own_address())[0] == from_outside
    pod.stop()


def test_without_an_admin_port():
    pod = programs.Pod("http://127.0.0.1:9", None, "--admin-listen=")
    assert pod.ready["admin"] == "none"
    pod.stop()


# --- the log ---

def test_a_line_for_each_call(service, stub, sandbox, admin):
    stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=30,
                    metadata=[("x-request-id", "a-call-of-ours")])
    entry = json.loads(service.pods[0].wait_log('"a-call-of-ours"'))
    assert entry["msg"] == "call" and entry["level"] == "info"
    assert entry["method"] == "/sandbox.v1.SandboxService/GetSandbox" and entry["code"] == "OK"
    assert entry["sandbox_id"] == sandbox and entry["peer"].startswith("ipv4:127.0.0.1:")
    assert isinstance(entry["duration_ms"], int) and "error" not in entry


def test_a_created_sandbox_is_named(service, stub, new_sandbox):
    made = new_sandbox()
    line = json.loads(service.pods[0].wait_log('"sandbox_id":"%s"' % made))
    assert line["method"] == "/sandbox.v1.SandboxService/CreateSandbox"


@pytest.mark.parametrize("given, taken", [
    ("order-66/attempt:2", True), ("x" * 128, True), ("x" * 129, False), ("a b", False),
    ('a"b', False), ("", False),
])
def test_the_request_id_comes_back(stub, given, taken):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetSandbox(api.GetSandboxRequest(sandbox_id="nosuchsandbox"), timeout=30,
                        metadata=[("x-request-id", given)])
    trailers = dict(caught.value.trailing_metadata())
    made = trailers["x-request-id"]
    assert (made == given) == taken and 1 <= len(made) <= 128
    assert api.details(caught.value)["RequestInfo"].request_id == made


def test_the_log_as_text(local):
    pod = programs.Program("sandboxd", [programs.find("service/sandboxd"), "--listen=127.0.0.1:0",
                                        "--log-format=text"],
                           {"E2B_API_KEY": API_KEY, "E2B_API_URL": local.url})
    line = pod.wait_log(" ready ", 30)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO  ready listen=127.0.0.1:\d+ .*", line)
    pod.stop()
