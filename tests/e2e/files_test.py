"""Files of a sandbox, written and read whole."""

import grpc
import pytest
from harness import api, follow

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def write(stub, sandbox_id, *files, **fields):
    return stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=sandbox_id, files=[api.File(**f) for f in files], **fields), timeout=30)


def read(stub, sandbox_id, path, **fields):
    return stub.ReadFile(
        api.ReadFileRequest(sandbox_id=sandbox_id, path=path, **fields), timeout=30)


def test_what_is_written_is_read_by_another_pod(stub, other_stub, sandbox):
    data = bytes(range(256)) * 1000
    answer = write(stub, sandbox, {"path": "/tmp/two/levels/bytes", "data": data},
                   {"path": "plain.txt", "text": "grüße\n"}, {"path": "empty"})
    assert [(f.path, f.size) for f in answer.files] == [
        ("/tmp/two/levels/bytes", 256_000), ("/home/user/plain.txt", 8), ("/home/user/empty", 0)]
    got = read(other_stub, sandbox, "/tmp/two/levels/bytes")
    assert got.WhichOneof("content") == "data" and got.data == data and got.size == len(data)
    got = read(other_stub, sandbox, "plain.txt", encoding=api.ENCODING_TEXT)
    assert got.WhichOneof("content") == "text" and got.text == "grüße\n" and got.size == 8
    assert read(other_stub, sandbox, "/home/user/empty").size == 0


def test_a_write_replaces_the_file(stub, sandbox):
    write(stub, sandbox, {"path": "again", "text": "a long first text"})
    write(stub, sandbox, {"path": "again", "text": "short"})
    assert read(stub, sandbox, "again").data == b"short"


def test_text_of_any_bytes_is_valid(stub, sandbox):
    data = b"ok \xff\xfe caf\xc3\xa9 cut \xe2\x82"
    write(stub, sandbox, {"path": "mixed", "data": data})
    got = read(stub, sandbox, "mixed", encoding=api.ENCODING_TEXT)
    assert got.text.startswith("ok \ufffd") and "café" in got.text and got.text.endswith("\ufffd")
    assert got.size == len(data)


def test_mode_and_owner_are_as_asked(stub, sandbox):
    write(stub, sandbox, {"path": "run.sh", "text": "#!/bin/sh\necho ran\n", "mode": 0o755},
          {"path": "data", "text": "x"}, {"path": "secret", "text": "x", "mode": 0o600})
    out = follow.run(stub, sandbox, shell="./run.sh; stat -c '%U %a' run.sh data secret").out
    assert out == b"ran\nuser 755\nuser 644\nuser 600\n"
    write(stub, sandbox, {"path": "rootfile", "text": "x"}, user="root")
    assert follow.run(stub, sandbox, user="root", shell="stat -c %U /root/rootfile").out == b"root\n"


def test_odd_names_are_only_names(stub, sandbox):
    names = ["with space", "quote'\"", "a&b=c?d#e%20", "ünï", "new\nline", "-rf", "*", "c:d"]
    write(stub, sandbox, *({"path": "/tmp/odd/" + n, "text": n} for n in names))
    for name in names:
        assert read(stub, sandbox, "/tmp/odd/" + name).data.decode() == name
    count = follow.run(stub, sandbox, shell="ls -1b /tmp/odd | wc -l").out
    assert int(count) == len(names)


def test_many_files_arrive_in_one_call(stub, sandbox):
    files = [{"path": "/tmp/many/%d" % n, "text": str(n)} for n in range(1000)]
    answer = write(stub, sandbox, *files)
    assert [f.path for f in answer.files] == [f["path"] for f in files]
    assert follow.run(stub, sandbox, shell="cat /tmp/many/* | wc -c").out.strip() == b"2890"


