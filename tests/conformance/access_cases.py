"""Who may: access tokens, signatures, users."""

import base64
import hashlib
import json
import time
import urllib.parse

from case import case, table
from target import b64, basic

REFUSED = (401, "unauthorized access, please provide a valid access token or method signing if "
                "supported")


@table("without a token",
       ("health", 204, "GET", "/health"),
       ("envs", REFUSED, "GET", "/envs"),
       ("metrics", REFUSED, "GET", "/metrics"),
       ("a call", REFUSED, "POST", "/process.Process/List"),
       ("a stream", REFUSED, "POST", "/process.Process/Start"),
       ("compose", REFUSED, "POST", "/files/compose"),
       ("read a file", (401, "missing signature query parameter"), "GET", "/files?path=x"),
       ("write a file", (401, "missing signature query parameter"), "POST", "/files?path=x"),
       ("nothing there", REFUSED, "GET", "/nothing"),
       ("health by another method", REFUSED, "POST", "/health"))
def no_token(t, method, path):
    return t.request(method, path, token=False).said


@table("with a wrong token",
       ("health", 204, "GET", "/health"),
       ("envs", REFUSED, "GET", "/envs"),
       ("a call", REFUSED, "POST", "/process.Process/List"),
       ("read a file", (401, "access token present in header but does not match"), "GET",
        "/files?path=x"))
def wrong_token(t, method, path):
    return t.request(method, path, headers={"X-Access-Token": t.token + "x"}, token=False).said


def sign(t, operation, path, user="", expiration=None, token=None):
    parts = [path, operation, user, token or t.token] + ([] if expiration is None
                                                         else [str(expiration)])
    digest = hashlib.sha256(":".join(parts).encode()).digest()
    query = {"path": path, "signature": "v1_" + base64.b64encode(digest).decode().rstrip("=")}
    if user:
        query["username"] = user
    if expiration is not None:
        query["signature_expiration"] = expiration
    return "/files?" + urllib.parse.urlencode(query)


@table("signed reading",
       ("plain", 200, {}),
       ("with a user", 200, {"user": "user"}),
       ("that expires", 200, {"expiration": int(time.time()) + 1000}),
       ("that has expired", (401, "signature is already expired"),
        {"expiration": int(time.time()) - 10}),
       ("for writing", (401, "invalid signature"), {"operation": "write"}),
       ("with another token", (401, "invalid signature"), {"token": "other"}))
def signed_read(t, fields):
    t.put("f", "x")
    fields = {"operation": "read", **fields}
    return t.request("GET", sign(t, path=t.at("f"), **fields), token=False).said


@table("signed writing",
       ("plain", 200, {}),
       ("that has expired", (401, "signature is already expired"),
        {"expiration": int(time.time()) - 10}),
       ("for reading", (401, "invalid signature"), {"operation": "read"}))
def signed_write(t, fields):
    fields = {"operation": "write", **fields}
    return t.request("POST", sign(t, path=t.at("f"), **fields), "x",
                     {"Content-Type": "application/octet-stream"}, token=False).said


@table("a signature altered in its",
       ("path", (401, "invalid signature"), lambda q: q.replace("path=", "path=x")),
       ("expiration", (401, "invalid signature"), lambda q: q + "0"),
       ("user", (401, "invalid signature"), lambda q: q + "&username=root"))
def altered(t, change):
    query = sign(t, "read", t.at("f"), expiration=int(time.time()) + 1000)
    return t.request("GET", change(query), token=False).said


@case(400)
def an_expiration_that_is_no_number(t):
    return t.get("f", "&signature_expiration=soon").status


@case(200)
def a_token_is_as_good_as_a_signature(t):
    t.put("f", "x")
    return t.get("f", "&signature=wrong").status


# ---- users ----

@table("commands run as",
       ("the default user", "user:/home/user:user:user\n", {}),
       ("a user", "user:/home/user:user:user\n", basic("user")),
       ("root", "root:/root:root:root\n", basic("root")),
       ("the default user, what is no Basic header", "user:/home/user:user:user\n",
        {"Authorization": "Bearer x"}),
       ("the default user, what is no base64", "user:/home/user:user:user\n",
        {"Authorization": "Basic ***"}),
       ("the default user, what has no colon", "user:/home/user:user:user\n",
        {"Authorization": "Basic " + b64("root")}),
       ("root, with a password", "root:/root:root:root\n",
        {"Authorization": "Basic " + b64("root:secret")}),
       ("root, in small letters", "root:/root:root:root\n",
        {"Authorization": "basic " + b64("root:")}))
def run_as(t, headers):
    if headers and "colon" not in str(headers) and headers != basic("user"):
        assert t.as_root
    return t.run("echo $(id -un):$HOME:$USER:$LOGNAME", headers, process={"cwd": "/"})["stdout"]


@case(("unauthenticated", "invalid username: 'nobody-of-that-name'"))
def a_call_of_an_unknown_user(t):
    return t.rpc("Stat", basic("nobody-of-that-name"), said=True, path="/")


@case(("unauthenticated", "invalid username: 'nobody-of-that-name'"))
def a_stream_of_an_unknown_user(t):
    with t.stream("Start", basic("nobody-of-that-name"), process={"cmd": "true"}) as stream:
        assert stream.next() is None
        return stream.end, stream.error["message"]


@case("unauthenticated")
def a_user_without_a_name(t):
    return t.rpc("Stat", basic(""), path="/")


@case(401)
def an_unknown_user_reads_a_file(t):
    t.put("f", "x")
    return t.get("f", headers=basic("nobody-of-that-name")).status


@case(401)
def a_file_of_an_unknown_user(t):
    t.put("f", "x")
    return t.get("f", "&username=nobody-of-that-name").status


@case(401)
def a_file_for_an_unknown_user(t):
    return t.put("f", "x", "&username=nobody-of-that-name").status


@case("root root\n")
def a_file_for_root(t):
    assert t.as_root
    t.put("f", "x", "&username=root")
    return t.sh("stat -c '%U %G' f")


@case("/root/f-of-root")
def paths_of_files_start_at_the_home_of_the_user(t):
    assert t.as_root
    answer = t.put("~/f-of-root", "x", "&username=root")
    return json.loads(answer.body)[0]["path"]


@case("root root\n")
def a_directory_for_root(t):
    t.rpc("MakeDir", t.as_root, path=t.at("d"))
    return t.sh("stat -c '%U %G' d")
