"""Files, directories and links of a sandbox: told about, listed, made, moved, removed."""

import grpc
import pytest
from harness import api, follow

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS
DENIED = grpc.StatusCode.PERMISSION_DENIED

FILE, DIRECTORY, SYMLINK, OTHER = 1, 2, 3, 4


def shell(stub, sandbox_id, line, **fields):
    got = follow.run(stub, sandbox_id, shell=line, **fields)
    assert got.exited.code == 0, got.err
    return got.out.decode()


class Files:
    """The calls, by short names, for one sandbox."""

    def __init__(self, stub, sandbox_id, fails):
        self.stub, self.sandbox_id, self.fails = stub, sandbox_id, fails

    def call(self, method, **fields):
        request = getattr(api, method + "Request")(sandbox_id=self.sandbox_id, **fields)
        return getattr(self.stub, method)(request, timeout=60)

    def refused(self, code, reason, method, **fields):
        request = getattr(api, method + "Request")(sandbox_id=self.sandbox_id, **fields)
        return self.fails(code, reason, getattr(self.stub, method), request)

    def shell(self, line, **fields):
        return shell(self.stub, self.sandbox_id, line, **fields)

    def stat(self, path, **fields):
        return self.call("StatFile", path=path, **fields).entry

    def pages(self, path, **fields):
        """All entries, and how many pages they took."""
        entries, token, n = [], "", 0
        while True:
            page = self.call("ListDirectory", path=path, page_token=token, **fields)
            entries += page.entries
            n += 1
            token = page.next_page_token
            if not token:
                return entries, n
            assert page.entries


@pytest.fixture
def files(stub, sandbox, fails):
    return Files(stub, sandbox, fails)


# --- StatFile ---

def test_a_file_is_described(files):
    files.shell("mkdir -p st; printf hello > st/f; chmod 4750 st/f; touch -d @1700000000.5 st/f")
    entry = files.stat("st/f", with_sha256=True)
    assert (entry.name, entry.path, entry.type, entry.size, entry.mode) == (
        "f", "/home/user/st/f", FILE, 5, 0o4750)
    assert (entry.owner, entry.group) == ("user", "user")
    assert (entry.modify_time.seconds, entry.modify_time.nanos) == (1_700_000_000, 500_000_000)
    assert entry.symlink_target == "" and entry.target_type == 0
    digest = files.shell("sha256sum st/f").split()[0]
    assert entry.sha256.hex() == digest
    assert files.stat("~/st/f").path == "/home/user/st/f"
    assert files.stat("st/f").sha256 == b""


def test_types_and_links(files):
    files.shell("mkdir -p ty/d; cd ty; touch f; ln -sfn f l; ln -sfn d ld; ln -sfn nowhere broken; "
                "test -p p || mkfifo p")
    kinds = {name: files.stat("ty/" + name) for name in ("d", "f", "l", "ld", "broken", "p")}
    assert [kinds[n].type for n in kinds] == [DIRECTORY, FILE, SYMLINK, SYMLINK, SYMLINK, OTHER]
    assert kinds["l"].symlink_target == "f" and kinds["l"].target_type == FILE
    assert kinds["ld"].target_type == DIRECTORY and kinds["broken"].target_type == 0
    followed = files.stat("ty/l", follow_links=True)
    assert followed.type == FILE and followed.name == "l" and followed.symlink_target == ""
    files.refused(NOT_FOUND, "FILE_NOT_FOUND", "StatFile", path="ty/broken", follow_links=True)


def test_stat_says_what_is_wrong(files):
    files.refused(NOT_FOUND, "FILE_NOT_FOUND", "StatFile", path="/no/such")
    files.refused(PRECONDITION, "NOT_A_DIRECTORY", "StatFile", path="/etc/hostname/x")
    files.refused(PRECONDITION, "NOT_A_FILE", "StatFile", path="/tmp", with_sha256=True)
    files.refused(INVALID, "USER_NOT_FOUND", "StatFile", path="x", user="nobody-here")
    for path in "", "a\0b", "~root/x", "/" + 300 * "x", 4097 * "y":
        files.refused(INVALID, "INVALID_FIELD", "StatFile", path=path)


def test_the_user_says_whose_home(files):
    assert files.stat("~").path == "/home/user"
    root = files.stat("~", user="root")
    assert (root.path, root.owner) == ("/root", "root")


# --- ListDirectory ---

