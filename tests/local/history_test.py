"""What is known of sandboxes: their metrics and their logs."""

import json
import struct
import time
from datetime import datetime

import pytest
from harness import programs
from tiers import local  # noqa: F401, the fixture
from wire import api  # noqa: F401, the fixture

METRICS = {"timestamp", "timestampUnix", "cpuCount", "cpuUsedPct", "memUsed", "memTotal",
           "memCache", "diskUsed", "diskTotal"}


@pytest.fixture(scope="module")
def sandbox(api):
    sandbox = api.create(timeout=600)
    yield sandbox
    sandbox.delete()


def metrics(sandbox, query=""):
    answer = sandbox.api.call("GET", "/sandboxes/%s/metrics%s" % (sandbox.id, query))
    assert answer.status == 200, answer.body
    return answer.json


def logs(api, sandbox_id, query=""):
    answer = api.call("GET", "/v2/sandboxes/%s/logs%s" % (sandbox_id, query))
    assert answer.status == 200, answer.body
    return answer.json["logs"]


def start(process):
    """A request of process.Process/Start."""
    message = json.dumps({"process": process}).encode()
    return struct.pack(">BI", 0, len(message)) + message


def ms(entry):
    return datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")).timestamp() * 1000


def test_metrics_come_soon_and_are_whole(sandbox):
    first = programs.wait_until(lambda: metrics(sandbox), 5)[0]
    assert set(first) == METRICS
    assert abs(first["timestampUnix"] - time.time()) < 10
    assert first["cpuCount"] >= 1
    assert 0 < first["memUsed"] < first["memTotal"]
    assert 0 <= first["diskUsed"] < first["diskTotal"]


def test_metrics_tell_what_is_used(sandbox):
    def is_seen():
        last = metrics(sandbox)[-1:]
        return last and last[0]["memUsed"] >= 200 << 20 and last[0]["diskUsed"] >= 64 << 20 \
            and last[0]["cpuUsedPct"] > 1 / last[0]["cpuCount"]  # the machine has other work

    with sandbox.start("exec python3 -c 'x = bytearray(200 << 20)\nwhile True: pass'") as busy:
        sandbox.run("head -c 64M /dev/zero > /tmp/file")
        programs.wait_until(is_seen, 20)
        sandbox.run("kill %d; rm /tmp/file" % busy.pid)


def test_metrics_in_a_range(sandbox):
    at = programs.wait_until(lambda: metrics(sandbox), 5)[-1]["timestampUnix"]
    assert metrics(sandbox, "?start=%d&end=%d" % (at, at))[0]["timestampUnix"] == at
    assert metrics(sandbox, "?end=%d" % (at - 3600)) == []
    assert metrics(sandbox, "?start=%d" % (at - 5 * 3600)), "a long range has coarse samples"
    for query in ("?start=20&end=10", "?start=a", "?end=-1", "?start="):
        answer = sandbox.api.call("GET", "/sandboxes/%s/metrics%s" % (sandbox.id, query))
        assert (answer.status, answer.json["code"]) == (400, 400), query


def test_metrics_of_many(api, sandbox):
    other = api.create()
    programs.wait_until(lambda: metrics(sandbox) and metrics(other), 5)
    ids = ",".join((sandbox.id, other.id + "-6532622b", "i" + "z" * 20))
    found = api.call("GET", "/sandboxes/metrics?sandbox_ids=" + ids).json["sandboxes"]
    assert set(found) == {sandbox.id, other.id}
    assert set(found[other.id]) == METRICS
    other.delete()
    found = api.call("GET", "/sandboxes/metrics?sandbox_ids=" + ids).json["sandboxes"]
    assert set(found) == {sandbox.id}
    for query in ("", "?sandbox_ids=A", "?sandbox_ids=" + ",".join(["iabc"] * 101)):
        assert api.call("GET", "/sandboxes/metrics" + query).status == 400


def test_what_is_unknown_has_no_past(api):
    unknown = "/sandboxes/i%s/" % ("z" * 20)
    assert api.call("GET", unknown + "metrics").json == []
    assert api.call("GET", unknown + "logs").json == {"logs": [], "logEntries": []}
    assert api.call("GET", "/v2" + unknown + "logs").json == {"logs": []}
    for path in ("metrics", "logs"):
        assert api.call("GET", "/sandboxes/NO_ID/" + path).status == 400


