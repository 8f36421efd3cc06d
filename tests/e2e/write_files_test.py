"""WriteFiles with preconditions, and where only what changed is sent."""

import concurrent.futures
import hashlib

import grpc
import pytest
from harness import api, follow

INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS


def sha256(data):
    return hashlib.sha256(data).digest()


def request(sandbox_id, *files, **fields):
    return api.WriteFilesRequest(sandbox_id=sandbox_id, files=[api.File(**f) for f in files],
                                 **fields)


def write(stub, sandbox_id, *files, **fields):
    return stub.WriteFiles(request(sandbox_id, *files, **fields), timeout=60)


def shell(stub, sandbox_id, line):
    got = follow.run(stub, sandbox_id, shell=line)
    assert got.exited.code == 0, got.err
    return got.out.decode()


# --- preconditions ---

def test_create_only_never_replaces(stub, sandbox, fails):
    new = {"path": "co/new", "text": "first", "create_only": True, "mode": 0o640}
    answer = write(stub, sandbox, new)
    assert answer.files[0].path == "/home/user/co/new"
    assert answer.files[0].sha256 == sha256(b"first") and not answer.files[0].unchanged
    fails(EXISTS, "FILE_EXISTS", stub.WriteFiles, request(sandbox, {**new, "text": "second"}))
    assert shell(stub, sandbox, "cat co/new; stat -c ' %U %a' co/new; ls -A co") == (
        "first user 640\nnew\n")
    shell(stub, sandbox, "ln -sfn nowhere co/link; mkdir -p co/dir")
    for path in "co/link", "co/dir":
        fails(EXISTS, "FILE_EXISTS", stub.WriteFiles, request(sandbox, {**new, "path": path}))


def test_a_file_is_replaced_only_if_it_is_the_one_that_was_seen(stub, sandbox, fails):
    (old,) = write(stub, sandbox, {"path": "if/f", "text": "one", "mode": 0o750}).files
    (new,) = write(stub, sandbox, {"path": "if/f", "text": "two", "if_sha256": old.sha256}).files
    assert shell(stub, sandbox, "cat if/f; stat -c ' %U %a' if/f; ls -A if") == "two user 750\nf\n"
    late = {"path": "if/f", "text": "three", "if_sha256": old.sha256}
    fails(PRECONDITION, "FILE_CHANGED", stub.WriteFiles, request(sandbox, late))
    fails(PRECONDITION, "FILE_CHANGED", stub.WriteFiles, request(sandbox, {**late, "path": "if/no"}))
    assert shell(stub, sandbox, "cat if/f; ls -A if") == "twof\n"
    write(stub, sandbox, {**late, "if_sha256": new.sha256})


def test_one_precondition_holds_back_the_whole_call(stub, sandbox, fails):
    write(stub, sandbox, {"path": "all/there", "text": "old"})
    fails(EXISTS, "FILE_EXISTS", stub.WriteFiles, request(
        sandbox, {"path": "all/a", "text": "a"}, {"path": "all/b", "text": "b", "mode": 0o700},
        {"path": "all/there", "text": "new", "create_only": True}))
    assert shell(stub, sandbox, "ls -A all; cat all/there") == "there\nold"
    done = write(stub, sandbox, {"path": "all/a", "text": "a"},
                 {"path": "all/there", "text": "new", "if_sha256": sha256(b"old")},
                 {"path": "all/c\"d", "text": "", "create_only": True})
    assert [f.path for f in done.files] == [
        "/home/user/all/a", "/home/user/all/there", "/home/user/all/c\"d"]
    assert shell(stub, sandbox, "ls -A all; cat all/there") == "a\nc\"d\nthere\nnew"


