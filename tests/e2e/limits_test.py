"""What one caller may take from the others, and what a pod takes on: who is refused, and how."""

import contextlib
import hashlib
import json
import threading
import time

import grpc
import pytest
from harness import api, programs

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
HEALTH = "grpc.health.v1.Health"

# As the service config that clients are given says it.
RETRYING = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "30s", "maxBackoff": "30s", "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]})


@pytest.fixture
def pod_with(local):
    """Pods with options; all are stopped at the end."""
    with contextlib.ExitStack() as stack:
        def start(*options):
            pod = programs.Pod(local.url, None, *options)
            stack.callback(pod.stop)
            connection = stack.enter_context(api.channel(pod.address))
            return pod, connection
        yield start


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("".join("key %s sha256:%s\n" % (t, hashlib.sha256(t.encode()).hexdigest())
                            for t in ("a", "b")) +
                    "tenant a max-streams=2 max-calls=4 creates-per-minute=2\n")
    return path


def bearer(key):
    return (("authorization", "Bearer " + key),)


def follow(stub, sandbox, command="busy", metadata=None):
    """An open stream of a command that runs on."""
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox, command_id=command, shell="sleep 1000"), timeout=120,
        metadata=metadata)
    next(stream)
    return stream


def refused(call, *args, **kwargs):
    kwargs.setdefault("timeout", 30)
    with pytest.raises(grpc.RpcError) as caught:
        answer = call(*args, **kwargs)
        if hasattr(answer, "__next__"):
            next(answer)
    return caught.value


def check_quota(error, limit, tenant="a"):
    found = api.check_error(error, EXHAUSTED, "TENANT_QUOTA")
    assert found["ErrorInfo"].metadata["limit"] == limit
    assert found["ErrorInfo"].metadata["tenant"] == tenant
    (violation,) = found["QuotaFailure"].violations
    assert violation.subject == tenant
    delay = found["RetryInfo"].retry_delay
    return delay.seconds + delay.nanos / 1e9


def check_pushback(error, reason):
    found = api.check_error(error, UNAVAILABLE, reason)
    assert "QuotaFailure" not in found
    told = dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
    delay = found["RetryInfo"].retry_delay
    assert int(told) == delay.seconds * 1000 + delay.nanos // 1_000_000 > 0


def test_a_tenants_quota_is_its_own(pod_with, keys_file):
    _, connection = pod_with("--auth-keys=%s" % keys_file)
    stub = api.Stub(connection)
    a, b = bearer("a"), bearer("b")

    def make(metadata):
        return stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(300)), timeout=60,
                                  metadata=metadata).sandbox.sandbox_id

    def delete(sandbox, metadata):
        stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox), timeout=60,
                           metadata=metadata)

    sandbox, other, theirs = make(a), make(a), make(b)
    delay = check_quota(refused(stub.CreateSandbox, api.CreateSandboxRequest(), metadata=a),
                        "creates-per-minute")
    assert 20 < delay <= 31  # one each half a minute
    delete(other, a)
    streams = [follow(stub, sandbox, "one", a), follow(stub, sandbox, "two", a)]
    check_quota(refused(stub.Logs, api.LogsRequest(sandbox_id=sandbox, command_id="one",
                                                   follow=True), metadata=a), "max-streams")
    waits = [stub.WaitCommand.future(api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="one", timeout=api.seconds(60)), timeout=90, metadata=a)
        for _ in range(2)]
    get = api.GetSandboxRequest(sandbox_id=sandbox)
    programs.wait_until(lambda: is_refused(stub, get, a), what="four calls in flight")
    check_quota(refused(stub.GetSandbox, get, metadata=a), "max-calls")
    # The other one does not notice.
    more = [follow(stub, theirs, "busy%d" % n, b) for n in range(5)]
    assert stub.GetSandbox(api.GetSandboxRequest(sandbox_id=theirs), timeout=30, metadata=b)
    for call in [*more, *waits, streams[0]]:
        call.cancel()
    # What has ended counts no more.
    programs.wait_until(lambda: not is_refused(stub, get, a), what="room again")
    programs.wait_until(lambda: opens(stub, sandbox, a), what="room for a stream")
    streams[1].cancel()
    delete(theirs, b)
    programs.wait_until(lambda: not is_refused(stub, get, a), what="room to delete")
    delete(sandbox, a)


def is_refused(stub, request, metadata=None):
    try:
        stub.GetSandbox(request, timeout=30, metadata=metadata)
        return False
    except grpc.RpcError as error:
        assert error.code() in (EXHAUSTED, UNAVAILABLE), error.details()
        return True


def opens(stub, sandbox, metadata):
    try:
        follow(stub, sandbox, "three", metadata).cancel()
        return True
    except grpc.RpcError as error:
        assert error.code() == EXHAUSTED, error.details()
        return False