def test_a_log_tells_of_a_sandbox_from_its_start_to_its_end(api):
    sandbox = api.create()
    assert sandbox.run("echo quick")[0] == 0
    assert sandbox.run("exit 3")[0] == 3
    programs.wait_until(lambda: len(logs(api, sandbox.id)) >= 5, 5)
    sandbox.delete()
    told = logs(api, sandbox.id, "?direction=forward")
    assert [entry["message"] for entry in told] == [
        "Sandbox started", "Process started", "Process ended", "Process started", "Process ended",
        "Sandbox ended"]
    assert all(set(e) == {"timestamp", "level", "message", "fields"} for e in told)
    assert all(e["level"] == "info" for e in told)
    assert told[0]["fields"] == {"logger": "sandbox"}
    assert told[1]["fields"]["cmd"] == "/bin/bash -l -c echo quick"
    assert told[4]["fields"]["result"] == "exit status 3"
    assert told[4]["fields"]["pid"] == told[3]["fields"]["pid"]
    assert told[5]["fields"]["reason"] == "deleted"
    assert logs(api, sandbox.id) == told[::-1]


def test_logs_by_cursor_limit_level_and_text(api, sandbox):
    for word in ("one", "two", "three"):
        sandbox.run("sleep 0.01; true " + word)
    whole = programs.wait_until(
        lambda: (lambda found: found if "three" in str(found[-1:]) and
                 found[-1]["message"] == "Process ended" else None)(
            logs(api, sandbox.id, "?direction=forward")), 5)
    assert logs(api, sandbox.id, "?direction=forward&limit=2") == whole[:2]
    assert logs(api, sandbox.id, "?limit=2") == whole[:-3:-1]
    assert logs(api, sandbox.id, "?limit=0") == []
    cut = int(ms(whole[-1]))
    since = logs(api, sandbox.id, "?direction=forward&cursor=%d" % cut)
    until = logs(api, sandbox.id, "?direction=backward&cursor=%d" % cut)
    assert until[::-1] + since == whole and since
    assert [e["message"] for e in logs(api, sandbox.id, "?search=Sandbox")] == ["Sandbox started"]
    assert logs(api, sandbox.id, "?search=sandbox") == []
    assert logs(api, sandbox.id, "?level=error") == []
    assert logs(api, sandbox.id, "?level=info&direction=forward") == whole
    for query in ("?limit=1001", "?limit=x", "?direction=up", "?level=loud", "?cursor=-1",
                  "?search=" + "x" * 257):
        answer = api.call("GET", "/v2/sandboxes/%s/logs%s" % (sandbox.id, query))
        assert (answer.status, answer.json["code"]) == (400, 400), query


def test_a_command_that_cannot_start_is_an_error(api, sandbox):
    sandbox.request("POST", "/process.Process/Start", start({"cmd": "true", "cwd": "/no/such/folder"}),
                    headers={"Content-Type": "application/connect+json"})
    errors = programs.wait_until(lambda: logs(api, sandbox.id, "?level=error"), 5)
    assert "/no/such/folder" in errors[0]["fields"]["result"]
    assert errors[0]["fields"]["cmd"] == "true"


def test_old_logs_are_lines_of_json(api):
    sandbox = api.create()
    path = "/sandboxes/%s/logs" % sandbox.id
    sandbox.run("true")
    programs.wait_until(lambda: len(api.call("GET", path).json["logs"]) == 3, 5)
    answer = api.call("GET", path).json
    assert len(answer["logs"]) == len(answer["logEntries"])
    for line, entry in zip(answer["logs"], answer["logEntries"]):
        told = json.loads(line["line"])
        assert line["timestamp"] == entry["timestamp"]
        assert (told["level"], told["message"]) == (entry["level"], entry["message"])
        assert told["logger"] == entry["fields"]["logger"]
    assert [ms(e) for e in answer["logs"]] == sorted(ms(e) for e in answer["logs"])
    assert len(api.call("GET", path + "?limit=1").json["logs"]) == 1
    behind = int(ms(answer["logs"][-1])) + 1
    assert api.call("GET", path + "?start=%d" % behind).json["logs"] == []
    sandbox.delete()


def test_the_stream_behind_it_is_not_for_the_outside(sandbox):
    answer = sandbox.request("GET", "/events")
    assert answer.status == 404
    assert answer.json == {"message": "Not found", "path": "/events", "code": 404}
