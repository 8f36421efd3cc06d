"""Directories as archives, up and down: what tar says, and what hostile ones try."""

import hashlib
import io
import os
import random
import tarfile
import uuid

import grpc
import pytest
from harness import api, follow

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
DENIED = grpc.StatusCode.PERMISSION_DENIED
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
EXISTS = grpc.StatusCode.ALREADY_EXISTS
OUT_OF_RANGE = grpc.StatusCode.OUT_OF_RANGE
DATA_LOSS = grpc.StatusCode.DATA_LOSS

TIME = 1_600_000_000
LONG = "/".join(["a-directory-with-a-rather-long-name-%02d" % n for n in range(20)])


def shell(stub, sandbox_id, line, **fields):
    got = follow.run(stub, sandbox_id, shell=line, **fields)
    assert got.exited.code == 0, got.err
    return got.out.decode()


def entry(name, content=b"", type=None, link="", mode=0o644, **fields):
    info = tarfile.TarInfo(name)
    info.type = type or (tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE)
    info.size, info.mode, info.mtime, info.linkname = len(content), mode, TIME, link
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def archive(*entries, format=tarfile.PAX_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def requests(sandbox_id, path, data, upload_id="tree", offset=0, user="", whole=None, **commit):
    """One stream; `whole` is the archive where data is but the rest of it."""
    yield api.UploadTreeRequest(start=api.UploadStart(
        sandbox_id=sandbox_id, path=path, upload_id=upload_id, offset=offset, user=user))
    for at in range(0, len(data), 1 << 18):
        yield api.UploadTreeRequest(data=data[at:at + (1 << 18)])
    whole = data if whole is None else whole
    yield api.UploadTreeRequest(commit=api.UploadTreeCommit(**{
        "size": len(whole), "sha256": hashlib.sha256(whole).digest(), **commit}))


def upload(stub, sandbox_id, path, data, **fields):
    done = stub.UploadTree(requests(sandbox_id, path, data, **fields), timeout=600)
    assert done.committed and done.received_size == len(fields.get("whole") or data)
    return done


def fetch(stub, sandbox_id, path, **fields):
    """Start, the archive, end."""
    first, data, end = None, [], None
    request = api.DownloadTreeRequest(sandbox_id=sandbox_id, path=path, **fields)
    for message in stub.DownloadTree(request, timeout=600):
        kind = message.WhichOneof("message")
        assert end is None and (first is None) == (kind == "start")
        if kind == "start":
            first = message.start
        elif kind == "data":
            data.append(message.data)
        else:
            end = message.end
    data = b"".join(data)
    assert end.sha256 in (b"", hashlib.sha256(data).digest())
    return first, data, end


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: m for m in tar.getmembers()}


# --- both ways ---

EVERYTHING = [
    entry("dir/", mode=0o750), entry("dir/empty/", mode=0o700), entry("dir/file", b"content"),
    entry("dir/run", b"#!/bin/sh\n", mode=0o755), entry("nothing"),
    entry("dir/link", type=tarfile.SYMTYPE, link="../nothing"),
    entry("dir/dangling", type=tarfile.SYMTYPE, link="not/there"),
    entry("größe/日本語 \n", "größe".encode()), entry("./dot/./file", b"dot"),
    entry(LONG + "/" + "n" * 200, b"long"), entry("locked/", mode=0o500),
    entry("locked/inside", b"in"), entry("big", os.urandom(700_001)),
]


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_goes_in_comes_out(stub, other_stub, new_sandbox, format):
    sandbox = new_sandbox()
    entries = EVERYTHING + [entry("dir/same", type=tarfile.LNKTYPE, link="dir/file")]
    done = upload(stub, sandbox, "tree", archive(*entries, format=format))
    assert (done.entry.path, done.entry.owner) == ("/home/user/tree", "user")
    assert (done.counts.files, done.counts.directories, done.counts.links) == (8, 3, 3)
    assert shell(stub, sandbox, "cd tree; stat -c '%U %a %Y %n' dir dir/empty dir/run locked") == (
        "user 750 %d dir\nuser 700 %d dir/empty\nuser 755 %d dir/run\nuser 500 %d locked\n"
        % (TIME, TIME, TIME, TIME))
    assert shell(stub, sandbox, "cd tree; readlink dir/link; cat dir/same; stat -c %h dir/same; "
                 "cat größe/*; ls -A ..") == "../nothing\ncontent2\ngrößetree\n"

    first, data, end = fetch(other_stub, sandbox, "tree")
    assert first.entry.path == "/home/user/tree"
    assert first.entry.type == api.FileEntry.TYPE_DIRECTORY
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [m.name for m in tar.getmembers()] == sorted(
            (m.name for m in tar.getmembers()), key=lambda n: n.encode().split(b"/"))
        for info, content in EVERYTHING:
            got = tar.getmember(os.path.normpath(info.name))
            assert (got.type, got.mode, got.linkname) == (
                info.type, 0o777 if got.issym() else info.mode, info.linkname)
            assert got.mtime == TIME
            if got.isreg():
                assert tar.extractfile(got).read() == content
    assert end.counts.files == 9 and end.counts.links == 2 and end.counts.skipped == 0
    assert len(end.sha256) == 32
    assert members(data)["dir/same"].isreg()  # a second name is packed as a file of its own