def test_files_that_fit_a_message_are_read_larger_ones_are_not(stub, sandbox, fails):
    follow.run(stub, sandbox, shell="head -c 4000000 /dev/zero > fits; truncate -s 1G sparse; "
                                    "head -c 4194305 /dev/zero > over")
    assert read(stub, sandbox, "fits").size == 4_000_000
    for path in "over", "sparse":
        found = fails(PRECONDITION, "FILE_TOO_LARGE", stub.ReadFile,
                      api.ReadFileRequest(sandbox_id=sandbox, path=path))
        limit = found["ErrorInfo"].metadata["limit_bytes"]
        assert 4_000_000 <= int(limit) <= 4 << 20
    # As text, each of these bytes becomes three.
    fails(PRECONDITION, "FILE_TOO_LARGE", stub.ReadFile,
          api.ReadFileRequest(sandbox_id=sandbox, path="fits", encoding=api.ENCODING_TEXT))
    with pytest.raises(grpc.RpcError) as caught:
        read(stub, sandbox, "sparse")
    assert limit in caught.value.details()


def test_an_oversized_request_is_refused_by_its_size(stub, sandbox):
    with pytest.raises(grpc.RpcError) as caught:
        write(stub, sandbox, {"path": "x", "data": bytes(5 << 20)})
    assert caught.value.code() == EXHAUSTED


@pytest.mark.parametrize("path", ["/no/such/file", "nothing", "/etc/hostname/x/y"])
def test_missing_files(stub, sandbox, fails, path):
    try:
        read(stub, sandbox, path)
    except grpc.RpcError as error:
        code = error.code()
    if path.startswith("/etc/hostname/"):
        # A part of it is not a directory.
        assert code in (PRECONDITION, NOT_FOUND)
    else:
        fails(NOT_FOUND, "FILE_NOT_FOUND", stub.ReadFile,
              api.ReadFileRequest(sandbox_id=sandbox, path=path))


def test_a_directory_is_not_a_file(stub, sandbox, fails):
    fails(PRECONDITION, "NOT_A_FILE", stub.ReadFile,
          api.ReadFileRequest(sandbox_id=sandbox, path="/tmp"))
    fails(PRECONDITION, "NOT_A_FILE", stub.WriteFiles, api.WriteFilesRequest(
        sandbox_id=sandbox, files=[api.File(path="/tmp", text="x")]))


@pytest.mark.parametrize("path", ["", "a\0b", "/" + "x" * 4096])
def test_bad_paths_are_refused(stub, sandbox, fails, path):
    fails(INVALID, "INVALID_FIELD", stub.ReadFile,
          api.ReadFileRequest(sandbox_id=sandbox, path=path))
    fails(INVALID, "INVALID_FIELD", stub.WriteFiles, api.WriteFilesRequest(
        sandbox_id=sandbox, files=[api.File(path=path, text="x")]))


@pytest.mark.parametrize("files", [
    pytest.param([], id="none"),
    pytest.param([{"path": "twice", "text": "1"}, {"path": "twice", "text": "2"}], id="twice"),
    pytest.param([{"path": "n%d" % n} for n in range(1001)], id="too many"),
    pytest.param([{"path": "mode", "mode": 0o200000}], id="mode"),
])
def test_bad_lists_of_files_are_refused(stub, sandbox, fails, files):
    fails(INVALID, "INVALID_FIELD", stub.WriteFiles, api.WriteFilesRequest(
        sandbox_id=sandbox, files=[api.File(**f) for f in files]))


def test_unknown_users_are_refused(stub, sandbox, fails):
    fails(INVALID, "USER_NOT_FOUND", stub.ReadFile,
          api.ReadFileRequest(sandbox_id=sandbox, path="x", user="nobody-here"))
    fails(INVALID, "USER_NOT_FOUND", stub.WriteFiles, api.WriteFilesRequest(
        sandbox_id=sandbox, user="nobody-here", files=[api.File(path="x", text="x")]))
    fails(INVALID, "INVALID_FIELD", stub.ReadFile,
          api.ReadFileRequest(sandbox_id=sandbox, path="x", user="a b"))


def test_a_full_disk_is_said(stub, new_sandbox, fails):
    sandbox_id = new_sandbox()
    filled = follow.run(stub, sandbox_id, timeout=120,
                        shell="head -c 64G /dev/zero > /home/user/fill; rm -f /home/user/none; "
                              "stat -c %s /home/user/fill")
    assert int(filled.out) < 64 << 30
    fails(EXHAUSTED, "DISK_FULL", stub.WriteFiles, api.WriteFilesRequest(
        sandbox_id=sandbox_id, files=[api.File(path="more", data=bytes(1 << 20))]))
