"""Files far larger than a message, up and down, in streams that are cut and go on."""

import hashlib
import os
import threading

import grpc
import pytest
from harness import api, follow

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
DATA_LOSS = grpc.StatusCode.DATA_LOSS

BLOCK = 1 << 18
SIZE = int(os.environ.get("SANDBOXD_TEST_TRANSFER_MIB", "256")) << 20
RSS_ALLOWED = 64 << 20  # above what the pod had before

_noise = os.urandom(BLOCK)


def content(begin, end):
    """Bytes begin to end of a file of which no two blocks are alike."""
    while begin < end:
        n, at = divmod(begin, BLOCK)
        block = n.to_bytes(8, "big") + _noise[8:]
        yield block[at:min(BLOCK, at + end - begin)]
        begin += BLOCK - at


def digest_of(size):
    digest = hashlib.sha256()
    for block in content(0, size):
        digest.update(block)
    return digest.digest()


def start(sandbox_id, path, upload_id, offset=0, **fields):
    return api.UploadFileRequest(start=api.UploadStart(
        sandbox_id=sandbox_id, path=path, upload_id=upload_id, offset=offset, **fields))


def commit(size, sha256, **fields):
    return api.UploadFileRequest(commit=api.UploadCommit(size=size, sha256=sha256, **fields))


def upload(stub, first, blocks, last=None, timeout=600):
    def requests():
        yield first
        for block in blocks:
            yield api.UploadFileRequest(data=block)
        if last is not None:
            yield last
    return stub.UploadFile(requests(), timeout=timeout)


def put(stub, sandbox_id, path, data, upload_id="one", first=None, **fields):
    return upload(stub, start(sandbox_id, path, upload_id, **(first or {})), [data],
                  commit(len(data), hashlib.sha256(data).digest(), **fields))


def download(stub, sandbox_id, path, timeout=600, **fields):
    return stub.DownloadFile(api.DownloadFileRequest(
        sandbox_id=sandbox_id, path=path, **fields), timeout=timeout)


def fetch(stub, sandbox_id, path, **fields):
    """Start, the bytes, end."""
    first, data, end = None, b"", None
    for message in download(stub, sandbox_id, path, **fields):
        kind = message.WhichOneof("message")
        assert end is None and (first is None) == (kind == "start")
        if kind == "start":
            first = message.start
        elif kind == "data":
            data += message.data
        else:
            end = message.end
    assert end is not None and first.length == len(data)
    return first, data, end


def shell(stub, sandbox_id, line, **fields):
    got = follow.run(stub, sandbox_id, shell=line, **fields)
    assert got.exited.code == 0, got.err
    return got.out.decode()


