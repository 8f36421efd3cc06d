"""process.Process of the agent, over the wire, in both codecs."""

import base64
import hashlib
import http.client
import json
import socket
import struct
import threading
import time

import pytest
from harness.programs import wait_until
from tiers import OrdinaryLocal, local  # noqa: F401, the fixture
from wire import Api


@pytest.fixture(scope="module")
def sandbox(local):
    made = Api(local.address).create(timeout=600, envVars={"FROM_SANDBOX": "1"})
    yield made
    made.delete()


def envelope(payload, flags=0):
    return struct.pack(">BI", flags, len(payload)) + payload


def basic(user):
    return {"Authorization": "Basic " + base64.b64encode((user + ":").encode()).decode()}


class Stream:
    """A call of a server stream: its messages as they come, then its end."""

    def __init__(self, sandbox, method, message, codec="json", **headers):
        payload = json.dumps(message).encode() if codec == "json" else message
        self.connection = http.client.HTTPConnection(sandbox.api.address, timeout=30)
        self.connection.request(
            "POST", "/process.Process/" + method, envelope(payload),
            {**sandbox.headers(), "Content-Type": "application/connect+" + codec,
             **{k.replace("_", "-"): v for k, v in headers.items()}})
        self.response = self.connection.getresponse()
        assert self.response.status == 200
        self.end = None

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            piece = self.response.read(size - len(data))
            assert piece, "the stream is cut"
            data += piece
        return data

    def payloads(self):
        while self.end is None:
            flags, size = struct.unpack(">BI", self._exactly(5))
            payload = self._exactly(size)
            if flags & 2:
                self.end = json.loads(payload)
                assert self.response.read() == b""
            else:
                yield payload

    def events(self):
        for payload in self.payloads():
            yield json.loads(payload)["event"]

    def close(self):
        self.connection.close()
        self.response.close()


def start(sandbox, command, **options):
    headers = {k: options.pop(k) for k in list(options) if k[0].isupper()}
    process = {"cmd": "/bin/bash", "args": ["-c", command], **options.pop("process", {})}
    return Stream(sandbox, "Start", {"process": process, "stdin": False, **options}, **headers)


def collect(events):
    """Splits events into (pid, output by stream, end)."""
    pid, output, end = None, {"stdout": b"", "stderr": b""}, None
    for event in events:
        assert end is None, "an event behind the end"
        if "start" in event:
            assert pid is None
            pid = event["start"]["pid"]
        elif "data" in event:
            assert pid is not None, "data before the start"
            (stream, data), = event["data"].items()
            output[stream] += base64.b64decode(data)
        elif "end" in event:
            end = event["end"]
    return pid, output, end


def run(sandbox, command, **options):
    stream = start(sandbox, command, **options)
    result = collect(stream.events())
    assert stream.end == {}, stream.end
    return result


def unary(sandbox, method, message, **headers):
    answer = sandbox.request(
        "POST", "/process.Process/" + method, json.dumps(message),
        headers={"Content-Type": "application/json",
                 **{k.replace("_", "-"): v for k, v in headers.items()}})
    return answer.status, answer.json


