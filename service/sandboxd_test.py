"""sandboxd as a program: what it refuses, what every gRPC service has, and how it ends.

E2B is not needed for any of it, so nothing answers where these pods look for it.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from harness import api, leftovers, programs
from harness.programs import API_KEY, wait_until

NOWHERE = "http://127.0.0.1:9"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
NOT_FOUND = grpc.StatusCode.NOT_FOUND

Check = api.message("grpc.health.v1.HealthCheckRequest")


@pytest.fixture
def pods():
    """Makes pods and ends those that still run."""
    made = []

    def make(*options, **fields):
        made.append(programs.Pod(NOWHERE, None, *options, **fields))
        return made[-1]

    yield make
    for pod in made:
        if pod.process.poll() is None:
            pod.stop()


@pytest.fixture(scope="module")
def channel():
    """Of a pod that lives as long as the module."""
    pod = programs.Pod(NOWHERE)
    with api.channel(pod.address) as channel:
        yield channel
    pod.stop()


@pytest.fixture(scope="module")
def health(channel):
    return api.Stub(channel, "grpc.health.v1.Health")


# --- what it refuses ---

def refusal(*args, **env):
    done = programs.run("service/sandboxd", *args, env=env, timeout=30)
    assert done.returncode != 0 and '"ready"' not in done.stderr
    assert API_KEY not in done.stderr
    return done


def test_without_an_e2b_it_names_both_ways():
    done = refusal("--listen=127.0.0.1:0")
    assert done.returncode == 2
    assert "E2B_API_KEY" in done.stderr and "--local" in done.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.1.2.3:0", "example.org:0"])
def test_an_open_address_is_refused(listen):
    done = refusal("--listen=" + listen, E2B_API_KEY=API_KEY)
    assert done.returncode == 2 and "--insecure" in done.stderr


@pytest.mark.parametrize("listen", ["[::1]:0", "localhost:0"])
def test_every_loopback_will_do(pods, listen):
    pod = pods(listen=listen)
    with api.channel(pod.address) as channel:
        stub = api.Stub(channel, "grpc.health.v1.Health")
        assert stub.Check(Check(), timeout=10).status == SERVING


def test_a_taken_port_is_said(pods):
    address = pods().address
    done = refusal("--listen=" + address, E2B_API_KEY=API_KEY)
    assert done.returncode == 1 and address in done.stderr


def test_an_e2b_that_is_no_url_is_said():
    done = refusal("--listen=127.0.0.1:0", E2B_API_KEY=API_KEY, E2B_API_URL="localhost:3000")
    assert "E2B_API_URL" in done.stderr


def test_a_local_runtime_that_is_none_is_said(tmp_path):
    done = refusal("--listen=127.0.0.1:0", "--local", "--local-runtime=%s" % (tmp_path / "none"))
    assert "--local-runtime" in done.stderr and str(tmp_path / "none") in done.stderr
    quits = tmp_path / "quits"
    quits.write_text("#!/bin/sh\necho this is why >&2\nexit 1\n")
    quits.chmod(0o755)
    done = refusal("--listen=127.0.0.1:0", "--local", "--local-runtime=%s" % quits)
    assert "this is why" in done.stderr and "ended before it was ready" in done.stderr


# --- health ---

@pytest.mark.parametrize("name", ["", "sandbox.v1.SandboxService", "liveness", "readiness"])
def test_check_serves(health, name):
    assert health.Check(Check(service=name), timeout=10).status == SERVING


def test_check_of_an_unknown_service(health):
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(Check(service="no.such.Service"), timeout=10)
    api.check_error(caught.value, NOT_FOUND, "INVALID_FIELD")


def test_list_has_every_name(health):
    listed = health.List(api.message("grpc.health.v1.HealthListRequest")(), timeout=10).statuses
    assert {name: s.status for name, s in listed.items()} == dict.fromkeys(
        ["", "sandbox.v1.SandboxService", "liveness", "readiness"], SERVING)


def test_watch_of_an_unknown_service_stays(health):
    stream = health.Watch(Check(service="no.such.Service"), timeout=0.5)
    assert next(stream).status == SERVICE_UNKNOWN
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


# --- reflection ---

@pytest.fixture(params=["v1", "v1alpha"])
def reflect(request, channel):
    package = "grpc.reflection." + request.param
    stub = api.Stub(channel, package + ".ServerReflection")
    ask = api.message(package + ".ServerReflectionRequest")
    return lambda *queries: list(stub.ServerReflectionInfo(
        iter([ask(**query) for query in queries]), timeout=20))


def files_of(answer):
    return [descriptor_pb2.FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto]


def imports_first(files):
    waiting, told = list(files), set()
    while waiting:
        ready = [file for file in waiting if told.issuperset(file.dependency)]
        assert ready, "files are missing that %s import" % [file.name for file in waiting]
        yield from ready
        told |= {file.name for file in ready}
        waiting = [file for file in waiting if file.name not in told]


def test_what_is_reflected_describes_every_service(reflect):
    """As grpcurl does it: the services, then the file of each, which must make sense by itself."""
    (answer,) = reflect({"list_services": ""})
    services = [s.name for s in answer.list_services_response.service]
    assert "grpc.health.v1.Health" in services and len(services) == len(set(services))
    answers = reflect(*({"file_containing_symbol": s} for s in services))
    for service, answer in zip(services, answers):
        pool = descriptor_pool.DescriptorPool()
        for file in imports_first(files_of(answer)):
            pool.Add(file)
        assert pool.FindServiceByName(service).methods
        assert answer.original_request.file_containing_symbol == service


def test_the_unknown_is_an_answer(reflect):
    answers = reflect({"file_by_filename": "no/such.proto"}, {"file_containing_symbol": "no.such"},
                      {"file_containing_extension": {"containing_type": "google.rpc.Status",
                                                     "extension_number": 1000}},
                      {"all_extension_numbers_of_type": "no.such"}, {"host": "here"},
                      {"all_extension_numbers_of_type": "google.rpc.Status"})
    assert [a.error_response.error_code for a in answers] == [5, 5, 5, 5, 3, 0]
    assert answers[4].valid_host == "here"
    assert answers[5].all_extension_numbers_response.base_type_name == "google.rpc.Status"


def test_questions_are_answered_in_order(reflect):
    names = ["no.such.Thing%d" % n for n in range(1000)]
    answers = reflect(*({"file_containing_symbol": name} for name in names))
    assert [a.original_request.file_containing_symbol for a in answers] == names


# --- how it ends ---

def test_a_drain_turns_health_and_ends_streams(pods):
    """SIGTERM: NOT_SERVING is told, streams end, calls are still taken until the settling is over."""
    pod = pods("--drain-settle=2s")
    with api.channel(pod.address) as channel:
        health = api.Stub(channel, "grpc.health.v1.Health")
        watches = {name: health.Watch(Check(service=name), timeout=30)
                   for name in ("", "readiness", "liveness", "no.such")}
        told = {name: [next(watch).status] for name, watch in watches.items()}
        pod.terminate()
        for name, watch in watches.items():
            with pytest.raises(grpc.RpcError) as caught:
                told[name].extend(m.status for m in watch)
            found = api.check_error(caught.value, UNAVAILABLE, "POD_DRAINING")
            assert "RetryInfo" in found
        assert told["liveness"] == [SERVING] and told["no.such"] == [SERVICE_UNKNOWN]
        assert health.Check(Check(), timeout=10).status == NOT_SERVING
        assert health.Check(Check(service="liveness"), timeout=10).status == SERVING
        late = health.Watch(Check(), timeout=10)
        assert next(late).status == NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(late)
    pod.stop()


def test_a_watch_tells_of_the_drain(pods):
    pod = pods()
    with api.channel(pod.address) as channel:
        watch = api.Stub(channel, "grpc.health.v1.Health").Watch(Check(), timeout=30)
        assert next(watch).status == SERVING
        pod.terminate()
        assert next(watch).status == NOT_SERVING
    assert pod.process.wait(10) == 0


def test_an_open_reflection_does_not_hold_the_drain(pods):
    pod = pods()
    begin = time.monotonic()
    with api.channel(pod.address) as channel:
        stub = api.Stub(channel, "grpc.reflection.v1.ServerReflection")
        asked = []

        def questions():
            yield api.message("grpc.reflection.v1.ServerReflectionRequest")(list_services="")
            wait_until(lambda: asked, 30)

        answers = stub.ServerReflectionInfo(questions(), timeout=30)
        next(answers)
        pod.terminate()
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        asked.append(True)
        api.check_error(caught.value, UNAVAILABLE, "POD_DRAINING")
    pod.stop()
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(pods, number):
    pod = pods("--drain-settle=10m")
    pod.process.send_signal(number)
    pod.wait_log("draining")
    with api.channel(pod.address) as channel:
        health = api.Stub(channel, "grpc.health.v1.Health")
        wait_until(lambda: health.Check(Check(), timeout=10).status == NOT_SERVING)
    pod.process.send_signal(number)
    assert pod.process.wait(10) == 1


# --- --local ---

@pytest.fixture
def embedded(data_dir, request):
    pod = programs.Pod(None, None, "--local", "--local-data-dir=%s" % (
        data_dir / request.node.name), api_key=None, env={
            "E2B_API_URL": None, "E2B_SANDBOX_URL": None, "E2B_LOCAL_ORPHAN_TIME": "0s"})
    yield pod
    if pod.process.poll() is None:
        pod.stop()


def runtime_of(pod):
    """The pid of its e2b-local."""
    (child,) = Path("/proc/%d/task/%d/children" % (pod.pid, pod.pid)).read_text("ascii").split()
    return int(child)


def ended(pid):
    return lambda: pid not in leftovers.descendants(os.getpid())


def test_local_runs_and_ends_its_runtime(embedded):
    runtime = runtime_of(embedded)
    assert "e2b_" not in leftovers.command_line(runtime)
    embedded.stop()
    assert ended(runtime)()
    assert [line for line in embedded.log if '"stopped"' in line]


def test_the_runtime_ends_when_the_pod_is_killed(embedded):
    runtime = runtime_of(embedded)
    embedded.kill()
    wait_until(ended(runtime), 20, "the runtime's end")


def test_the_pod_ends_when_the_runtime_is_killed(embedded):
    os.kill(runtime_of(embedded), signal.SIGKILL)
    assert embedded.process.wait(20) == 1
    assert "local runtime" in embedded.wait_log("cannot go on")


def test_a_signal_to_all_of_them_is_a_good_end(embedded):
    """As a service manager does that signals every process it knows."""
    runtime = runtime_of(embedded)
    embedded.terminate()
    os.kill(runtime, signal.SIGTERM)
    try:
        assert embedded.process.wait(20) == 0
    except subprocess.TimeoutExpired:
        embedded.kill()
        raise
    assert ended(runtime)()
