"""The services that every gRPC service has: health and reflection."""

import grpc
import pytest
from harness import api

SERVING = 1
NAMES = ["", "sandbox.v1.SandboxService"]


@pytest.fixture(scope="module")
def health(service):
    return service.stub(0, "grpc.health.v1.Health")


def health_message(name):
    return api.message("grpc.health.v1." + name)


@pytest.mark.parametrize("name", NAMES)
def test_check(health, name):
    assert health.Check(health_message("HealthCheckRequest")(service=name), timeout=10).status == SERVING


def test_check_of_an_unknown_service(health):
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_message("HealthCheckRequest")(service="no.such.Service"), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_watch_tells_at_once_and_stays(health):
    stream = health.Watch(health_message("HealthCheckRequest")(service=""), timeout=10)
    assert next(stream).status == SERVING
    stream.cancel()
    unknown = health.Watch(health_message("HealthCheckRequest")(service="no.such.Service"), timeout=10)
    assert next(unknown).status == 3  # SERVICE_UNKNOWN
    unknown.cancel()


def test_list(health):
    statuses = health.List(health_message("HealthListRequest")(), timeout=10).statuses
    assert set(NAMES) <= set(statuses)
    assert all(answer.status == SERVING for answer in statuses.values())


@pytest.fixture(params=["v1", "v1alpha"])
def reflect(request, service):
    package = "grpc.reflection." + request.param
    stub = service.stub(0, package + ".ServerReflection")
    make = api.message(package + ".ServerReflectionRequest")

    def ask(*queries):
        return list(stub.ServerReflectionInfo(iter([make(**q) for q in queries]), timeout=10))
    return ask


def names_of(files):
    from google.protobuf import descriptor_pb2
    return [descriptor_pb2.FileDescriptorProto.FromString(f) for f in files]


def test_reflection_lists_services(reflect):
    (answer,) = reflect({"list_services": ""})
    listed = {s.name for s in answer.list_services_response.service}
    assert listed == {"sandbox.v1.SandboxService", "grpc.health.v1.Health",
                      "grpc.reflection.v1.ServerReflection",
                      "grpc.reflection.v1alpha.ServerReflection"}


def test_reflection_gives_files_by_symbol_and_by_name(reflect):
    answers = reflect({"file_containing_symbol": "sandbox.v1.SandboxService"},
                      {"file_containing_symbol": "sandbox.v1.SandboxService.RunCommand"},
                      {"file_containing_symbol": "sandbox.v1.Exited.Reason"},
                      {"file_by_filename": "sandbox/v1/files.proto"},
                      {"file_containing_symbol": "google.rpc.ErrorInfo"})
    first = [names_of(a.file_descriptor_response.file_descriptor_proto)[0].name for a in answers]
    assert first == ["sandbox/v1/sandbox_service.proto", "sandbox/v1/sandbox_service.proto",
                     "sandbox/v1/commands.proto", "sandbox/v1/files.proto",
                     "google/rpc/error_details.proto"]
    assert answers[0].original_request.file_containing_symbol == "sandbox.v1.SandboxService"


def test_reflection_of_the_unknown_is_an_answer_not_a_failure(reflect):
    answers = reflect({"file_containing_symbol": "no.such.Thing"},
                      {"file_by_filename": "no/such.proto"}, {"list_services": ""})
    assert [a.WhichOneof("message_response") for a in answers] == [
        "error_response", "error_response", "list_services_response"]
    assert answers[0].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_an_unknown_method_is_unimplemented(service):
    call = service.channel(0).unary_unary("/sandbox.v1.SandboxService/NoSuchMethod")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)
    api.check_error(caught.value, grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")


@pytest.mark.parametrize("method", ["GetSandbox", "RunCommand"])
def test_a_request_that_is_no_message_is_refused(service, method):
    channel = service.channel(0)
    path = "/sandbox.v1.SandboxService/" + method
    with pytest.raises(grpc.RpcError) as caught:
        if method == "RunCommand":
            list(channel.unary_stream(path)(b"\x0a\xff\xff", timeout=10))
        else:
            channel.unary_unary(path)(b"\x0a\xff\xff", timeout=10)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