def field(number, payload):
    """A length-delimited field."""
    size, length = len(payload), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def fields(message):
    """The fields of a message whose numbers are small: [(number, value)]."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        value = varint()
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        found.append((key >> 3, value))
    return found


def test_output_and_exit_code(sandbox):
    pid, output, end = run(sandbox, "echo out; echo err >&2; exit 3")
    assert pid > 1
    assert output == {"stdout": b"out\n", "stderr": b"err\n"}
    assert end == {"exitCode": 3, "exited": True, "status": "exit status 3",
                   "error": "exit status 3"}


def test_success_leaves_zero_fields_out(sandbox):
    assert run(sandbox, "true")[2] == {"exited": True, "status": "exit status 0"}


@pytest.mark.parametrize("signal,text", [("KILL", "killed"), ("TERM", "terminated"),
                                         ("SEGV", "segmentation fault")])
def test_a_signal_is_told_as_such(sandbox, signal, text):
    end = run(sandbox, "kill -%s $$" % signal)[2]
    assert end["exitCode"] == -1 and "exited" not in end
    assert end["status"] == end["error"] == "signal: " + text


def test_the_binary_codec(sandbox):
    request = field(1, field(1, b"/bin/echo") + field(2, b"-n") + field(2, b"\xc3\xa9"))
    stream = Stream(sandbox, "Start", request, codec="proto")
    events = [fields(fields(payload)[0][1])[0] for payload in stream.payloads()]
    assert [number for number, _ in events] == [1, 2, 3]
    assert fields(events[1][1]) == [(1, b"\xc3\xa9")]
    assert (2, 1) in fields(events[2][1])  # exited
    assert stream.end == {}


def test_large_output_arrives_whole_and_in_chunks(sandbox):
    request = field(1, field(1, b"/bin/bash") + field(2, b"-c") +
                    field(2, b"seq 1 2000000; seq 1 1000 >&2"))
    stream = Stream(sandbox, "Start", request, codec="proto")
    out, largest = {1: [], 2: []}, 0
    for payload in stream.payloads():
        number, event = fields(fields(payload)[0][1])[0]
        if number == 2:
            which, data = fields(event)[0]
            out[which].append(data)
            largest = max(largest, len(data))
    assert b"".join(out[1]) == b"".join(b"%d\n" % i for i in range(1, 2000001))
    assert b"".join(out[2]) == b"".join(b"%d\n" % i for i in range(1, 1001))
    assert largest <= 32 << 10


def test_a_missing_program_ends_like_in_a_shell(sandbox):
    _, output, end = run(sandbox, "", process={"cmd": "no-such-program", "args": []})
    assert end["exitCode"] == 127
    assert b"no-such-program: not found" in output["stderr"]
    _, output, end = run(sandbox, "", process={"cmd": "/etc/passwd", "args": []})
    assert end["exitCode"] == 126
    assert b"Permission denied" in output["stderr"]


def test_environment_and_directory(sandbox):
    _, output, _ = run(sandbox, "echo $HOME $USER $LOGNAME $FROM_SANDBOX $MINE $E2B_SANDBOX_ID; pwd",
                       process={"envs": {"MINE": "x y"}})
    assert output["stdout"].decode() == "/home/user user user 1 x y %s\n/home/user\n" % sandbox.id
    _, output, _ = run(sandbox, "pwd", process={"cwd": "/usr/lib"})
    assert output["stdout"] == b"/usr/lib\n"
    _, output, _ = run(sandbox, "pwd", process={"cwd": "~"})
    assert output["stdout"] == b"/home/user\n"
    _, output, _ = run(sandbox, "env")
    names = {line.split(b"=")[0].decode() for line in output["stdout"].splitlines()}
    assert names <= {"PATH", "HOME", "USER", "LOGNAME", "FROM_SANDBOX", "E2B_SANDBOX",
                     "E2B_SANDBOX_ID", "E2B_TEMPLATE_ID", "PWD", "SHLVL", "_", "OLDPWD"}


@pytest.mark.parametrize("cwd,text", [("/no/such", "cwd '/no/such' does not exist"),
                                      ("/etc/passwd", "Not a directory"),
                                      ("~other", "cannot expand")])
def test_a_wrong_directory_is_refused(sandbox, cwd, text):
    stream = start(sandbox, "true", process={"cwd": cwd})
    assert list(stream.events()) == []
    assert stream.end["error"]["code"] == "invalid_argument"
    assert text in stream.end["error"]["message"]


def test_users(sandbox, local):
    assert run(sandbox, "id -un", **basic("user"))[1]["stdout"] == b"user\n"
    stream = start(sandbox, "true", **basic("nobody-here"))
    assert list(stream.events()) == []
    assert stream.end["error"]["code"] == "unauthenticated"
    status, error = unary(sandbox, "List", {}, **basic("nobody-here"))
    assert (status, error["code"]) == (401, "unauthenticated")
    stream = start(sandbox, "id -u; echo $HOME", **basic("root"))
    if local.ready["tier"] == "A":
        assert collect(stream.events())[1]["stdout"] == b"0\n/root\n"
    else:
        assert list(stream.events()) == []
        assert "single user" in stream.end["error"]["message"]


def test_the_token_is_needed(sandbox):
    answer = sandbox.api.request(
        "POST", "/process.Process/List", "{}",
        {**sandbox.headers(), "X-Access-Token": "wrong", "Content-Type": "application/json"})
    assert answer.status == 401
    assert answer.json["code"] == 401


def test_bad_requests(sandbox):
    def post(path, body, content_type, **headers):
        return sandbox.request("POST", path, body, headers={"Content-Type": content_type, **headers})

    assert post("/process.Process/None", "{}", "application/json").status == 404
    assert post("/process.Process/List", "{}", "text/plain").status == 415
    assert post("/process.Process/Start", "{}", "application/json").status == 415
    assert sandbox.request("GET", "/process.Process/List").status == 405
    assert post("/process.Process/List", "", "application/json").json["code"] == "invalid_argument"
    assert post("/process.Process/List", "[", "application/json").json["code"] == "invalid_argument"
    answer = post("/process.Process/List", "{}", "application/json",
                  **{"Connect-Protocol-Version": "2"})
    assert (answer.status, answer.json["code"]) == (400, "invalid_argument")
    answer = post("/process.Process/List", "{}", "application/json", **{"Content-Encoding": "br"})
    assert (answer.status, answer.json["code"]) == (501, "unimplemented")
    stream = start(sandbox, "", process={"cmd": ""})
    assert list(stream.events()) == []
    assert stream.end["error"]["code"] == "invalid_argument"


def test_a_terminal(sandbox):
    command = "trap 'stty size; exit 4' WINCH; read line; echo got $line; while :; do sleep 0.1; done"
    stream = start(sandbox, command, pty={"size": {"cols": 80, "rows": 24}})
    events = stream.events()
    select = {"process": {"pid": next(events)["start"]["pid"]}}
    typed = base64.b64encode(b"typed\n").decode()
    assert unary(sandbox, "SendInput", {**select, "input": {"pty": typed}}) == (200, {})
    seen = b""
    while not seen.endswith(b"got typed\r\n"):  # behind the terminal's echo
        seen += base64.b64decode(next(events)["data"]["pty"])
    size = {"cols": 132, "rows": 50}
    assert unary(sandbox, "Update", {**select, "pty": {"size": size}}) == (200, {})
    for event in events:
        if "data" in event:
            seen += base64.b64decode(event["data"]["pty"])
        else:
            assert event["end"]["exitCode"] == 4
    assert seen.endswith(b"50 132\r\n")
    assert stream.end == {}


def test_a_terminal_is_its_own_session_and_hangs_up(sandbox):
    stream = start(sandbox, "tty; ps -o sid= -p $$; sleep 1000 & echo $!; wait",
                   pty={"size": {"cols": 80, "rows": 24}})
    events = stream.events()
    pid = next(events)["start"]["pid"]
    seen = b""
    while seen.count(b"\n") < 3:
        seen += base64.b64decode(next(events)["data"]["pty"])
    name, session, sleeper = seen.split()
    assert name.startswith(b"/dev/pts/") and int(session) == pid
    signal = {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}
    assert unary(sandbox, "SendSignal", signal) == (200, {})
    for event in events:
        end = event.get("end")
    assert end["status"] == "signal: killed"
    wait_until(lambda: run(sandbox, "kill -0 %d" % int(sleeper))[2].get("exitCode"))


def test_list_and_signals(sandbox):
    stream = start(sandbox, "sleep 100", tag="sleeper")
    events = stream.events()
    pid = next(events)["start"]["pid"]
    info = [p for p in unary(sandbox, "List", {})[1]["processes"] if p["pid"] == pid][0]
    assert info["tag"] == "sleeper"
    assert info["config"]["cmd"] == "/bin/bash"
    assert info["config"]["args"] == ["-c", "sleep 100"]
    assert unary(sandbox, "SendSignal", {"process": {"pid": pid}, "signal": 1})[0] == 501
    assert unary(sandbox, "SendSignal", {"process": {"tag": "sleeper"},
                                         "signal": "SIGNAL_SIGTERM"}) == (200, {})
    assert next(events)["end"]["status"] == "signal: terminated"
    assert list(events) == [] and stream.end == {}
    assert pid not in [p["pid"] for p in unary(sandbox, "List", {})[1].get("processes", [])]
    status, error = unary(sandbox, "SendSignal", {"process": {"pid": pid},
                                                  "signal": "SIGNAL_SIGKILL"})
    assert (status, error) == (404, {"code": "not_found",
                                     "message": "process with pid %d not found" % pid})
    status, error = unary(sandbox, "SendSignal", {"process": {"tag": "none"}, "signal": 9})
    assert (status, error["message"]) == (404, "process with tag none not found")
    assert unary(sandbox, "SendSignal", {"signal": 9})[1]["code"] == "unimplemented"


def test_attaching(sandbox):
    assert run(sandbox, "mkfifo /tmp/go")[2]["exited"]
    stream = start(sandbox, "echo early; read -t 30 x </tmp/go; echo late; exit 5")
    events = stream.events()
    pid = next(events)["start"]["pid"]
    assert base64.b64decode(next(events)["data"]["stdout"]) == b"early\n"
    second = Stream(sandbox, "Connect", {"process": {"pid": pid}})
    events2 = second.events()
    assert next(events2) == {"start": {"pid": pid}}
    run(sandbox, "echo > /tmp/go")
    _, output, end = collect([{"start": {"pid": pid}}, *events2])
    assert output["stdout"] == b"late\n"  # nothing of what was before
    assert end["exitCode"] == 5
    assert collect([{"start": {"pid": pid}}, *events])[1]["stdout"] == b"late\n"
    # The end is remembered for a while, without output.
    late = Stream(sandbox, "Connect", {"process": {"pid": pid}})
    assert [next(iter(e)) for e in late.events()] == ["start", "end"]
    gone = Stream(sandbox, "Connect", {"process": {"pid": 1 << 30}})
    assert list(gone.events()) == []
    assert gone.end["error"]["code"] == "not_found"


def test_leaving_does_not_end_a_process(sandbox):
    stream = start(sandbox, "for i in $(seq 200); do echo $i; sleep 0.01; done; touch /tmp/left-alone")
    next(stream.events())
    stream.close()
    wait_until(lambda: run(sandbox, "test -e /tmp/left-alone")[2].get("exitCode", 0) == 0, 30)


def test_the_deadline_kills(sandbox):
    began = time.monotonic()
    stream = start(sandbox, "echo $$; exec sleep 100", Connect_Timeout_Ms="500")
    pid, _, end = collect(stream.events())
    assert end is None
    assert stream.end["error"] == {"code": "deadline_exceeded",
                                   "message": "context deadline exceeded"}
    assert 0.4 < time.monotonic() - began < 20
    wait_until(lambda: run(sandbox, "kill -0 %d" % pid)[2].get("exitCode") == 1, 20)


def test_the_deadline_kills_who_was_left_too(sandbox):
    stream = start(sandbox, "exec sleep 100", Connect_Timeout_Ms="700")
    pid = next(stream.events())["start"]["pid"]
    stream.close()
    wait_until(lambda: run(sandbox, "kill -0 %d" % pid)[2].get("exitCode") == 1, 20)


def test_the_deadline_of_an_attached_one_does_not(sandbox):
    stream = start(sandbox, "sleep 100")
    events = stream.events()
    pid = next(events)["start"]["pid"]
    attached = Stream(sandbox, "Connect", {"process": {"pid": pid}}, Connect_Timeout_Ms="300")
    assert [next(iter(e)) for e in attached.events()] == ["start"]
    assert attached.end["error"]["code"] == "deadline_exceeded"
    assert run(sandbox, "kill -0 %d" % pid)[2]["exited"]
    unary(sandbox, "SendSignal", {"process": {"pid": pid}, "signal": 9})
    assert next(events)["end"]["status"] == "signal: killed"


def test_no_time_at_all(sandbox):
    stream = start(sandbox, "true", Connect_Timeout_Ms="0")
    assert list(stream.events()) == []
    assert stream.end["error"]["code"] == "deadline_exceeded"
    stream = start(sandbox, "true", Connect_Timeout_Ms="soon")
    assert list(stream.events()) == []
    assert stream.end["error"]["code"] == "invalid_argument"


def test_keepalives_while_nothing_happens(sandbox):
    stream = start(sandbox, "sleep 2.5", Keepalive_Ping_Interval="1")
    kinds = [next(iter(e)) for e in stream.events()]
    assert kinds[0] == "start" and kinds[-1] == "end"
    assert kinds[1:-1] in (["keepalive"], ["keepalive"] * 2)


def test_background_children_keep_the_end_back(sandbox):
    stream = start(sandbox, "(sleep 0.5; echo child) & echo parent")
    _, output, end = collect(stream.events())
    assert output["stdout"] == b"parent\nchild\n" and end["exited"]


def test_killing_does_not_wait_for_children(sandbox):
    stream = start(sandbox, "sleep 100 & echo up; wait")
    events = stream.events()
    pid = next(events)["start"]["pid"]
    next(events)
    unary(sandbox, "SendSignal", {"process": {"pid": pid}, "signal": 9})
    assert next(events)["end"]["status"] == "signal: killed"
    assert list(events) == [] and stream.end == {}


def test_input(sandbox):
    stream = start(sandbox, "cat; echo end", stdin=True)
    events = stream.events()
    pid = next(events)["start"]["pid"]
    select = {"process": {"pid": pid}}
    text = base64.b64encode(b"line\n").decode()
    assert unary(sandbox, "SendInput", {**select, "input": {"stdin": text}}) == (200, {})
    assert base64.b64decode(next(events)["data"]["stdout"]) == b"line\n"
    assert unary(sandbox, "SendInput", {**select, "input": {"pty": text}})[1]["code"] == "internal"
    assert unary(sandbox, "SendInput", select)[1]["code"] == "unimplemented"
    assert unary(sandbox, "CloseStdin", select) == (200, {})
    assert unary(sandbox, "CloseStdin", select)[0] in (200, 404)
    assert collect([{"start": {"pid": pid}}, *events])[1]["stdout"] == b"end\n"
    assert unary(sandbox, "SendInput", {**select, "input": {"stdin": text}})[1]["code"] == "not_found"


def test_no_input_unless_asked_for(sandbox):
    stream = start(sandbox, "cat; sleep 100", stdin=False)
    pid = next(stream.events())["start"]["pid"]
    answer = unary(sandbox, "SendInput", {"process": {"pid": pid}, "input": {"stdin": "YQ=="}})
    assert answer[1]["code"] == "internal"
    unary(sandbox, "SendSignal", {"process": {"pid": pid}, "signal": 9})


def test_input_waits_for_its_reader(sandbox):
    """More than a pipe holds: answered when the process has read it, in order."""
    stream = start(sandbox, "sleep 0.5; md5sum", stdin=True)
    events = stream.events()
    pid = next(events)["start"]["pid"]
    data = bytes(range(256)) * 8192
    began = time.monotonic()
    answer = unary(sandbox, "SendInput", {"process": {"pid": pid},
                                          "input": {"stdin": base64.b64encode(data).decode()}})
    assert answer == (200, {}) and time.monotonic() - began > 0.3
    unary(sandbox, "CloseStdin", {"process": {"pid": pid}})
    assert base64.b64decode(next(events)["data"]["stdout"]).split()[0].decode() == \
        hashlib.md5(data).hexdigest()


def stream_input(sandbox, messages):
    body = b"".join(envelope(json.dumps(m).encode()) for m in messages)
    answer = sandbox.request("POST", "/process.Process/StreamInput", body,
                             headers={"Content-Type": "application/connect+json"})
    assert answer.status == 200
    frames, data = [], answer.body
    while data:
        flags, size = struct.unpack(">BI", data[:5])
        frames.append((flags, json.loads(data[5:5 + size])))
        data = data[5 + size:]
    return frames


def test_a_stream_of_input(sandbox):
    stream = start(sandbox, "wc -c", stdin=True)
    events = stream.events()
    pid = next(events)["start"]["pid"]
    piece = base64.b64encode(b"x" * 50000).decode()
    frames = stream_input(sandbox, [
        {"start": {"process": {"pid": pid}}},
        *[{"data": {"input": {"stdin": piece}}}, {"keepalive": {}}] * 100])
    assert frames == [(0, {}), (2, {})]
    unary(sandbox, "CloseStdin", {"process": {"pid": pid}})
    assert base64.b64decode(next(events)["data"]["stdout"]) == b"5000000\n"


def test_a_stream_of_input_for_nobody(sandbox):
    data = {"data": {"input": {"stdin": "YQ=="}}}
    for messages, code in (([data], "invalid_argument"), ([{}], "unimplemented"),
                           ([{"start": {"process": {"pid": 1 << 30}}}], "not_found")):
        (flags, end), = stream_input(sandbox, messages)
        assert (flags, end["error"]["code"]) == (2, code)


def test_a_reader_that_stops_does_not_stop_the_others(local, sandbox):
    if isinstance(local, OrdinaryLocal):
        pytest.skip("takes its time, and is the same in both tiers")
    reading = start(sandbox, "read x; head -c 100000000 /dev/zero", stdin=True)
    events = reading.events()
    pid = next(events)["start"]["pid"]
    stalled = Stream(sandbox, "Connect", {"process": {"pid": pid}})
    next(stalled.events())
    unary(sandbox, "SendInput", {"process": {"pid": pid}, "input": {"stdin": "Cg=="}})
    total = sum(len(base64.b64decode(e["data"]["stdout"])) for e in events if "data" in e)
    assert total == 100000000 and reading.end == {}
    some = sum(len(base64.b64decode(e["data"]["stdout"])) for e in stalled.events() if "data" in e)
    assert 0 < some < total
    assert stalled.end["error"]["code"] == "aborted"


def test_a_slow_reader_holds_up_its_own_process_only(sandbox):
    stalled = start(sandbox, "head -c 100000000 /dev/zero; touch /tmp/all-written")
    next(stalled.events())
    _, output, _ = run(sandbox, "seq 1 1000000 | tail -n 1")
    assert output["stdout"] == b"1000000\n"
    assert run(sandbox, "test -e /tmp/all-written")[2]["exitCode"] == 1
    total = sum(len(base64.b64decode(e["data"]["stdout"])) for e in stalled.events() if "data" in e)
    assert total == 100000000


def test_many_at_once(sandbox):
    """Every stream gets its own output and end."""
    results = {}

    def one(i):
        results[i] = run(sandbox, "for j in 1 2 3; do echo %d.$j; sleep 0.01; done; exit %d"
                         % (i, i))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(40):
        _, output, end = results[i]
        assert output["stdout"].decode() == "%d.1\n%d.2\n%d.3\n" % (i, i, i)
        assert end.get("exitCode", 0) == i


def test_zombies_are_collected(sandbox):
    run(sandbox, "for i in $(seq 20); do (sleep 0.05 &) ; done")
    wait_until(lambda: run(sandbox, "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null")[1]
               ["stdout"] == b"", 20)


def test_a_half_sent_request_harms_nobody(sandbox):
    host, port = sandbox.api.address.rsplit(":", 1)
    head = "".join("%s: %s\r\n" % h for h in sandbox.headers().items())
    with socket.create_connection((host, int(port))) as s:
        s.sendall(("POST /process.Process/Start HTTP/1.1\r\nHost: x\r\n%sContent-Type: "
                   "application/connect+json\r\nContent-Length: 100\r\n\r\n" % head).encode()
                  + b"\0\0\0\0\x5f{")
    assert run(sandbox, "echo still here")[1]["stdout"] == b"still here\n"
