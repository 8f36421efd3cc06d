"""Files of a sandbox: GET and POST /files, and filesystem.Filesystem, over the wire."""

import base64
import gzip
import hashlib
import http.client
import json
import os
import time
import urllib.parse

import pytest
from tiers import local  # noqa: F401, the fixture
from wire import Api


@pytest.fixture(scope="module")
def sandbox(local):
    made = Api(local.address).create(timeout=600)
    yield made
    made.delete()


def query(**parameters):
    return "/files?" + urllib.parse.urlencode(parameters)


def put(sandbox, path, data, **headers):
    return sandbox.request(
        "POST", query(path=path), data,
        headers={"Content-Type": "application/octet-stream",
                 **{k.replace("_", "-"): v for k, v in headers.items()}})


def get(sandbox, path, **headers):
    return sandbox.request("GET", query(path=path),
                           headers={k.replace("_", "-"): v for k, v in headers.items()})


def rpc(sandbox, method, **message):
    answer = sandbox.request("POST", "/filesystem.Filesystem/" + method, json.dumps(message),
                             headers={"Content-Type": "application/json"})
    return answer.status, answer.json


def form(parts, boundary="b0undary"):
    body = b""
    for name, filename, data in parts:
        body += ('--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n\r\n'
                 % (boundary, name, filename)).encode() + data + b"\r\n"
    return body + ("--%s--\r\n" % boundary).encode(), "multipart/form-data; boundary=" + boundary


def test_a_raw_upload_and_back(sandbox):
    data = os.urandom(3_000_000)
    answer = put(sandbox, "raw/deep/file.bin", data)
    assert answer.status == 200
    assert answer.json == [{"path": "/home/user/raw/deep/file.bin", "name": "file.bin",
                            "type": "file"}]
    answer = get(sandbox, "raw/deep/file.bin")
    assert answer.status == 200 and answer.body == data
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "inline; filename=file.bin"
    assert answer.headers["Accept-Ranges"] == "bytes"
    entry = rpc(sandbox, "Stat", path="raw/deep")[1]["entry"]
    assert (entry["owner"], entry["permissions"]) == ("user", "drwxr-xr-x")
    entry = rpc(sandbox, "Stat", path="/home/user/raw/deep/file.bin")[1]["entry"]
    assert (entry["owner"], entry["group"], entry["permissions"], entry["size"], entry["mode"]) == \
        ("user", "user", "-rw-r--r--", "3000000", 0o644)


def test_writing_again_replaces(sandbox):
    put(sandbox, "again", b"long content")
    put(sandbox, "again", b"short")
    assert get(sandbox, "again").body == b"short"
    put(sandbox, "again", b"")
    answer = get(sandbox, "again")
    assert (answer.body, answer.headers["Content-Length"]) == (b"", "0")


def test_a_form_of_several_files(sandbox):
    body, content_type = form([("file", "form/a.txt", b"A"), ("other", "x", b"ignored"),
                               ("file", "/tmp/b c.txt", b"\r\n--b0undar\r\n" * 10000)])
    answer = sandbox.request("POST", "/files", body, headers={"Content-Type": content_type})
    assert answer.status == 200
    assert [f["path"] for f in answer.json] == ["/home/user/form/a.txt", "/tmp/b c.txt"]
    assert get(sandbox, "form/a.txt").body == b"A"
    assert get(sandbox, "/tmp/b c.txt").body == b"\r\n--b0undar\r\n" * 10000
    assert not rpc(sandbox, "Stat", path="x")[0] == 200


def test_the_path_of_the_query_wins(sandbox):
    body, content_type = form([("file", "ignored.txt", b"content")])
    answer = sandbox.request("POST", query(path="wins.txt"), body,
                             headers={"Content-Type": content_type})
    assert answer.json[0]["path"] == "/home/user/wins.txt"
    body, content_type = form([("file", "1", b"1"), ("file", "2", b"2")])
    answer = sandbox.request("POST", query(path="wins.txt"), body,
                             headers={"Content-Type": content_type})
    assert answer.status == 400 and "same path" in answer.json["message"]
    assert get(sandbox, "wins.txt").body == b"1"


