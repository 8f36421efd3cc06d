"""Connect itself: codecs, framing, compression, errors."""

import gzip
import json

from case import case, table
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from harness import programs
from target import Stream, basic, envelope, failure

STAT = "/filesystem.Filesystem/Stat"


_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
        programs.find("proto/envd.protoset").read_bytes()).file:
    _pool.Add(_file)
_factory = message_factory.MessageFactory(_pool)


def kind_of(name):
    """The class of a message."""
    descriptor = _pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return _factory.GetPrototype(descriptor)


def message(name, **fields):
    return kind_of(name)(**fields)


def ask(t, body, kind="application/json", path=STAT, **headers):
    answer = t.request("POST", path, body, {"Content-Type": kind,
                                            **{k.replace("_", "-"): v for k, v in headers.items()}})
    if answer.status == 200:
        return 200
    try:
        return failure(answer.status, answer.json)
    except ValueError:
        return answer.status


ROOT = json.dumps({"path": "/"})


@table("a call in",
       ("JSON", 200, "application/json", ROOT),
       ("JSON with a charset", 200, "application/json; charset=utf-8", ROOT),
       ("JSON that is empty", "invalid_argument", "application/json", ""),
       ("JSON that is cut", "invalid_argument", "application/json", '{"path"'),
       ("JSON that is a list", "invalid_argument", "application/json", "[]"),
       ("JSON of another type", "invalid_argument", "application/json", '{"path": 1}'),
       ("JSON with unknown fields", 200, "application/json", '{"path": "/", "unknown": [1, {}]}'),
       ("JSON with null", 200, "application/json", '{"path": null}'),
       ("binary", 200, "application/proto", b"\x0a\x01/"),
       ("binary that is empty", 200, "application/proto", b""),
       ("binary that is cut", "invalid_argument", "application/proto", b"\x0a\x05/"),
       ("binary with unknown fields", 200, "application/proto", b"\x0a\x01/\xf8\x07\x01"),
       ("words", 415, "text/plain", ROOT),
       ("nothing", 415, "", ROOT),
       ("the form of a stream", 415, "application/connect+json", ROOT))
def codec(t, kind, body):
    return ask(t, body, kind)


@table("a version of the protocol",
       ("one", 200, "1"), ("two", "invalid_argument", "2"))
def version(t, value):
    return ask(t, ROOT, Connect_Protocol_Version=value)


@table("a compressed call",
       ("gzip", 200, gzip.compress(ROOT.encode()), "gzip"),
       ("identity", 200, ROOT, "identity"),
       ("unknown", "unimplemented", ROOT, "br"),
       ("that is not", "invalid_argument", ROOT, "gzip"))
def compressed(t, body, coding):
    return ask(t, body, Content_Encoding=coding)


@table("a call with a deadline",
       ("in time", 200, "10000"),
       ("of words", "invalid_argument", "soon"),
       ("too long", "invalid_argument", "12345678901"))
def deadline(t, value):
    return ask(t, ROOT, Connect_Timeout_Ms=value)


@case(("application/json", {}))
def an_answer_in_json(t):
    answer = t.unary(STAT, {"path": "/"})
    return answer.headers["Content-Type"].split(";")[0], {
        k: v for k, v in answer.json.items() if k != "entry"}


@case(("application/proto", "/", 2))
def an_answer_in_binary(t):
    answer = t.unary(STAT, message("filesystem.StatRequest", path="/").SerializeToString(),
                     codec="proto")
    entry = kind_of("filesystem.StatResponse").FromString(answer.body).entry
    return answer.headers["Content-Type"], entry.path, entry.type


@case(("application/json", "not_found"))
def an_error_in_binary_is_json(t):
    body = message("filesystem.StatRequest", path=t.at("no")).SerializeToString()
    answer = t.unary(STAT, body, codec="proto")
    return answer.headers["Content-Type"], answer.json["code"]


def binary(t, method, request, response, headers=None):
    """A stream in the binary codec: its messages, and its end."""
    stream = Stream(t.open(method, None, {"Content-Type": "application/connect+proto",
                                          **(headers or {})},
                           envelope(request.SerializeToString())))
    with stream:
        return [response.FromString(p) for p in stream.payloads()], stream


@case((True, b"out", -1, False, "signal: killed", "ok"))
def a_stream_in_binary(t):
    request = message("process.StartRequest")
    request.process.cmd = "/bin/bash"
    request.process.args.extend(["-c", "printf out; sleep 0.1; kill -9 $$"])
    request.stdin = False
    events, stream = binary(t, "Start", request, kind_of("process.StartResponse"))
    out = b"".join(e.event.data.stdout for e in events)
    end = events[-1].event.end
    return (events[0].event.start.pid > 0, out, end.exit_code, end.exited, end.status, stream.end)


