"""GET /files, and the plain routes beside it."""

import gzip

from case import case, table
from target import HOME


def got(answer, *names):
    return (answer.status, answer.body.decode("utf-8", "replace"),
            *(answer.headers.get(name) for name in names))


@table("read",
       ("a file", (200, "content"), "f"),
       ("an empty file", (200, ""), "empty"),
       ("through a link", (200, "content"), "link"),
       ("a directory", (400, "path 'D/d' is a directory"), "d"),
       ("nothing", (404, "path 'D/nothing' does not exist"), "nothing"),
       ("a broken link", (404, "path 'D/broken' does not exist"), "broken"),
       ("below a file", 404, "f/x"),
       ("a private file", (200, "content"), "private"))
def read(t, name):
    t.sh("printf content > f; : > empty; ln -s f link; mkdir d; ln -s nowhere broken; "
         "cp f private; chmod 0 private")
    answer = t.get(name)
    if answer.status == 200:
        return 200, answer.body.decode()
    return 404 if name == "f/x" and answer.status == 404 else tuple(t.short(list(answer.said)))


@table("read a path that is",
       ("absent", (400, "path '%s' is a directory" % HOME), ""),
       ("empty", (400, "path '%s' is a directory" % HOME), "?path="),
       ("relative", 200, "?path=in-home"),
       ("below home", 200, "?path=~/in-home"),
       ("somebody's home", 400, "?path=~root/x"),
       ("encoded", 200, "?path=%69n%2Dhome"))
def read_path(t, query):
    t.sh("echo > ~/in-home")
    said = t.request("GET", "/files" + query).said
    return said if isinstance(said, int) or said[1].endswith("directory") else said[0]


@table("the type of",
       ("text", "text/plain; charset=utf-8", "f", b"hello\n"),
       ("nothing", "text/plain; charset=utf-8", "f", b""),
       ("bytes", "application/octet-stream", "f", b"\0\1\2\3"),
       ("text that is not UTF-8", "text/plain; charset=utf-8", "f", b"caf\xe9\n"),
       ("control characters", "application/octet-stream", "f", b"a\x01b"),
       ("an escape", "text/plain; charset=utf-8", "f", b"a\x1b[0m"),
       ("a web page", "text/html; charset=utf-8", "f", b"\n <!DOCTYPE html><p>"),
       ("XML", "text/xml; charset=utf-8", "f", b"<?xml version='1.0'?>"),
       ("a PDF", "application/pdf", "f", b"%PDF-1.4\n"),
       ("a PNG", "image/png", "f", b"\x89PNG\r\n\x1a\n\0\0"),
       ("a JPEG", "image/jpeg", "f", b"\xff\xd8\xff\xe0\0"),
       ("a GIF", "image/gif", "f", b"GIF89a\1\0"),
       ("a gzip", "application/x-gzip", "f", b"\x1f\x8b\x08\0"),
       ("a zip", "application/zip", "f", b"PK\x03\x04\0"),
       ("a name: html", "text/html; charset=utf-8", "f.html", b"\0"),
       ("a name: json", "application/json", "f.json", b"{}"),
       ("a name: css", "text/css; charset=utf-8", "f.css", b""),
       ("a name: png", "image/png", "f.png", b"text"),
       ("a name: PNG", "image/png", "f.PNG", b"text"),
       ("a name: svg", "image/svg+xml", "f.svg", b""),
       ("a name: nobody knows", "text/plain; charset=utf-8", "f.nobodyknows", b"text"))
def content_type(t, name, data):
    t.put(name, data)
    return t.get(name).headers["Content-Type"]


@table("the disposition of",
       ("a plain name", "inline; filename=plain-name_1.txt", "plain-name_1.txt"),
       ("a name with a blank", 'inline; filename="a b"', "a%20b"),
       ("a name with a quote", 'inline; filename="a\\"b"', "a%22b"),
       ("a name with a semicolon", 'inline; filename="a;b"', "a%3Bb"),
       ("a name that is not ASCII", "inline; filename*=utf-8''%C3%A4", "%C3%A4"))
