"""URLs that read and write one file without the API."""

import time
import urllib.parse

import grpc
from harness import api, follow, web

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND

READ, WRITE = 1, 2  # CreateFileUrlRequest.Operation


def make_url(stub, sandbox_id, path, operation, **fields):
    return stub.CreateFileUrl(api.CreateFileUrlRequest(
        sandbox_id=sandbox_id, path=path, operation=operation, **fields))


def test_urls_read_and_write_one_file(stub, sandbox):
    up = make_url(stub, sandbox, "url/a b&c", WRITE, expire_in=api.seconds(600))
    assert up.method == "POST" and abs(up.expire_time.seconds - time.time() - 600) < 60
    sent = web.request("POST", up.url, body=b"by url \xff",
                       headers={"Content-Type": "application/octet-stream"})
    assert sent.status == 200, sent.content
    down = make_url(stub, sandbox, "url/a b&c", READ)
    assert down.method == "GET" and abs(down.expire_time.seconds - time.time() - 3600) < 60
    assert web.fetch(down.url) == (200, b"by url \xff")
    assert web.request("GET", down.url, headers={"Range": "bytes=3-5"}).content == b"url"
    # Neither is good for the other, nor for another file.
    assert web.fetch(up.url)[0] == 401
    assert web.request("POST", down.url, body=b"x", headers={
        "Content-Type": "application/octet-stream"}).status == 401
    assert web.fetch(down.url.replace("a%20b", "a%20x"))[0] == 401


def test_urls_know_the_user(stub, sandbox):
    up = make_url(stub, sandbox, "by-root", WRITE, user="root")
    assert web.request("POST", up.url, body=b"1", headers={
        "Content-Type": "application/octet-stream"}).status == 200
    assert follow.run(stub, sandbox, user="root",
                      shell="stat -c %U /root/by-root").out == b"root\n"


def test_urls_end(stub, sandbox):
    down = make_url(stub, sandbox, "/etc/hostname", READ, expire_in=api.seconds(1))
    deadline = time.monotonic() + 30
    while (answer := web.fetch(down.url))[0] == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer[0] == 401 and b"expired" in answer[1]
    later = urllib.parse.urlsplit(down.url)._replace(query=urllib.parse.urlsplit(
        down.url).query.replace("expiration=%d" % down.expire_time.seconds,
                                "expiration=%d" % (down.expire_time.seconds + 1000)))
    assert web.fetch(later.geturl())[0] == 401


def test_urls_of_what_is_not_there_are_refused(stub, sandbox, fails):
    fails(NOT_FOUND, "SANDBOX_NOT_FOUND", stub.CreateFileUrl,
          api.CreateFileUrlRequest(sandbox_id="i0123456789abcdefghij", path="x"))
    for fields in ({"path": ""}, {"path": "x", "expire_in": api.seconds(31 * 86400)},
                   {"path": "x", "operation": 3}, {"path": "x", "user": "a b"}):
        fails(INVALID, "INVALID_FIELD", stub.CreateFileUrl,
              api.CreateFileUrlRequest(sandbox_id=sandbox, **fields))