@case((b"to a terminal\r\n", "ok"))
def a_terminal_in_binary(t):
    request = message("process.StartRequest")
    request.process.cmd = "/bin/bash"
    request.process.args.extend(["-c", "echo to a terminal"])
    request.pty.size.cols = 80
    request.pty.size.rows = 24
    events, stream = binary(t, "Start", request, kind_of("process.StartResponse"))
    return b"".join(e.event.data.pty for e in events), stream.end


@case(("not_found", "process with pid 999999 not found"))
def a_failed_stream_in_binary_ends_in_json(t):
    request = message("process.ConnectRequest")
    request.process.pid = 999999
    _, stream = binary(t, "Connect", request, kind_of("process.ConnectResponse"))
    return stream.end, stream.error["message"]


@case(True)
def no_stdin_field_in_binary_is_stdin(t):
    request = message("process.StartRequest")
    request.process.cmd = "/bin/readlink"
    request.process.args.extend(["/proc/self/fd/0"])
    events, _ = binary(t, "Start", request, kind_of("process.StartResponse"))
    return b"".join(e.event.data.stdout for e in events).startswith(b"pipe:")


@case(("filesystem", 1, "f"))
def a_watch_in_binary(t):
    request = message("filesystem.WatchDirRequest", path=t.dir)
    stream = Stream(t.open("WatchDir", None, {"Content-Type": "application/connect+proto"},
                           envelope(request.SerializeToString())))
    with stream:
        payloads = stream.payloads()
        next(payloads)
        t.sh(": > f")
        event = kind_of("filesystem.WatchDirResponse").FromString(next(payloads))
        return (event.WhichOneof("event"), event.filesystem.type, event.filesystem.name)


@case(b"fed")
def input_in_binary(t):
    with t.start("cat", stdin=True) as process:
        first = message("process.StreamInputRequest")
        first.start.process.pid = process.pid
        second = message("process.StreamInputRequest")
        second.data.input.stdin = b"fed"
        body = b"".join(envelope(m.SerializeToString()) for m in (first, second))
        with Stream(t.open("StreamInput", None, {"Content-Type": "application/connect+proto"},
                           body)) as stream:
            assert list(stream.payloads()) == [b""]
        t.rpc("CloseStdin", **process.select)
        process.rest()
        return process.output["stdout"]


START = json.dumps({"process": {"cmd": "true"}}).encode()


@table("a stream whose request is",
       ("an envelope", "ok", envelope(START)),
       ("compressed", "ok", envelope(gzip.compress(START), 1)),
       ("compressed, and is not", "invalid_argument", envelope(START, 1)),
       ("no JSON", "invalid_argument", envelope(b"{")),
       ("not there", "unimplemented", b""),
       ("cut", "invalid_argument", envelope(START)[:-1]),
       ("only a part of a header", "invalid_argument", b"\0\0"),
       ("two envelopes", "unimplemented", envelope(START) * 2),
       ("with its end", "ok", envelope(START) + envelope(b"{}", 2)))
def request_of_a_stream(t, body):
    headers = {"Connect-Content-Encoding": "gzip"} if body[:1] == b"\1" else {}
    with t.stream("Start", headers, body) as stream:
        for _ in stream.messages():
            pass
        return stream.end


@table("a stream in",
       ("JSON", 200, "application/connect+json"),
       ("JSON with a charset", 200, "application/connect+json; charset=utf-8"),
       ("the form of a call", 415, "application/json"),
       ("words", 415, "text/plain"))
def codec_of_a_stream(t, kind):
    connection = t.open("Start", None, {"Content-Type": kind}, envelope(START))
    with Stream(connection) as stream:
        if stream.status == 200:
            for _ in stream.messages():
                pass
        return stream.status


@case("unimplemented")
def a_stream_in_an_unknown_compression(t):
    with t.stream("Start", {"Connect-Content-Encoding": "br"}, envelope(START)) as stream:
        for _ in stream.messages():
            pass
        return stream.end


@case((200, "application/connect+json", True))
def the_head_of_a_stream(t):
    with t.stream("Start", process={"cmd": "true"}) as stream:
        for _ in stream.messages():
            pass
        response = stream.response
        return (response.status, response.headers["Content-Type"],
                response.headers["Content-Length"] is None)


@case({"name": "f", "type": "FILE_TYPE_FILE", "path": "D/f"})
def what_an_old_sdk_understands(t):
    t.sh("touch f")
    answer = t.unary(STAT, {"path": t.at("f")}, {"User-Agent": "connect-python"})
    assert answer.headers["X-E2B-Legacy-SDK"] == "true"
    return t.short(answer.json["entry"])


@case([["name", "path", "type"]])
def what_an_old_sdk_understands_of_a_list(t):
    t.sh("touch f")
    answer = t.unary("/filesystem.Filesystem/ListDir", {"path": t.dir},
                     {"User-Agent": "connect-python"})
    return [sorted(e) for e in answer.json["entries"]]


@case("unauthenticated")
def the_user_of_a_call_is_looked_at_first(t):
    return t.rpc("Stat", basic("nobody-of-that-name"), path=t.at("nothing"))