def test_gnu_tar_reads_and_writes(stub, sandbox, tmp_path):
    (tmp_path / "from" / LONG).mkdir(parents=True)
    (tmp_path / "from" / LONG / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "from" / "ümlaut").write_text("u")
    os.symlink("ümlaut", tmp_path / "from" / "link")
    (tmp_path / "to").mkdir()
    for format in "gnu", "pax", "ustar":
        data = os.popen("tar -C %s --format=%s -c ." % (tmp_path / "from", format)).buffer.read() \
            if format != "ustar" else archive(entry("file", b"u"), format=tarfile.USTAR_FORMAT)
        upload(stub, sandbox, "gnu", data, upload_id=format)
    (tmp_path / "out.tar").write_bytes(fetch(stub, sandbox, "gnu")[1])
    assert os.system("tar -C %s -xf %s" % (tmp_path / "to", tmp_path / "out.tar")) == 0
    assert os.readlink(tmp_path / "to" / "link") == "ümlaut"
    assert (tmp_path / "to" / LONG / "file").read_bytes() == b"x" * 100_000


def test_ten_thousand_small_files(stub, new_sandbox):
    sandbox = new_sandbox()
    entries = [entry("d%02d/f%05d" % (n % 50, n), b"%d" % n) for n in range(10_000)]
    done = upload(stub, sandbox, "many", archive(*entries))
    assert done.counts.files == 10_000
    assert shell(stub, sandbox, "find many -type f | wc -l; cat many/d49/f00049") == "10000\n49"
    data = fetch(stub, sandbox, "many")[1]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert sum(m.isreg() for m in tar.getmembers()) == 10_000
        assert tar.extractfile("d49/f00049").read() == b"49"


# --- uploads ---

def test_a_cut_upload_goes_on_and_is_done_once(stub, other_stub, sandbox, fails):
    data = archive(entry("cut/file", os.urandom(2_000_000)), entry("cut/last", b"last"))

    def part(offset, end):
        first = next(requests(sandbox, "cuts", b"", offset=offset))
        return other_stub.UploadTree(iter([first, api.UploadTreeRequest(data=data[offset:end])]))

    assert part(0, 700_000).received_size == 700_000
    found = fails(OUT_OF_RANGE, "UPLOAD_GAP", stub.UploadTree,
                  requests(sandbox, "cuts", b"", whole=data))
    assert found["ErrorInfo"].metadata["expected_offset"] == "700000"
    assert shell(stub, sandbox, "ls -d cuts || true") == ""
    part(700_000, 1_500_000)
    done = upload(stub, sandbox, "cuts", data[1_500_000:], offset=1_500_000, whole=data)
    assert done.counts.files == 2
    shell(stub, sandbox, "rm cuts/cut/last")
    again = upload(other_stub, sandbox, "cuts", b"", whole=data)
    assert again == done  # the answer is kept; nothing is done twice
    assert shell(stub, sandbox, "ls -A cuts/cut; ls -A | grep sandboxd || true") == "file\n"