class Memory:
    """The most resident memory of a pod, in bytes, above what it has now."""

    def __init__(self, pod):
        self.path = "/proc/%d/" % pod.process.pid
        with open(self.path + "clear_refs", "w") as file:
            file.write("5")  # starts VmHWM anew
        self.before = self.read("VmRSS:")

    def read(self, key):
        with open(self.path + "status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))

    def is_flat(self):
        """Builds with a sanitizer keep what was freed for a while: they tell nothing."""
        with open(self.path + "maps") as file:
            return "asan" in file.read() or self.read("VmHWM:") - self.before < RSS_ALLOWED


# --- both ways, cut ---

def upload_until(stub, first, begin, end):
    """Sends these bytes, then breaks the stream off while it waits for more."""
    reached, broken = threading.Event(), threading.Event()

    def requests():
        yield first
        for block in content(begin, end):
            yield api.UploadFileRequest(data=block)
        reached.set()
        broken.wait(600)

    call = stub.UploadFile.future(requests(), timeout=600)
    assert reached.wait(600)
    call.cancel()
    broken.set()
    with pytest.raises((grpc.FutureCancelledError, grpc.RpcError)):
        call.result(timeout=600)


def test_a_large_file_survives_cuts_in_flat_memory(pods, stub, other_stub, new_sandbox):
    sandbox = new_sandbox()
    stubs, sha256 = [stub, other_stub], digest_of(SIZE)
    shell(stub, sandbox, "true")
    memory = [Memory(pod) for pod in pods]

    have = 0
    for n in range(5):
        end = SIZE * (n + 1) // 6 + n * 12345
        upload_until(stubs[n % 2], start(sandbox, "large", "big", have), have, end)
        seen = upload(stubs[(n + 1) % 2], start(sandbox, "large", "big"), []).received_size
        assert have <= seen <= end
        have = seen
    assert have > 0
    done = upload(stub, start(sandbox, "large", "big", have), content(have, SIZE),
                  commit(SIZE, sha256, mode=0o640))
    assert done.committed and done.received_size == SIZE
    assert (done.entry.size, done.entry.mode, done.entry.owner) == (SIZE, 0o640, "user")
    assert shell(stub, sandbox, "ls -A; sha256sum large").split()[-2:] == [sha256.hex(), "large"]
    assert "sandboxd-upload" not in shell(stub, sandbox, "ls -A")

    digest, have, version = hashlib.sha256(), 0, ""
    for n in range(6):
        stop = SIZE * (n + 1) // 6 if n < 5 else SIZE + 1
        call = download(stubs[n % 2], sandbox, "large", offset=have, if_version=version,
                        with_sha256=n == 5)
        for message in call:
            kind = message.WhichOneof("message")
            if kind == "start":
                assert message.start.length == SIZE - have
                version = message.start.version
            elif kind == "data":
                digest.update(message.data)
                have += len(message.data)
                if have >= stop:
                    call.cancel()
                    break
            else:
                assert message.end.sha256 == sha256
    assert have == SIZE and digest.digest() == sha256
    assert all(pod.is_flat() for pod in memory)


def test_a_client_that_does_not_read_holds_the_file_back(pods, stub, sandbox):
    shell(stub, sandbox, "head -c 100000000 /dev/zero > held")
    memory = Memory(pods[0])
    call = download(stub, sandbox, "held")
    assert next(call).start.length == 100_000_000
    next(call)
    # The command is another stream through the same pod: it has had its turn many times.
    shell(stub, sandbox, "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.005; done")
    assert memory.is_flat()
    call.cancel()


# --- uploads ---

def test_small_and_empty_files(stub, sandbox):
    for data in b"", b"x", bytes(range(256)) * 4097:
        done = put(stub, sandbox, "up/file", data, upload_id="n%d" % len(data))
        assert done.committed and done.entry.path == "/home/user/up/file"
        assert fetch(stub, sandbox, "up/file")[1] == data
    assert shell(stub, sandbox, "ls -A up; stat -c '%U %a' up/file") == "file\nuser 644\n"


def test_a_commit_may_be_sent_again(stub, other_stub, sandbox):
    data = b"again" * 1000
    put(stub, sandbox, "twice", data, upload_id="tw")
    sha256 = hashlib.sha256(data).digest()
    done = upload(other_stub, start(sandbox, "twice", "tw"), [], commit(len(data), sha256))
    assert done.committed and done.received_size == len(data)


def test_parts_may_overlap_and_come_out_of_order(stub, sandbox):
    data = os.urandom(3_000_000)
    for begin, end in (1_000_000, 2_000_000), (0, 400_000), (300_000, 1_500_000):
        upload(stub, start(sandbox, "parts", "p", begin), [data[begin:end]])
    seen = upload(stub, start(sandbox, "parts", "p"), [])
    assert seen.received_size == 2_000_000 and not seen.committed
    upload(stub, start(sandbox, "parts", "p", 1_900_000), [data[1_900_000:]],
           commit(len(data), hashlib.sha256(data).digest()))
    assert fetch(stub, sandbox, "parts", with_sha256=True)[1] == data


def test_what_is_missing_is_said(stub, sandbox, fails):
    data = b"0123456789" * 100
    sha256 = hashlib.sha256(data).digest()

    def attempt(offset, blocks):
        return iter([start(sandbox, "gap", "g", offset),
                     *(api.UploadFileRequest(data=b) for b in blocks), commit(1000, sha256)])

    def refused(offset, blocks, expected):
        found = fails(OUT_OF_RANGE, "UPLOAD_GAP", stub.UploadFile, attempt(offset, blocks))
        assert found["ErrorInfo"].metadata["expected_offset"] == str(expected)

    refused(0, [], 0)
    refused(0, [data[:300]], 300)
    refused(500, [data[500:]], 300)
    assert upload(stub, start(sandbox, "gap", "g", 300), [data[300:500]],
                  commit(1000, sha256)).committed


def test_a_wrong_digest_throws_the_upload_away(stub, sandbox, fails):
    write = [start(sandbox, "wrong", "w"), api.UploadFileRequest(data=b"abc")]
    for bad in commit(3, bytes(32)), commit(2, hashlib.sha256(b"abc").digest()):
        fails(DATA_LOSS, "DIGEST_MISMATCH", stub.UploadFile, iter([*write, bad]))
        assert upload(stub, start(sandbox, "wrong", "w"), []).received_size == 0
    fails(NOT_FOUND, "FILE_NOT_FOUND", stub.StatFile,
          api.StatFileRequest(sandbox_id=sandbox, path="wrong"))


def test_commits_have_preconditions(stub, sandbox, fails):
    put(stub, sandbox, "pre", b"one", upload_id="a", create_only=True, mode=0o600)

    def attempt(data, **fields):
        return iter([start(sandbox, "pre", "b"), api.UploadFileRequest(data=data),
                     commit(len(data), hashlib.sha256(data).digest(), **fields)])

    fails(EXISTS, "FILE_EXISTS", stub.UploadFile, attempt(b"two", create_only=True))
    fails(PRECONDITION, "FILE_CHANGED", stub.UploadFile, attempt(b"two", if_sha256=bytes(32)))
    assert shell(stub, sandbox, "cat pre; ls -A | grep -c upload || true") == "one0\n"
    assert put(stub, sandbox, "pre", b"two", upload_id="c",
               if_sha256=hashlib.sha256(b"one").digest()).entry.mode == 0o600
    assert shell(stub, sandbox, "cat pre") == "two"


def test_another_user_owns_what_is_uploaded(stub, sandbox):
    done = put(stub, sandbox, "~/deep/er/file", b"root's", first={"user": "root"})
    assert (done.entry.path, done.entry.owner) == ("/root/deep/er/file", "root")
    empty = put(stub, sandbox, "~/new/empty", b"", first={"user": "root"})
    assert (empty.entry.path, empty.entry.owner) == ("/root/new/empty", "root")


def test_a_full_disk_ends_an_upload(stub, new_sandbox, fails):
    sandbox = new_sandbox()
    follow.run(stub, sandbox, timeout=600, shell="head -c 64G /dev/zero > fill")
    fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL", stub.UploadFile,
          iter([start(sandbox, "x", "full")] +
               [api.UploadFileRequest(data=b) for b in content(0, 16 << 20)]))