def test_a_directory_is_listed_by_names(files):
    files.shell("mkdir -p ls/b/deep ls/a; cd ls; touch b/y b/deep/z .hidden c 'ü n'; ln -sfn b link")
    entries, _ = files.pages("ls")
    assert [(e.name, e.type) for e in entries] == [
        (".hidden", FILE), ("a", DIRECTORY), ("b", DIRECTORY), ("c", FILE), ("link", SYMLINK),
        ("ü n", FILE)]
    assert entries[2].path == "/home/user/ls/b"
    two, _ = files.pages("ls", depth=2)
    assert [e.path.removeprefix("/home/user/ls/") for e in two] == [
        ".hidden", "a", "b", "b/deep", "b/y", "c", "link", "ü n"]
    assert "b/deep/z" in [e.path.removeprefix("/home/user/ls/") for e in
                          files.pages("ls", depth=64)[0]]
    # The top is followed where it is a link, and shown as asked.
    assert [e.path for e in files.pages("ls/link")[0]] == [
        "/home/user/ls/link/deep", "/home/user/ls/link/y"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pages_hold_everything_once_on_every_pod(files, other_stub, size):
    files.shell("mkdir -p pg/d1/e pg/d2; cd pg; for i in 1 2 3 4 5 6; do touch d1/$i d2/$i $i; done;"
                " touch d1/e/x")
    whole = [e.path for e in files.pages("pg", depth=3)[0]]
    assert len(whole) == 22
    stubs, token, got = [files.stub, other_stub], "", []
    for n in range(len(whole) + 1):
        page = stubs[n % 2].ListDirectory(api.ListDirectoryRequest(
            sandbox_id=files.sandbox_id, path="pg", depth=3, page_size=size, page_token=token))
        assert len(page.entries) <= size
        got += [e.path for e in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert got == whole


def test_pages_bear_changes_in_between(files):
    files.shell("rm -rf ch; mkdir ch; cd ch; for i in a b c d e f; do mkdir $i; touch $i/x; done")
    first = files.call("ListDirectory", path="ch", depth=2, page_size=5)
    assert [e.path[14:] for e in first.entries] == ["a", "a/x", "b", "b/x", "c"]
    files.shell("cd ch; rm -r a c; mkdir aa; touch b/y")
    rest = files.call("ListDirectory", path="ch", depth=2, page_token=first.next_page_token)
    assert [e.path[14:] for e in rest.entries] == ["d", "d/x", "e", "e/x", "f", "f/x"]


def test_a_large_directory_comes_in_pages_that_fit(files):
    files.shell("mkdir -p big; cd big; seq -f 'a-name-of-some-length-%.0f' 30000 | xargs touch")
    entries, n = files.pages("big", page_size=10000)
    assert len({e.name for e in entries}) == 30000 and n >= 3
    assert [e.name for e in entries] == sorted(e.name for e in entries)


def test_lists_say_what_is_wrong(files):
    files.refused(NOT_FOUND, "FILE_NOT_FOUND", "ListDirectory", path="/no/such")
    files.refused(PRECONDITION, "NOT_A_DIRECTORY", "ListDirectory", path="/etc/hostname")
    files.refused(INVALID, "INVALID_FIELD", "ListDirectory", path="/tmp", page_token="!")
    files.refused(INVALID, "INVALID_FIELD", "ListDirectory", path="/tmp", page_size=10001)
    files.refused(INVALID, "INVALID_FIELD", "ListDirectory", path="/tmp", page_size=-1)
    files.refused(INVALID, "INVALID_FIELD", "ListDirectory", path="/tmp", depth=65)


def test_names_that_are_no_text_are_listed(files):
    files.shell("mkdir -p odd; touch \"odd/$(printf 'a\\377b')\"")
    assert [e.name for e in files.pages("odd")[0]] == ["a\ufffdb"]


# --- MakeDirectory ---

def test_directories_are_made(files):
    made = files.call("MakeDirectory", path="mk/one/two", parents=True, mode=0o2750)
    assert made.created and made.entry.path == "/home/user/mk/one/two"
    assert files.shell("stat -c '%U %a' mk mk/one mk/one/two") == "user 755\nuser 755\nuser 2750\n"
    again = files.call("MakeDirectory", path="mk/one/two", allow_existing=True, mode=0o700)
    assert not again.created and again.entry.mode == 0o2750
    files.refused(EXISTS, "FILE_EXISTS", "MakeDirectory", path="mk/one/two", parents=True)
    files.refused(NOT_FOUND, "FILE_NOT_FOUND", "MakeDirectory", path="mk/no/two")
    files.shell("touch mk/file")
    files.refused(EXISTS, "FILE_EXISTS", "MakeDirectory", path="mk/file", allow_existing=True)
    files.refused(PRECONDITION, "NOT_A_DIRECTORY", "MakeDirectory", path="mk/file/x", parents=True)
    files.refused(INVALID, "INVALID_FIELD", "MakeDirectory", path="mk/x", mode=0o10000)
    assert files.call("MakeDirectory", path="~/made", user="root").entry.path == "/root/made"


# --- MoveFile ---

def test_files_and_directories_are_moved(files):
    files.shell("rm -rf mv; mkdir -p mv/d; cd mv; echo 1 > a; echo 2 > b; echo 3 > d/x; ln -s a l")
    entry = files.call("MoveFile", source="mv/a", destination="mv/new/deep/a", parents=True).entry
    assert (entry.path, entry.size, entry.owner) == ("/home/user/mv/new/deep/a", 2, "user")
    files.refused(EXISTS, "FILE_EXISTS", "MoveFile", source="mv/b", destination="mv/new/deep/a")
    assert files.shell("cat mv/b mv/new/deep/a") == "2\n1\n"
    files.call("MoveFile", source="mv/b", destination="mv/new/deep/a", overwrite=True)
    assert files.shell("cat mv/new/deep/a; ls mv") == "2\nd\nl\nnew\n"
    assert files.call("MoveFile", source="mv/l", destination="mv/l2").entry.type == SYMLINK
    assert files.call("MoveFile", source="mv/d", destination="mv/e").entry.type == DIRECTORY
    assert files.shell("cat mv/e/x") == "3\n"


def test_moves_say_what_is_wrong(files):
    files.shell("mkdir -p mw/d/in mw/full; cd mw; touch f full/x")
    for code, reason, source, destination in [
            (NOT_FOUND, "FILE_NOT_FOUND", "mw/none", "mw/x"),
            (NOT_FOUND, "FILE_NOT_FOUND", "mw/f", "mw/no/x"),
            (INVALID, "INVALID_FIELD", "mw/d", "mw/d/in/d"),
            (PRECONDITION, "DIRECTORY_NOT_EMPTY", "mw/d", "mw/full"),
            (PRECONDITION, "NOT_A_FILE", "mw/f", "mw/d"),
            (PRECONDITION, "NOT_A_DIRECTORY", "mw/d", "mw/f"),
            (INVALID, "INVALID_FIELD", "mw/f", "")]:
        files.refused(code, reason, "MoveFile", source=source, destination=destination,
                      overwrite=True)


def test_a_file_is_moved_to_another_filesystem(files):
    files.shell("echo far > far; chmod 640 far; touch -d @1600000000 far; mkdir -p fardir")
    here, *there = (line.split() for line in files.shell(
        "stat -c '%d %n' /home/user /opt /dev/shm").splitlines())
    other = [name for device, name in there if device != here[0]]
    assert other, "this template has but one filesystem"
    far = other[0] + "/far"
    entry = files.call("MoveFile", source="far", destination=far).entry
    assert (entry.mode, entry.owner, entry.modify_time.seconds) == (0o640, "user", 1_600_000_000)
    assert files.shell("cat %s; ls -A %s | grep -c sandboxd; test -e far || echo gone; true" % (
        far, other[0]), user="root") == "far\n0\ngone\n"
    files.shell("echo again > far2")
    files.refused(EXISTS, "FILE_EXISTS", "MoveFile", source="far2", destination=far)
    files.call("MoveFile", source="far2", destination=far, overwrite=True)
    assert files.shell("cat " + far) == "again\n"
    files.refused(grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED", "MoveFile", source="fardir",
                  destination=other[0] + "/fardir")
    files.call("RemoveFile", path=far)


# --- RemoveFile ---

def test_removal_of_more_than_one_must_be_said(files):
    files.shell("rm -rf rm keep; mkdir -p rm/d/e rm/empty keep; touch rm/f rm/d/x rm/d/e/y keep/k; "
                "ln -s /home/user/keep rm/d/link; ln -s rm/none dangling")
    assert files.call("RemoveFile", path="rm/f").removed_count == 1
    assert files.call("RemoveFile", path="rm/empty").removed_count == 1
    assert files.call("RemoveFile", path="dangling").removed_count == 1
    files.refused(PRECONDITION, "DIRECTORY_NOT_EMPTY", "RemoveFile", path="rm/d")
    assert files.call("RemoveFile", path="rm/d", recursive=True).removed_count == 5
    assert files.shell("ls -A rm keep") == "keep:\nk\n\nrm:\n"


def test_what_is_missing_is_an_error_unless_allowed(files):
    files.refused(NOT_FOUND, "FILE_NOT_FOUND", "RemoveFile", path="none")
    assert files.call("RemoveFile", path="none", allow_missing=True).removed_count == 0
    for path in "/", "/tmp/..", "//":
        files.refused(INVALID, "INVALID_FIELD", "RemoveFile", path=path, recursive=True)
    files.refused(DENIED, "PERMISSION_DENIED", "RemoveFile", path="/proc/version")


def test_a_deep_tree_is_removed(files):
    files.shell("mkdir -p " + "dp/" + "/".join(["d"] * 200))
    assert files.call("RemoveFile", path="dp", recursive=True).removed_count == 201


# --- ReadFiles ---

def test_several_files_are_read_with_their_errors(files):
    files.shell("mkdir -p rd; printf one > rd/1; printf '\\377' > rd/2; : > rd/3; ln -sfn 1 rd/l")
    got = files.call("ReadFiles", paths=["rd/1", "rd/none", "rd/2", "/tmp", "rd/3", "rd/l",
                                         "/proc/self/comm", "~x/y"])
    assert [r.path for r in got.results][:2] == ["rd/1", "rd/none"]
    assert [(r.WhichOneof("result"), r.data) for r in got.results if not r.HasField("error")] == [
        ("data", b"one"), ("data", b"\xff"), ("data", b""), ("data", b"one"),
        ("data", got.results[6].data)]
    assert got.results[6].data.startswith(b"recorder") and got.results[6].size > 0
    errors = {r.path: r.error.reason for r in got.results if r.HasField("error")}
    assert errors == {"rd/none": api.ERROR_REASON_FILE_NOT_FOUND,
                      "/tmp": api.ERROR_REASON_NOT_A_FILE,
                      "~x/y": api.ERROR_REASON_INVALID_FIELD}
    text = files.call("ReadFiles", paths=["rd/1", "rd/2"], encoding=api.ENCODING_TEXT)
    assert [r.text for r in text.results] == ["one", "\ufffd"]


def test_files_beyond_a_message_are_said(files):
    files.shell("mkdir -p rb; for i in 1 2 3 4; do head -c 1500000 /dev/zero | tr '\\0' a > rb/$i; done; "
                "echo small > rb/5")
    got = files.call("ReadFiles", paths=["rb/%d" % n for n in range(1, 6)])
    assert [r.WhichOneof("result") for r in got.results] == ["data", "data", "error", "error",
                                                             "data"]
    late = got.results[2]
    assert late.error.reason == api.ERROR_REASON_FILE_TOO_LARGE and late.size == 1_500_000
    assert len(files.call("ReadFiles", paths=["rb/3"]).results[0].data) == 1_500_000
    # As text every one of these bytes becomes three.
    text = files.call("ReadFiles", paths=["rb/1", "rb/5"], encoding=api.ENCODING_TEXT)
    assert [r.WhichOneof("result") for r in text.results] == ["text", "text"]
    files.shell("tr a '\\377' < rb/1 > rb/6")
    text = files.call("ReadFiles", paths=["rb/6", "rb/5"], encoding=api.ENCODING_TEXT)
    assert [r.WhichOneof("result") for r in text.results] == ["error", "text"]


def test_a_thousand_files_are_one_call(files):
    files.shell("mkdir -p rt; cd rt; for i in $(seq 1000); do echo $i > a-rather-long-name-$i; done")
    got = files.call("ReadFiles", paths=["rt/a-rather-long-name-%d" % n for n in range(1, 1001)])
    assert [int(r.data) for r in got.results] == list(range(1, 1001))
    missing = files.call("ReadFiles", paths=["/tmp/" + "x" * 200 + str(n) for n in range(1000)])
    assert {r.error.reason for r in missing.results} == {api.ERROR_REASON_FILE_NOT_FOUND}
    for paths in [], ["x"] * 1001, ["y" * 4000] * 70, [""]:
        files.refused(INVALID, "INVALID_FIELD", "ReadFiles", paths=paths)