def test_what_is_there_already(stub, sandbox, fails):
    shell(stub, sandbox, "mkdir -p there/dir; cd there; echo old > file; echo old > dir/other; "
          "ln -s /etc/passwd link")
    new = archive(entry("file", b"new"), entry("dir/", mode=0o700), entry("link", b"new"),
                  entry("fresh", b"new"))
    commit = api.UploadTreeCommit
    fails(EXISTS, "FILE_EXISTS", stub.UploadTree, requests(
        sandbox, "there", new, existing=commit.EXISTING_FAIL))
    assert shell(stub, sandbox, "ls there; cat there/file") == "dir\nfile\nlink\nold\n"
    done = upload(stub, sandbox, "there", new, existing=commit.EXISTING_KEEP, upload_id="keep")
    assert (done.counts.files, done.counts.others, done.counts.bytes) == (1, 3, 3)
    assert shell(stub, sandbox, "cd there; cat file fresh; readlink link") == "old\nnew/etc/passwd\n"
    done = upload(stub, sandbox, "there", new, upload_id="replace")
    assert (done.counts.files, done.counts.directories) == (3, 1)
    assert shell(stub, sandbox, "cd there; cat file fresh link dir/other; stat -c %a dir") == (
        "newnewnewold\n700\n")
    fails(EXISTS, "FILE_EXISTS", stub.UploadTree,
          requests(sandbox, "there", archive(entry("dir", b"a file now")), upload_id="dir"))


def test_links_in_the_directory_are_not_followed(stub, sandbox, fails):
    shell(stub, sandbox, "mkdir trap outside; ln -s ../outside trap/way; ln -s /etc/passwd trap/f")
    for name in "way/file", "way/":
        fails(PRECONDITION, "NOT_A_DIRECTORY", stub.UploadTree,
              requests(sandbox, "trap", archive(entry(name)), upload_id="t%d" % len(name)))
    # The link comes out of the archive itself; it leads inside, and is not followed either.
    fails(PRECONDITION, "NOT_A_DIRECTORY", stub.UploadTree, requests(
        sandbox, "trap", archive(entry("d/"), entry("l", type=tarfile.SYMTYPE, link="d"),
                                 entry("l/file")), upload_id="own"))
    fails(INVALID, "BAD_ARCHIVE", stub.UploadTree, requests(
        sandbox, "trap", archive(entry("h", type=tarfile.LNKTYPE, link="f")), upload_id="hard"))
    fails(INVALID, "BAD_ARCHIVE", stub.UploadTree, requests(
        sandbox, "trap", archive(entry("h", type=tarfile.LNKTYPE, link="way/x")), upload_id="ha"))
    assert shell(stub, sandbox, "ls -A outside; ls -A trap/d") == ""