def test_bad_uploads_are_refused(stub, sandbox, fails):
    data = api.UploadFileRequest(data=b"x")
    sha256 = hashlib.sha256(b"x").digest()
    first = start(sandbox, "bad", "bad")
    for requests in ([], [data], [first, first], [api.UploadFileRequest()],
                     [first, api.UploadFileRequest()],
                     [start(sandbox, "", "id")], [start(sandbox, "x", "")],
                     [start(sandbox, "x", "a/b")], [start(sandbox, "x/", "id")],
                     [start(sandbox, "x", "id", 1 << 63)],
                     [first, data, commit(1, b"short")],
                     [first, data, commit(1, sha256, if_sha256=b"short")],
                     [first, data, commit(1, sha256, mode=0o10000)],
                     [first, data, commit(1, sha256), data]):
        fails(INVALID, "INVALID_FIELD", stub.UploadFile, iter(requests))
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", stub.UploadFile,
          iter([start("i0123456789abcdefghij", "x", "id"), data]))
    fails(INVALID, "USER_NOT_FOUND", stub.UploadFile,
          iter([start(sandbox, "x", "id", user="nobody-here"), data]))


# --- downloads ---

def test_parts_of_a_file(stub, sandbox):
    data = os.urandom(700_000)
    put(stub, sandbox, "part", data)
    sha256 = hashlib.sha256(data).digest()
    first, got, end = fetch(stub, sandbox, "part", with_sha256=True)
    assert got == data and end.sha256 == sha256 and first.entry.size == len(data)
    for offset, length in (0, 1), (1, 699_999), (500_000, 0), (699_999, 5), (700_000, 0), (3, 1000):
        part, got, end = fetch(stub, sandbox, "part", offset=offset, length=length,
                               if_version=first.version, with_sha256=True)
        assert got == data[offset:offset + length if length else None]
        assert end.sha256 == (sha256 if offset + len(got) == len(data) else b"")
        assert part.version == first.version
    assert fetch(stub, sandbox, "part")[2].sha256 == b""


def test_another_file_is_not_gone_on_with(stub, sandbox, fails):
    put(stub, sandbox, "ver", b"first version", upload_id="v1")
    version = fetch(stub, sandbox, "ver")[0].version
    put(stub, sandbox, "ver", b"other version", upload_id="v2")
    fails(PRECONDITION, "FILE_CHANGED", stub.DownloadFile, api.DownloadFileRequest(
        sandbox_id=sandbox, path="ver", offset=5, if_version=version))


def test_a_file_that_changes_meanwhile_is_not_told_as_whole(stub, sandbox, fails):
    shell(stub, sandbox, "head -c 50000000 /dev/zero > grows")
    call = download(stub, sandbox, "grows")
    next(call)
    shell(stub, sandbox, "echo more >> grows")
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            pass
    api.check_error(caught.value, PRECONDITION, "FILE_CHANGED")


def test_bad_downloads_are_refused(stub, sandbox, fails):
    put(stub, sandbox, "short", b"12345")
    for code, reason, fields in [
            (NOT_FOUND, "FILE_NOT_FOUND", {"path": "no/such"}),
            (PRECONDITION, "NOT_A_FILE", {"path": "/tmp"}),
            (PRECONDITION, "NOT_A_FILE", {"path": "/dev/zero"}),
            (INVALID, "INVALID_FIELD", {"path": "short", "offset": 6}),
            (INVALID, "INVALID_FIELD", {"path": ""}),
            (INVALID, "INVALID_FIELD", {"path": "short", "if_version": "v" * 300}),
            (INVALID, "USER_NOT_FOUND", {"path": "short", "user": "nobody-here"}),
            (NOT_FOUND, "SANDBOX_NOT_FOUND", {"path": "x", "sandbox_id": "i0123456789abcdefghij"})]:
        fails(code, reason, stub.DownloadFile,
              api.DownloadFileRequest(**{"sandbox_id": sandbox, **fields}))