def test_a_full_pod_sends_to_others(pod_with, sandbox):
    _, connection = pod_with("--max-calls=3", "--max-streams=2")
    stub = api.Stub(connection)
    streams = [follow(stub, sandbox, "full%d" % n) for n in range(2)]
    check_pushback(refused(stub.RunCommand, api.RunCommandRequest(
        sandbox_id=sandbox, command_id="full2", shell="true")), "POD_FULL")
    get = api.GetSandboxRequest(sandbox_id=sandbox)
    assert stub.GetSandbox(get, timeout=30)
    wait = stub.WaitCommand.future(api.WaitCommandRequest(
        sandbox_id=sandbox, command_id="full0", timeout=api.seconds(60)), timeout=90)
    programs.wait_until(lambda: is_refused(stub, get), what="three calls in flight")
    check_pushback(refused(stub.GetSandbox, get), "POD_FULL")
    # Whoever asks how it is must hear so: a pod that looks dead is taken away.
    health = api.Stub(connection, HEALTH)
    assert health.Check(api.message("grpc.health.v1.HealthCheckRequest")(), timeout=30).status == 1
    for call in [wait, *streams]:
        call.cancel()
    programs.wait_until(lambda: not is_refused(stub, get), what="room again")


def test_a_client_that_retries_does_not_notice(pod_with, sandbox):
    """The refusal is trailers-only, so gRPC itself tries again, after the time it was told and not
    after its own thirty seconds."""
    pod, connection = pod_with("--max-calls=1")
    stream = follow(api.Stub(connection), sandbox, "alone")
    threading.Timer(0.3, stream.cancel).start()
    retrying = grpc.insecure_channel(pod.address, options=[
        ("grpc.service_config", RETRYING), ("grpc.enable_retries", 1),
        ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])
    begin = time.monotonic()
    with retrying:
        stub = api.Stub(retrying)
        answer = None
        while answer is None:  # five attempts may all come too early on a busy machine
            try:
                answer = stub.GetSandbox(api.GetSandboxRequest(sandbox_id=sandbox), timeout=60)
            except grpc.RpcError as error:
                check_pushback(error, "POD_FULL")
        took = time.monotonic() - begin
    assert answer.sandbox.sandbox_id == sandbox
    assert took < 25
    refusals = [line for line in list(pod.log) if '"UNAVAILABLE"' in line]
    assert refusals, "it was never refused"


def test_a_draining_pod_opens_no_stream(local, sandbox):
    pod = programs.Pod(local.url, None, "--drain-settle=20s", "--drain-budget=1s")
    with api.channel(pod.address) as connection:
        stub = api.Stub(connection)
        get = api.GetSandboxRequest(sandbox_id=sandbox)
        assert stub.GetSandbox(get, timeout=30)
        pod.terminate()
        pod.wait_log('"draining"')
        programs.wait_until(lambda: api.Stub(connection, HEALTH).Check(
            api.message("grpc.health.v1.HealthCheckRequest")(), timeout=30).status == 2,
            what="NOT_SERVING")
        check_pushback(refused(stub.RunCommand, api.RunCommandRequest(
            sandbox_id=sandbox, command_id="late", shell="true")), "POD_DRAINING")
        check_pushback(refused(stub.Logs, api.LogsRequest(sandbox_id=sandbox)), "POD_DRAINING")
        assert stub.GetSandbox(get, timeout=30)  # load balancers need time to notice
    pod.process.terminate()  # a second signal: at once
    pod.process.wait(30)


def test_calls_of_one_connection_wait_their_turn(pod_with, sandbox):
    _, connection = pod_with("--max-connection-calls=2")
    stub = api.Stub(connection)
    streams = [follow(stub, sandbox, "turn%d" % n) for n in range(2)]
    get = api.GetSandboxRequest(sandbox_id=sandbox)
    waiting = stub.GetSandbox.future(get, timeout=60)
    with pytest.raises(grpc.FutureTimeoutError):
        waiting.result(timeout=0.5)
    streams[0].cancel()
    assert waiting.result(timeout=60).sandbox.sandbox_id == sandbox
    streams[1].cancel()


def test_slow_readers_share_a_bound(pod_with, sandbox):
    """Nobody reads: what waits for all of them together stays near the bound, new streams are sent
    on, and whoever then reads gets everything."""
    pod, connection = pod_with("--max-queued=64KiB")
    stub = api.Stub(connection, raw=True)
    size = 8 << 20
    request = api.RunCommandRequest(sandbox_id=sandbox, command_id="flood",
                                    shell="head -c %d /dev/zero" % size)
    streams = []

    def is_pressed():
        try:
            stream = stub.RunCommand(request, timeout=120)
            next(stream)
            streams.append(stream)
            return False
        except grpc.RpcError as error:
            check_pushback(error, "POD_FULL")
            return True

    programs.wait_until(is_pressed, timeout=60, what="pressure", every=0.2)
    message = api.RunCommandResponse
    got = sum(len(event.stdout) for part in streams[-1]
              for event in message.FromString(part).events)
    assert got >= size - (1 << 20)  # the first message was read above
    for stream in streams:
        stream.cancel()