def test_of_many_writers_one_wins(stub, other_stub, sandbox):
    write(stub, sandbox, {"path": "race", "text": "start"})

    def attempt(n):
        try:
            write([stub, other_stub][n % 2], sandbox,
                  {"path": "race", "text": str(n), "if_sha256": sha256(b"start")})
            return n
        except grpc.RpcError as error:
            assert error.code() == PRECONDITION
            return None

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        won = [n for n in pool.map(attempt, range(12)) if n is not None]
    assert len(won) == 1
    assert shell(stub, sandbox, "cat race; ls -A | grep -c sandboxd- || true") == "%d0\n" % won[0]


def test_a_link_is_replaced_not_followed(stub, sandbox):
    shell(stub, sandbox, "mkdir -p rl; echo target > rl/t; ln -sfn t rl/l; ln -sfn t rl/plain")
    (there,) = [r for r in stub.ReadFiles(api.ReadFilesRequest(
        sandbox_id=sandbox, paths=["rl/t"])).results]
    assert there.data == b"target\n"
    write(stub, sandbox, {"path": "rl/x", "text": "x", "create_only": True},
          {"path": "rl/l", "text": "instead"})
    assert shell(stub, sandbox, "cat rl/t rl/l; test -L rl/l || echo file") == (
        "target\ninsteadfile\n")


@pytest.mark.parametrize("file", [
    pytest.param({"path": "x", "create_only": True, "if_sha256": bytes(32)}, id="both"),
    pytest.param({"path": "x", "if_sha256": bytes(31)}, id="length"),
    pytest.param({"path": "x/", "create_only": True}, id="directory"),
])
def test_bad_preconditions_are_refused(stub, sandbox, fails, file):
    fails(INVALID, "INVALID_FIELD", stub.WriteFiles, request(sandbox, file))


# --- only_changed ---

def test_only_what_changed_is_written(stub, sandbox):
    tree = [{"path": "oc/%d" % n, "text": "content %d" % n} for n in range(50)]
    first = write(stub, sandbox, *tree, only_changed=True)
    assert not any(f.unchanged for f in first.files)
    shell(stub, sandbox, "touch -d @1500000000 oc/*; echo other > oc/7; rm oc/9; chmod 600 oc/11")
    tree[3]["text"] = "CONTENT 3"  # as long as before
    tree[11]["mode"] = 0o644
    tree[12]["mode"] = 0o644
    again = write(stub, sandbox, *tree, only_changed=True)
    assert [n for n, f in enumerate(again.files) if not f.unchanged] == [3, 7, 9, 11]
    assert [f.path for f in again.files] == ["/home/user/" + f["path"] for f in tree]
    times = shell(stub, sandbox, "cd oc; find . -newermt @1500000001 -type f | sort; cat 3 7 9")
    assert times == "./11\n./3\n./7\n./9\nCONTENT 3content 7content 9"
    assert all(f.unchanged for f in write(stub, sandbox, *tree, only_changed=True).files)


def test_only_changed_minds_preconditions(stub, sandbox, fails):
    write(stub, sandbox, {"path": "om/a", "text": "a"}, {"path": "om/b", "text": "b"})
    a = {"path": "om/a", "text": "a", "if_sha256": sha256(b"a")}
    b = {"path": "om/b", "text": "B"}
    done = write(stub, sandbox, a, b, only_changed=True)
    assert [f.unchanged for f in done.files] == [True, False]
    assert shell(stub, sandbox, "cat om/a om/b; ls -A om") == "aBa\nb\n"
    fails(PRECONDITION, "FILE_CHANGED", stub.WriteFiles, request(
        sandbox, {**a, "if_sha256": sha256(b"z")}, b, only_changed=True))


def test_a_thousand_files_are_compared_in_one_call(stub, sandbox):
    files = [{"path": "/tmp/%s/%d" % ("long-name" * 10, n), "text": "x%d" % n} for n in range(1000)]
    write(stub, sandbox, *files, only_changed=True)
    files[500]["text"] = "changed"
    again = write(stub, sandbox, *files, only_changed=True)
    assert [n for n, f in enumerate(again.files) if not f.unchanged] == [500]