def disposition(t, name):
    t.put(name, "x")
    return t.get(name).headers["Content-Disposition"]


@case((200, "5", "bytes", "Accept-Encoding", None, True))
def the_head_of_a_file(t):
    t.put("f", "12345")
    answer = t.get("f")
    head = [answer.headers[name] for name in ("Content-Length", "Accept-Ranges", "Vary",
                                              "Content-Encoding")]
    return (answer.status, *head, answer.headers["Last-Modified"].endswith(" GMT"))


@table("a range",
       ("from the start", (206, "012", "bytes 0-2/10"), "bytes=0-2"),
       ("in the middle", (206, "345", "bytes 3-5/10"), "bytes=3-5"),
       ("to the end", (206, "789", "bytes 7-9/10"), "bytes=7-"),
       ("beyond the end", (206, "89", "bytes 8-9/10"), "bytes=8-100"),
       ("the last", (206, "89", "bytes 8-9/10"), "bytes=-2"),
       ("more than there is from the end", (206, "0123456789", "bytes 0-9/10"), "bytes=-20"),
       ("all", (206, "0123456789", "bytes 0-9/10"), "bytes=0-"),
       ("behind the end", (416, None, "bytes */10"), "bytes=10-"),
       ("turned round", (200, "0123456789", None), "bytes=5-3"),
       ("of words", (200, "0123456789", None), "bytes=x"),
       ("of another unit", (200, "0123456789", None), "lines=1-2"),
       ("twice", (200, "0123456789", None), "bytes=0-1,4-5"))
def ranged(t, value):
    t.put("f", "0123456789")
    answer = t.get("f", headers={"Range": value})
    if (answer.headers["Content-Type"] or "").startswith("multipart/"):
        return answer.status, "several", None
    body = answer.body.decode() if answer.status in (200, 206) else None
    return answer.status, body, answer.headers["Content-Range"]