HOSTILE = {
    "absolute": entry("/etc/cron.d/x", b"x"),
    "above": entry("../x", b"x"),
    "above later": entry("a/../../x", b"x"),
    "above a directory": entry("a/..", type=tarfile.DIRTYPE),
    "no name": entry(""),
    "absolute link": entry("l", type=tarfile.SYMTYPE, link="/etc"),
    "link above": entry("a/l", type=tarfile.SYMTYPE, link="../../x"),
    "link above by a way down": entry("a/l", type=tarfile.SYMTYPE, link="b/../x"),
    "hard link above": entry("h", type=tarfile.LNKTYPE, link="../x"),
    "absolute hard link": entry("h", type=tarfile.LNKTYPE, link="/etc/passwd"),
    "character device": entry("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": entry("b", type=tarfile.BLKTYPE, devmajor=8),
    "named pipe": entry("p", type=tarfile.FIFOTYPE),
    "sparse file": entry("s", b"x", pax_headers={"GNU.sparse.major": "1"}),
    "sparse file of old": entry("s", type=tarfile.GNUTYPE_SPARSE),
    "name too long": entry("n" * 256),
    "path too long": entry("/".join(["n" * 200] * 25)),
    "unknown kind": entry("u", type=b"Z"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_change_nothing(stub, sandbox, fails, what):
    data = archive(entry("good", b"good"), HOSTILE[what])
    fails(INVALID, "BAD_ARCHIVE", stub.UploadTree,
          requests(sandbox, "hostile/" + what, data, upload_id=what.replace(" ", "-")))
    assert shell(stub, sandbox, "ls -A 'hostile/%s'; ls -A hostile | grep sandboxd || true"
                 % what) == ""


def test_broken_archives_are_refused(stub, sandbox, fails):
    good = archive(entry("file", b"x" * 1000))
    flipped = bytearray(good)
    flipped[0] ^= 1
    for n, data in enumerate([b"", b"hello", os.urandom(10_240), good[:1000], good[:600],
                              good[:1536], bytes(flipped), bytes(1 << 20)[:511]]):
        fails(INVALID, "BAD_ARCHIVE", stub.UploadTree,
              requests(sandbox, "broken", data, upload_id="n%d" % n))
    assert shell(stub, sandbox, "ls -A broken") == ""


def test_what_could_do_harm_can_be_left_out(stub, sandbox):
    data = archive(entry("good", b"good", mode=0o6755), HOSTILE["absolute link"],
                   HOSTILE["named pipe"], entry("sticky/", mode=0o1777))
    done = upload(stub, sandbox, "skip", data, skip_unsafe=True)
    assert [s.path for s in done.skipped] == ["l", "p"]
    assert done.counts.skipped == 2 and all(s.reason for s in done.skipped)
    assert shell(stub, sandbox, "stat -c '%a %n' skip/*") == "755 skip/good\n777 skip/sticky\n"


def test_uploads_have_limits(stub, sandbox, fails):
    data = archive(entry("a", b"x" * 1000), entry("b", b"x" * 1000), entry("c/"))
    for n, limit in enumerate([{"max_bytes": 1999}, {"max_entries": 2}]):
        fails(PRECONDITION, "FILE_TOO_LARGE", stub.UploadTree,
              requests(sandbox, "limits", data, upload_id="l%d" % n, **limit))
    assert shell(stub, sandbox, "ls -A limits") == ""
    upload(stub, sandbox, "limits", data, max_bytes=2000, max_entries=3)
    upload(stub, sandbox, "limits", data, max_bytes=1000, max_entries=1, excludes=["b", "c"],
           upload_id="ex")
    # What an entry says it has must be there: a header alone takes no room.
    bomb = bytearray(archive(entry("bomb", b"x")))
    info = tarfile.TarInfo("bomb")
    info.size = 1 << 50
    bomb[:512] = info.tobuf(tarfile.GNU_FORMAT)
    fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL", stub.UploadTree,
          requests(sandbox, "limits", bytes(bomb), upload_id="bomb"))
    assert shell(stub, sandbox, "ls -A limits") == "a\nb\nc\n"


def test_the_user_s_rights_count(stub, sandbox, fails):
    data = archive(entry("file", b"x"))
    fails(DENIED, "PERMISSION_DENIED", stub.UploadTree, requests(sandbox, "/etc", data))
    made, of_root = "/opt/%s" % uuid.uuid4().hex, "/opt/%s" % uuid.uuid4().hex
    try:
        upload(stub, sandbox, made + "/dir", data)
        upload(stub, sandbox, of_root, data, user="root")
        assert shell(stub, sandbox, "stat -c %%U %s/dir/file %s/file; ls /etc/file || "
                     "true; ls -A / /opt | grep sandboxd || true" % (made, of_root)) == "user\nroot\n"
        fails(DENIED, "PERMISSION_DENIED", stub.UploadTree, requests(sandbox, of_root, data))
    finally:  # E2B's own envd shares this machine's
        for path in made, of_root:
            stub.RemoveFile(api.RemoveFileRequest(
                sandbox_id=sandbox, path=path, recursive=True, allow_missing=True, user="root"))


def test_bad_uploads_are_refused(stub, sandbox, fails):
    data = archive(entry("file"))

    def bad(**commit):
        return requests(sandbox, "bad", data, upload_id="bad", **commit)

    for stream in (bad(sha256=b"short"), bad(existing=9), bad(excludes=[""]),
                   bad(excludes=["x"] * 101), bad(excludes=["x" * 9000] * 2),
                   requests(sandbox, "", data), requests(sandbox, "bad", data, upload_id=""),
                   iter([]), iter([api.UploadTreeRequest()])):
        fails(INVALID, "INVALID_FIELD", stub.UploadTree, stream)
    fails(DATA_LOSS, "DIGEST_MISMATCH", stub.UploadTree, bad(sha256=bytes(32)))
    fails(INVALID, "USER_NOT_FOUND", stub.UploadTree,
          requests(sandbox, "bad", data, user="nobody-here"))
    shell(stub, sandbox, "touch a-file")
    fails(PRECONDITION, "NOT_A_DIRECTORY", stub.UploadTree, requests(sandbox, "a-file", data))


# --- downloads ---

def test_a_hostile_directory_is_packed_harmlessly(stub, new_sandbox, tmp_path):
    sandbox = new_sandbox()
    shell(stub, sandbox, r"""
        mkdir -p h/sub/deep 'h/back\slash' && cd h && ln -s / root && ln -s ../../.. sub/up &&
        ln -s sub/../../x sub/down && ln -s deep sub/in && ln -s .. sub/deep/top && mkfifo pipe &&
        printf x > "$(printf 'bad\377name')" && printf x > "$(printf 'a\nnewline')" &&
        ln -s "$(printf 'odd\377')" oddlink && cp /bin/true suid && chmod 6755 suid &&
        ln suid second
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' || true""")
    _, data, end = fetch(stub, sandbox, "h")
    found = members(data)
    left_out = {s.path for s in end.skipped}
    assert {"root", "sub/up", "sub/down", "pipe"} <= left_out and end.counts.skipped == len(left_out)
    assert found["sub/in"].linkname == "deep" and found["sub/deep/top"].linkname == ".."
    assert found["oddlink"].linkname == "odd\udcff" and "bad\udcffname" in found
    assert "a\nnewline" in found and "back\\slash" in found
    assert found["suid"].mode == found["second"].mode == 0o755
    for name, m in found.items():
        assert not name.startswith("/") and ".." not in name.split("/")
        assert m.isreg() or m.isdir() or m.issym()
    (tmp_path / "out.tar").write_bytes(data)
    (tmp_path / "out").mkdir()
    assert os.system("tar -C %s -xf %s" % (tmp_path / "out", tmp_path / "out.tar")) == 0


def test_excluded_and_limited(stub, new_sandbox, fails):
    sandbox = new_sandbox()
    shell(stub, sandbox, "mkdir -p x/node_modules/a x/src/node_modules x/build && cd x && "
          "touch node_modules/a/b src/main.c src/main.o build/x.o .sandboxd-upload-z-0-1 && "
          "printf 12345 > five && printf 123456 > six")
    names = set(members(fetch(stub, sandbox, "x", excludes=["node_modules", "src/*.o"])[1]))
    assert names == {"src", "src/main.c", "build", "build/x.o", "five", "six"}
    names = set(members(fetch(stub, sandbox, "x", excludes=["/build/", "*.?", "node_*"])[1]))
    assert names == {"src", "five", "six"}
    request = api.DownloadTreeRequest(sandbox_id=sandbox, path="x", max_bytes=10)
    fails(PRECONDITION, "FILE_TOO_LARGE", stub.DownloadTree, request)
    request = api.DownloadTreeRequest(sandbox_id=sandbox, path="x", max_entries=4)
    fails(PRECONDITION, "FILE_TOO_LARGE", stub.DownloadTree, request)
    assert fetch(stub, sandbox, "x", max_bytes=11, max_entries=11)[2].counts.bytes == 11


def test_a_cut_download_goes_on_by_cursor(stub, other_stub, new_sandbox):
    sandbox = new_sandbox()
    shell(stub, sandbox, "mkdir -p cut/d && cd cut && for n in 1 2 3; do head -c 400000 /dev/urandom"
          " > d/$n; done; mkdir -p a/b; ln -s d/1 z; touch a/b/c a.b")
    whole = fetch(stub, sandbox, "cut")[1]
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    data, cursor, stubs, cuts, end = b"", b"", [stub, other_stub], 0, None
    while end is None:
        call = stubs[cuts % 2].DownloadTree(api.DownloadTreeRequest(
            sandbox_id=sandbox, path="cut", cursor=cursor), timeout=600)
        for message in call:
            kind = message.WhichOneof("message")
            if kind == "data" and message.data:
                data, cursor = data + message.data, message.cursor
                if chance.random() < 0.5:
                    cuts += 1
                    call.cancel()
                    break
            elif kind == "end":
                end = message.end
    assert data == whole, seed
    assert end.counts == fetch(stub, sandbox, "cut")[2].counts and (end.sha256 == b"") == (cuts > 0)


def test_a_file_that_changed_is_not_gone_on_with(stub, sandbox, fails):
    shell(stub, sandbox, "mkdir -p change; head -c 5000000 /dev/zero > change/file")
    call = stub.DownloadTree(api.DownloadTreeRequest(sandbox_id=sandbox, path="change"))
    cursor = next(m.cursor for m in call if m.data)
    call.cancel()
    shell(stub, sandbox, "echo >> change/file")
    fails(PRECONDITION, "FILE_CHANGED", stub.DownloadTree, api.DownloadTreeRequest(
        sandbox_id=sandbox, path="change", cursor=cursor))
    shell(stub, sandbox, "rm change/file")
    fails(PRECONDITION, "FILE_CHANGED", stub.DownloadTree, api.DownloadTreeRequest(
        sandbox_id=sandbox, path="change", cursor=cursor))


def test_a_tree_that_changes_meanwhile(stub, sandbox):
    shell(stub, sandbox, "mkdir -p live; head -c 40000000 /dev/zero > live/grows; "
          "head -c 40000000 /dev/zero > live/shrinks")
    call = stub.DownloadTree(api.DownloadTreeRequest(sandbox_id=sandbox, path="live"))
    next(call)
    shell(stub, sandbox, "echo more >> live/grows; truncate -s 100 live/shrinks")
    grown = [m for m in call][-1].end.counts
    assert (grown.others, grown.files, grown.bytes) == (1, 2, 40_000_100)

    shell(stub, sandbox, "rm live/grows; head -c 40000000 /dev/zero > live/shrinks")
    call = stub.DownloadTree(api.DownloadTreeRequest(sandbox_id=sandbox, path="live"))
    next(m for m in call if m.data)
    shell(stub, sandbox, "truncate -s 100 live/shrinks")
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            pass
    api.check_error(caught.value, PRECONDITION, "FILE_CHANGED")


def test_bad_downloads_are_refused(stub, sandbox, fails):
    shell(stub, sandbox, "touch a-file")
    for code, reason, fields in [
            (NOT_FOUND, "FILE_NOT_FOUND", {"path": "no/such"}),
            (PRECONDITION, "NOT_A_DIRECTORY", {"path": "a-file"}),
            (INVALID, "INVALID_FIELD", {"path": ""}),
            (INVALID, "INVALID_FIELD", {"path": "/tmp", "cursor": b"\xff"}),
            (INVALID, "INVALID_FIELD", {"path": "/tmp", "cursor": b"x" * 9000}),
            (INVALID, "INVALID_FIELD", {"path": "/tmp", "cursor": b"\x0a\x05../..\x12\x01v"}),
            (INVALID, "INVALID_FIELD", {"path": "/tmp", "excludes": [""]}),
            (INVALID, "USER_NOT_FOUND", {"path": "/tmp", "user": "nobody-here"}),
            (NOT_FOUND, "SANDBOX_NOT_FOUND", {"path": "x", "sandbox_id": "i0123456789abcdefghij"})]:
        fails(code, reason, stub.DownloadTree,
              api.DownloadTreeRequest(**{"sandbox_id": sandbox, **fields}))


def test_an_empty_directory(stub, sandbox):
    shell(stub, sandbox, "mkdir -p void")
    first, data, end = fetch(stub, sandbox, "void")
    assert first.entry.name == "void" and members(data) == {} and len(data) == 1024
    assert end.counts == api.TreeCounts()
