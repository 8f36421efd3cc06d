"""The API for tests: messages and stubs made from the descriptors that the service itself reflects.

Nothing is generated: `api.RunCommandRequest(...)` is any message of sandbox.v1 by its name, and
`Stub(channel, "sandbox.v1.SandboxService")` has a callable for each method.
"""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from harness import programs

POOL = descriptor_pool.DescriptorPool()
STREAMING = {}  # "/service/Method" -> (client streams, server streams)

_files = descriptor_pb2.FileDescriptorSet.FromString(
    programs.find("proto/sandboxd.protoset").read_bytes())
for _file in _files.file:
    POOL.Add(_file)
    for _service in _file.service:
        for _method in _service.method:
            STREAMING["/%s.%s/%s" % (_file.package, _service.name, _method.name)] = (
                _method.client_streaming, _method.server_streaming)

SERVICES = sorted({path.split("/")[1] for path in STREAMING})


def message(full_name):
    """The class of a message."""
    descriptor = POOL.FindMessageTypeByName(full_name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return _factory.GetPrototype(descriptor)


_factory = message_factory.MessageFactory(POOL)


def __getattr__(name):
    """sandbox.v1 by short names: messages, and values of enums (OVERFLOW_BLOCK)."""
    try:
        return message("sandbox.v1." + name)
    except KeyError:
        pass
    for file in _files.file:
        if file.package != "sandbox.v1":
            continue
        for enum in file.enum_type:
            for value in enum.value:
                if value.name == name:
                    return value.number
    raise AttributeError(name)


def seconds(value):
    """A google.protobuf.Duration."""
    duration = message("google.protobuf.Duration")()
    duration.seconds, rest = divmod(round(value * 1_000_000_000), 1_000_000_000)
    duration.nanos = rest
    return duration


class Stub:
    """One callable per method. With raw=True responses stay bytes."""

    def __init__(self, channel, service="sandbox.v1.SandboxService", raw=False):
        descriptor = POOL.FindServiceByName(service)
        for method in descriptor.methods:
            path = "/%s/%s" % (service, method.name)
            make = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, False): channel.stream_unary,
                (True, True): channel.stream_stream,
            }[STREAMING[path]]
            response = message(method.output_type.full_name)
            setattr(self, method.name, make(
                path, request_serializer=message(method.input_type.full_name).SerializeToString,
                response_deserializer=None if raw else response.FromString))


def channel(address):
    """A channel of its own: gRPC shares connections between equal ones otherwise."""
    return grpc.insecure_channel(address, options=[
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 64 << 20),
        ("grpc.max_send_message_length", 64 << 20),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
        ("grpc.enable_http_proxy", 0),
    ])


def details(error):
    """The google.rpc details of a failed call, by short name: {"ErrorInfo": …, "RetryInfo": …}."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = message("google.rpc.Status").FromString(value)
            assert status.code == error.code().value[0], "the details tell of another code"
            found = {}
            for packed in status.details:
                name = packed.type_url.rsplit("/", 1)[1]
                found[name.rsplit(".", 1)[1]] = message(name).FromString(packed.value)
            return found
    return {}


REASONS = {v.name[len("ERROR_REASON_"):]
           for f in _files.file if f.package == "sandbox.v1"
           for e in f.enum_type if e.name == "ErrorReason" for v in e.value}


def check_error(error, code, reason):
    """A failure is what it must be: code, ErrorInfo with our domain, and a sentence."""
    assert error.code() == code, "%s, not %s: %s" % (error.code(), code, error.details())
    found = details(error)
    assert "ErrorInfo" in found, "no ErrorInfo with %s: %s" % (error.code(), error.details())
    info = found["ErrorInfo"]
    assert info.domain == "sandbox.v1"
    assert info.reason in REASONS, "%s is not in ErrorReason" % info.reason
    assert info.reason == reason, "%s, not %s: %s" % (info.reason, reason, error.details())
    assert len(error.details()) >= 15 and " " in error.details(), "not a sentence that helps"
    return found