@table("a condition",
       ("unchanged", 304, {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
       ("changed", 200, {"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}),
       ("that is none", 200, {"If-Modified-Since": "yesterday"}),
       ("not changed since", 200, {"If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
       ("changed since", 412, {"If-Unmodified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}),
       ("a range of another version", 200,
        {"Range": "bytes=0-2", "If-Range": "Sat, 01 Jan 2000 00:00:00 GMT"}))
def condition(t, headers):
    t.put("f", "0123456789")
    return t.get("f", headers=headers).status


@case(206)
def a_range_of_the_same_version(t):
    t.put("f", "0123456789")
    modified = t.get("f").headers["Last-Modified"]
    return t.get("f", headers={"Range": "bytes=0-2", "If-Range": modified}).status


TEXT = "compress me " * 100


@table("accepted encodings",
       ("gzip", (200, "gzip"), "gzip"),
       ("gzip in capitals", (200, "gzip"), "GZIP"),
       ("as browsers do", (200, "gzip"), "gzip, deflate, br"),
       ("others", (200, None), "br, zstd"),
       ("identity", (200, None), "identity"),
       ("identity rather", (200, None), "gzip;q=0.5, identity"),
       ("gzip rather", (200, "gzip"), "identity;q=0.2, gzip;q=0.8"),
       ("gzip not", (200, None), "gzip;q=0"),
       ("any", (200, None), "*"),
       ("any but identity", (200, "gzip"), "identity;q=0, *"),
       ("nothing", 406, "identity;q=0"),
       ("nothing at all", 406, "*;q=0"),
       ("gzip, nothing else", (200, "gzip"), "gzip, *;q=0"),
       ("words", (200, None), "x;y;z"))
def accepted(t, value):
    t.put("f.txt", TEXT)
    answer = t.get("f.txt", headers={"Accept-Encoding": value})
    if answer.status != 200:
        return answer.status
    coding = answer.headers["Content-Encoding"]
    body = gzip.decompress(answer.body) if coding == "gzip" else answer.body
    assert body.decode() == TEXT
    return 200, coding


@case(("text/plain; charset=utf-8", None, "Accept-Encoding", "inline; filename=f.txt"))
def the_head_of_a_compressed_file(t):
    t.put("f.txt", TEXT)
    answer = t.get("f.txt", headers={"Accept-Encoding": "gzip"})
    return tuple(answer.headers[name] for name in (
        "Content-Type", "Last-Modified", "Vary", "Content-Disposition"))


@case("application/octet-stream")
def what_is_compressed_is_not_looked_into(t):
    t.put("f", TEXT)
    return t.get("f", headers={"Accept-Encoding": "gzip"}).headers["Content-Type"]


@case((206, "com", None))
def a_range_is_not_compressed(t):
    t.put("f", TEXT)
    answer = t.get("f", headers={"Accept-Encoding": "gzip", "Range": "bytes=0-2"})
    return answer.status, answer.body.decode(), answer.headers["Content-Encoding"]


@case(406)
def a_range_that_has_to_be_compressed(t):
    t.put("f", TEXT)
    return t.get("f", headers={"Accept-Encoding": "gzip, identity;q=0",
                               "Range": "bytes=0-2"}).status


@case(True)
def a_large_file_compressed(t):
    t.sh("seq 300000 > f")
    body = t.get("f", headers={"Accept-Encoding": "gzip"}).body
    return gzip.decompress(body) == "".join("%d\n" % i for i in range(1, 300001)).encode()


@case(True)
def a_large_file(t):
    t.sh("seq 300000 > f")
    return t.get("f").body == "".join("%d\n" % i for i in range(1, 300001)).encode()


@case(True)
def what_has_no_size_until_it_is_read(t):
    return b"Name:" in t.get("/proc/self/status").body


# ---- beside files ----

@case((204, "", "no-store"))
def health(t):
    return got(t.request("GET", "/health"), "Cache-Control")


@case({"FROM_SANDBOX": "1"})
def envs_of_the_sandbox(t):
    envs = t.request("GET", "/envs").json
    return {k: v for k, v in envs.items() if k.startswith("FROM_")}


@case((True, "application/json", "no-store"))
def envs_have_what_the_agent_adds(t):
    answer = t.request("GET", "/envs")
    return (answer.json["E2B_SANDBOX"] in ("true", "false"), answer.headers["Content-Type"],
            answer.headers["Cache-Control"])


METRICS = ["cpu_count", "cpu_used_pct", "disk_total", "disk_used", "mem_cache", "mem_total",
           "mem_total_mib", "mem_used", "mem_used_mib", "ts"]


@case((METRICS, "application/json", "no-store"))
def metrics(t):
    answer = t.request("GET", "/metrics")
    values = answer.json
    assert values["cpu_count"] >= 1 and values["mem_total"] >= values["mem_used"] > 0
    assert values["mem_total_mib"] == values["mem_total"] >> 20
    assert values["disk_total"] >= values["disk_used"] >= 0
    return sorted(values), answer.headers["Content-Type"], answer.headers["Cache-Control"]


@table("a method that is not for",
       ("health", 405, "POST", "/health"),
       ("envs", 405, "DELETE", "/envs"),
       ("files", 405, "DELETE", "/files"),
       ("a call", 405, "GET", "/process.Process/List"),
       ("a stream", 405, "GET", "/process.Process/Start"))
def wrong_method(t, method, path):
    return t.request(method, path).status


@table("what is not there",
       ("a route", 404, "GET", "/nothing"),
       ("a procedure", 404, "POST", "/process.Process/Nothing"),
       ("a service", 404, "POST", "/nothing.Nothing/Nothing"))
def not_there(t, method, path):
    return t.request(method, path, "{}", {"Content-Type": "application/json"}).status


@case((204, "*", "POST"))
def a_browser_asks_first(t):
    answer = t.request("OPTIONS", "/process.Process/List", headers={
        "Origin": "http://example.com", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type"}, token=False)
    return (answer.status, answer.headers["Access-Control-Allow-Origin"],
            "POST" if "POST" in answer.headers["Access-Control-Allow-Methods"] else None)


@case((204, "*"))
def a_browser_may_read(t):
    answer = t.request("GET", "/health", headers={"Origin": "http://example.com"})
    return answer.status, answer.headers["Access-Control-Allow-Origin"]
