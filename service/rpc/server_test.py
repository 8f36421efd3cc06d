"""sandboxd's gRPC server under load, and with bytes that no honest client sends."""

import json
import random
import threading

import grpc
import pytest
from harness import api, programs
from harness.programs import wait_until

NOWHERE = "http://127.0.0.1:9"
CHECK = "/grpc.health.v1.Health/Check"
MIB = 1 << 20
WATCHES = 1000
SERVING, NOT_SERVING = 1, 2

RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

Check = api.message("grpc.health.v1.HealthCheckRequest")


@pytest.fixture
def pod():
    pod = programs.Pod(NOWHERE, None, "--log-level=debug")
    yield pod
    if pod.process.poll() is None:
        pod.stop()


@pytest.fixture
def channel(pod):
    with grpc.insecure_channel(pod.address, [("grpc.max_send_message_length", -1)]) as channel:
        yield channel


def refusal(channel, data, path=CHECK, **options):
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(data, timeout=60, **options)
    return caught.value


def works(channel):
    return api.Stub(channel, "grpc.health.v1.Health").Check(Check(), timeout=30).status == SERVING


# --- bytes ---

def test_a_message_over_the_limit_is_cores_refusal(channel):
    assert refusal(channel, b"\x7a" + b"\0" * (4 * MIB)).code() == RESOURCE_EXHAUSTED
    assert works(channel)


@pytest.mark.parametrize("data", [
    b"\x0a\xff\xff", b"\x0a\x05abc", b"\xff", b"\x0b\x0c", b"\x0a\x03a\0b", b"\x0a\x02\xc3(",
    b"\x00\x00", b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
])
def test_bytes_that_are_no_message_are_refused(channel, data):
    api.check_error(refusal(channel, data), INVALID_ARGUMENT, "INVALID_FIELD")
    assert works(channel)


def test_an_unknown_method(channel):
    for path in ("/no.such.Service/Method", "/grpc.health.v1.Health/NoSuch", "/",
                 "/" + "x" * 3000):
        api.check_error(refusal(channel, b"", path), grpc.StatusCode.UNIMPLEMENTED,
                        "METHOD_NOT_FOUND")


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_work(channel, compression):
    request = Check(service="liveness").SerializeToString() + b"\x7a\x80\x08" + b"x" * 1024
    answer = channel.unary_unary(CHECK)(request, timeout=30, compression=compression)
    assert api.message("grpc.health.v1.HealthCheckResponse").FromString(answer).status == SERVING


@pytest.mark.skipif(programs.is_sanitized("service/sandboxd"),
                    reason="a sanitizer's memory says nothing about the product's")
def test_small_bytes_do_not_become_much_memory(pod, channel):
    """Zeros compress 1000 to 1, and an empty field of two bytes takes a hundred when unpacked."""
    assert works(channel)
    before = peak(pod)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        error = refusal(channel, b"\0" * (256 * MIB), compression=compression)
        assert error.code() == RESOURCE_EXHAUSTED
    api.check_error(refusal(channel, b"\x7a\0" * (2 * MIB - 8)), INVALID_ARGUMENT,
                    "INVALID_FIELD")
    assert peak(pod) - before < 48 * MIB
    assert works(channel)


def peak(pod):
    """The most memory that it ever had, in bytes."""
    with open("/proc/%d/status" % pod.pid, encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


# --- request ids and the log ---

def test_a_request_id_goes_round(pod, channel):
    call = channel.unary_unary(CHECK).with_call
    _, done = call(b"", timeout=30, metadata=[("x-request-id", "mine-1")])
    assert dict(done.trailing_metadata())["x-request-id"] == "mine-1"
    line = json.loads(pod.wait_log('"mine-1"'))
    assert line["msg"] == "call" and line["method"] == CHECK and line["code"] == "OK"
    assert line["level"] == "debug" and line["duration_ms"] >= 0
    assert line["peer"].startswith("ipv4:127.0.0.1:")

    made = []
    for given in ("", "x" * 129, 'quo"te'):
        _, done = call(b"", timeout=30, metadata=[("x-request-id", given)])
        made.append(dict(done.trailing_metadata())["x-request-id"])
        assert made[-1] != given and pod.wait_log('"%s"' % made[-1])
    assert len(set(made)) == 3


def test_a_failure_is_logged_with_its_sentence(pod, channel):
    error = refusal(channel, b"", "/no.such.Service/Method",
                    metadata=[("x-request-id", "mine-2")])
    line = json.loads(pod.wait_log('"mine-2"'))
    assert line["level"] == "info" and line["code"] == "UNIMPLEMENTED"
    assert line["error"] == error.details()


# --- load ---

def open_watches(channels, n):
    """n streams, each of which has had its first message."""
    streams = []
    for i in range(n):
        stub = api.Stub(channels[i % len(channels)], "grpc.health.v1.Health")
        streams.append(stub.Watch(Check(service="liveness" if i % 2 else ""), timeout=120))
    for stream in streams:
        assert next(stream).status == SERVING
    return streams


@pytest.fixture
def channels(pod):
    made = [grpc.insecure_channel(pod.address, [("grpc.use_local_subchannel_pool", 1)])
            for _ in range(4)]
    yield made
    for channel in made:
        channel.close()


def test_a_thousand_streams_hear_of_the_drain(pod, channels):
    streams = open_watches(channels, WATCHES)
    assert works(channels[0])
    pod.terminate()
    for i, stream in enumerate(streams):
        told = []
        with pytest.raises(grpc.RpcError) as caught:
            told.extend(m.status for m in stream)
        assert caught.value.code() == UNAVAILABLE
        if i % 100 == 0:  # they are all made the same way
            api.check_error(caught.value, UNAVAILABLE, "POD_DRAINING")
    assert pod.process.wait(30) == 0


def test_cancelled_streams_are_forgotten(pod, channels):
    """Waves of streams that are given up: each ends in the log, and the pod ends with nothing left."""
    for stream in open_watches(channels, WATCHES):
        stream.cancel()
    wait_until(lambda: ended_with(pod, "CANCELLED") >= WATCHES, 60, "the end of every stream")
    streams = open_watches(channels, WATCHES)
    for channel in channels:  # the connections go away under them
        channel.close()
    wait_until(lambda: ended_with(pod, "CANCELLED") >= 2 * WATCHES, 60, "the end of every stream")
    assert len(streams) == WATCHES
    pod.stop(10)


def ended_with(pod, code):
    return sum('"code":"%s"' % code in line for line in list(pod.log))


def test_a_storm_of_short_calls_and_cancels(pod, channels):
    failures = []

    def storm(seed):
        rng = random.Random(seed)
        stub = api.Stub(channels[seed % len(channels)], "grpc.health.v1.Health")
        for _ in range(150):
            try:
                watch = stub.Watch(Check(), timeout=rng.choice([0.001, 0.005, 30]))
                if rng.random() < 0.5:
                    next(watch)
                watch.cancel()
                if stub.Check(Check(), timeout=60).status != SERVING:
                    failures.append("not serving")
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED,
                                        grpc.StatusCode.CANCELLED):
                    failures.append(error)

    threads = [threading.Thread(target=storm, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert works(channels[0])
    for channel in channels:
        channel.close()
    pod.stop(10)