def test_a_chunked_body(sandbox):
    def pieces():
        for i in range(100):
            yield b"%06d" % i * 100

    connection = http.client.HTTPConnection(sandbox.api.address, timeout=30)
    connection.request("POST", query(path="chunked"), pieces(),
                       {**sandbox.headers(), "Content-Type": "application/octet-stream"},
                       encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    assert get(sandbox, "chunked").body == b"".join(pieces())


def test_a_compressed_body(sandbox):
    data = b"again and again " * 100000
    assert put(sandbox, "gz", gzip.compress(data), Content_Encoding="gzip").status == 200
    assert get(sandbox, "gz").body == data
    body, content_type = form([("file", "gz2", data)])
    answer = sandbox.request("POST", "/files", gzip.compress(body),
                             headers={"Content-Type": content_type, "Content-Encoding": "gzip"})
    assert answer.status == 200 and get(sandbox, "gz2").body == data
    assert put(sandbox, "gz", gzip.compress(data)[:-3], Content_Encoding="gzip").status == 500
    assert put(sandbox, "gz", b"plain", Content_Encoding="gzip").status == 400
    assert put(sandbox, "gz", b"x", Content_Encoding="br").status == 400


@pytest.mark.parametrize("header,status,content_range,body", [
    ("bytes=0-3", 206, "bytes 0-3/10", b"0123"), ("bytes=7-", 206, "bytes 7-9/10", b"789"),
    ("bytes=-2", 206, "bytes 8-9/10", b"89"), ("bytes=5-100", 206, "bytes 5-9/10", b"56789"),
    ("bytes=10-", 416, "bytes */10", b""), ("bytes=1-2,4-5", 200, None, b"0123456789"),
    ("nonsense", 200, None, b"0123456789")])
def test_ranges(sandbox, header, status, content_range, body):
    put(sandbox, "ranges", b"0123456789")
    answer = get(sandbox, "ranges", Range=header)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers.get("Content-Range") == content_range


def test_unchanged_since(sandbox):
    put(sandbox, "dated", b"x")
    modified = get(sandbox, "dated").headers["Last-Modified"]
    assert get(sandbox, "dated", If_Modified_Since=modified).status == 304
    assert get(sandbox, "dated",
               If_Modified_Since="Thu, 01 Jan 1970 00:00:00 GMT").status == 200


def test_types_are_guessed(sandbox):
    for name, data, wanted in (("t.json", b"{}", "application/json"), ("t.html", b"", "text/html"),
                               ("text", "é".encode() * 400, "text/plain"),
                               ("bin", b"\0\1", "application/octet-stream")):
        put(sandbox, name, data)
        assert get(sandbox, name).headers["Content-Type"].startswith(wanted)


def test_files_of_proc_are_read_whole(sandbox):
    assert b"processor" in get(sandbox, "/proc/cpuinfo").body


def test_reading_what_is_not_there(sandbox):
    for path, status in (("nope", 404), ("nope/deeper", 404), ("/tmp", 400), ("/dev/null", 400),
                         ("~other", 400)):
        answer = get(sandbox, path)
        assert (answer.status, answer.json["code"]) == (status, status), path
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_bad_uploads(sandbox):
    def post(path, body, content_type):
        return sandbox.request("POST", path, body, headers={"Content-Type": content_type})

    assert post("/files", b"x", "application/octet-stream").status == 400  # no path
    assert post(query(path="a"), b"x", "text/plain").status == 400
    assert post("/files", b"x", "multipart/form-data").status == 500
    assert post("/files", b"x", "multipart/form-data; boundary=b").status == 500
    assert post("/files", b"--b\r\n\r\nno end", "multipart/form-data; boundary=b").status == 500
    assert post(query(path="/tmp"), b"x", "application/octet-stream").status == 400
    assert post(query(path="a\0b"), b"x", "application/octet-stream").status == 400
    put(sandbox, "a-file", b"x")
    assert put(sandbox, "a-file/below", b"x").status == 500
    assert put(sandbox, "x" * 5000, b"x").status == 400
    assert put(sandbox, "no-such-user", b"x").status == 200
    answer = sandbox.request("POST", query(path="a", username="nobody-here"), b"x",
                             headers={"Content-Type": "application/octet-stream"})
    assert answer.status == 401


def test_a_full_disk(local):
    sandbox = Api(local.address).create(timeout=600)
    try:
        size = int(sandbox.run("df --output=avail -B1 / | tail -n 1")[1])
        sandbox.run("fallocate -l %d /tmp/filler" % (size - 1_000_000))
        answer = put(sandbox, "too-large", b"x" * 2_000_000)
        assert (answer.status, answer.json["code"]) == (507, 507)
        sandbox.run("rm /tmp/filler")
        assert put(sandbox, "fits", b"x" * 2_000_000).status == 200
    finally:
        sandbox.delete()


def test_metadata(sandbox):
    answer = put(sandbox, "meta", b"x", X_Metadata_Author="me", X_Metadata_Kind="a b")
    assert answer.json[0]["metadata"] == {"author": "me", "kind": "a b"}
    told = rpc(sandbox, "Stat", path="meta")[1]["entry"].get("metadata")
    if told is None:
        pytest.skip("the file system here has no attributes: it is to be skipped silently")
    assert told == {"author": "me", "kind": "a b"}
    put(sandbox, "meta", b"x", X_Metadata_Other="1")
    assert rpc(sandbox, "Stat", path="meta")[1]["entry"]["metadata"] == {"other": "1"}
    put(sandbox, "meta", b"x")
    assert "metadata" not in rpc(sandbox, "Stat", path="meta")[1]["entry"]
    assert put(sandbox, "meta", b"x", X_Metadata_A="v" * 5000).status == 400


def sign(path, operation, user, token, expiration=None):
    parts = [path, operation, user, token] + ([str(expiration)] if expiration else [])
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    return "v1_" + base64.b64encode(digest).decode().rstrip("=")


def test_signed_urls(sandbox):
    put(sandbox, "signed.txt", b"content")
    routing = {k: v for k, v in sandbox.headers().items() if k != "X-Access-Token"}

    def fetch(method="GET", path="signed.txt", body=None, **parameters):
        headers = {**routing, "Content-Type": "application/octet-stream"}
        return sandbox.api.request(method, query(path=path, **parameters), body, headers)

    answer = fetch()
    assert (answer.status, answer.json["code"]) == (401, 401)
    good = sign("signed.txt", "read", "", sandbox.token)
    assert fetch(signature=good).body == b"content"
    assert fetch(signature=good, username="user").status == 401  # it is part of what is signed
    answer = fetch(signature="v1_forged")
    assert (answer.status, answer.json["message"]) == (401, "invalid signature")
    assert fetch("POST", body=b"x", signature=good).status == 401
    assert fetch("POST", body=b"new", signature=sign("signed.txt", "write", "", sandbox.token)) \
        .status == 200
    later, before = int(time.time()) + 60, int(time.time()) - 60
    assert fetch(signature=sign("signed.txt", "read", "", sandbox.token, later),
                 signature_expiration=later).body == b"new"
    answer = fetch(signature=sign("signed.txt", "read", "", sandbox.token, before),
                   signature_expiration=before)
    assert (answer.status, answer.json["message"]) == (401, "signature is already expired")


def test_directories(sandbox):
    assert rpc(sandbox, "MakeDir", path="d/e/f")[1]["entry"]["path"] == "/home/user/d/e/f"
    assert rpc(sandbox, "MakeDir", path="d/e")[1]["code"] == "already_exists"
    put(sandbox, "d/z.txt", b"x")
    assert rpc(sandbox, "MakeDir", path="d/z.txt")[1]["code"] == "invalid_argument"
    assert rpc(sandbox, "MakeDir", path="d/z.txt/x")[1]["code"] == "internal"
    names = [e["name"] for e in rpc(sandbox, "ListDir", path="d")[1]["entries"]]
    assert names == ["e", "z.txt"]
    paths = [e["path"] for e in rpc(sandbox, "ListDir", path="/home/user/d", depth=3)[1]["entries"]]
    assert paths == ["/home/user/d/e", "/home/user/d/e/f", "/home/user/d/z.txt"]
    assert rpc(sandbox, "ListDir", path="nope")[1]["code"] == "not_found"
    assert rpc(sandbox, "ListDir", path="d/z.txt")[1]["code"] == "invalid_argument"
    assert rpc(sandbox, "MakeDir", path="d/empty")[0] == 200
    assert rpc(sandbox, "ListDir", path="d/empty") == (200, {})


def test_moving_and_removing(sandbox):
    put(sandbox, "from", b"moved")
    entry = rpc(sandbox, "Move", source="from", destination="to/there")[1]["entry"]
    assert (entry["path"], entry["type"]) == ("/home/user/to/there", "FILE_TYPE_FILE")
    assert get(sandbox, "to/there").body == b"moved" and get(sandbox, "from").status == 404
    assert rpc(sandbox, "Move", source="from", destination="x")[1]["code"] == "not_found"
    assert rpc(sandbox, "Remove", path="to") == (200, {})
    assert rpc(sandbox, "Stat", path="to")[1]["code"] == "not_found"
    assert rpc(sandbox, "Remove", path="to") == (200, {})


def test_links(sandbox):
    put(sandbox, "links/target", b"x")
    sandbox.run("cd links; ln -s target good; ln -s nowhere broken; ln -s .. up; ln -s loop loop")
    entries = {e["name"]: e for e in rpc(sandbox, "ListDir", path="links", depth=5)[1]["entries"]}
    assert set(entries) == {"broken", "good", "loop", "target", "up"}  # links are not followed
    assert entries["good"]["type"] == "FILE_TYPE_FILE"
    assert entries["good"]["permissions"].startswith("L")
    assert entries["good"]["symlinkTarget"] == "/home/user/links/target"
    assert entries["up"]["type"] == "FILE_TYPE_DIRECTORY"
    assert "type" not in entries["broken"]
    assert rpc(sandbox, "ListDir", path="links/loop")[1]["code"] == "failed_precondition"
    listed = rpc(sandbox, "ListDir", path="links/up/links")[1]["entries"]
    assert listed[0]["path"] == "/home/user/links/up/links/broken"  # as asked, unresolved
    rpc(sandbox, "Remove", path="links/up")
    assert get(sandbox, "links/target").status == 200


def test_a_deep_tree_is_removed_or_refused(sandbox):
    """Nothing a sandbox builds takes the agent down."""
    sandbox.run("cd /tmp && python3 -c \"import os\nfor i in range(5000):\n os.mkdir('d')\n os.chdir('d')\"")
    assert rpc(sandbox, "Remove", path="/tmp/d")[0] in (200, 500)
    assert rpc(sandbox, "ListDir", path="/tmp", depth=4000000000)[0] in (200, 500)
    assert sandbox.health() == 204


def test_a_browser_may_ask(sandbox):
    answer = sandbox.request("OPTIONS", "/files", headers={
        "Origin": "http://page", "Access-Control-Request-Method": "POST"})
    assert answer.status == 204 and answer.headers["Access-Control-Allow-Origin"] == "*"
    answer = get(sandbox, "nope", Origin="http://page")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_metrics_and_defaults(local):
    sandbox = Api(local.address).create(timeout=600, envVars={"A": "é\"", "B": ""})
    try:
        assert sandbox.request("GET", "/envs").json == {
            "A": "é\"", "B": "", "E2B_SANDBOX": "true", "E2B_SANDBOX_ID": sandbox.id,
            "E2B_TEMPLATE_ID": "base"}
        metrics = sandbox.request("GET", "/metrics").json
        assert set(metrics) == {"ts", "cpu_count", "cpu_used_pct", "mem_total_mib", "mem_used_mib",
                                "mem_total", "mem_used", "mem_cache", "disk_used", "disk_total"}
        assert 0 < metrics["mem_used"] < metrics["mem_total"]
        before = metrics["disk_used"]
        put(sandbox, "ten-megabytes", b"x" * 10_000_000)
        sandbox.run("timeout 0.5 sh -c 'while :; do :; done'")
        metrics = sandbox.request("GET", "/metrics").json
        assert metrics["disk_used"] >= before + 10_000_000
        assert metrics["cpu_used_pct"] > 0
        assert sandbox.request("GET", "/nothing").status == 404
        assert sandbox.request("DELETE", "/files").status == 405
    finally:
        sandbox.delete()
