"""The REST API of e2b-local, as E2B's clients use it."""

import concurrent.futures
import json
import re
import urllib.parse
from datetime import datetime, timedelta, timezone

import pytest
from harness import programs
from wire import Api, api, dial, read_head  # noqa: F401, the fixture


@pytest.fixture
def create(api):
    made = []

    def make(**fields):
        made.append(api.create(**fields))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.delete()


def left(detail):
    end = datetime.fromisoformat(detail["endAt"].replace("Z", "+00:00"))
    return (end - datetime.now(timezone.utc)).total_seconds()


def test_version_and_help():
    version = programs.run("runtime/local/e2b-local", "--version")
    assert version.returncode == 0 and version.stdout.startswith("e2b-local ")
    usage = programs.run("runtime/local/e2b-local", "--help")
    assert usage.returncode == 0 and "--listen=HOST:PORT" in usage.stdout
    wrong = programs.run("runtime/local/e2b-local", "--no-such-option")
    assert wrong.returncode == 2 and "--no-such-option" in wrong.stderr


def test_ready_line_tells_address_and_isolation(local, api):
    assert local.ready["tier"] in ("A", "B")
    assert local.port > 0
    health = api.request("GET", "/health")
    assert health.status == 200
    assert health.json["tier"] == local.ready["tier"]


def test_a_created_sandbox_has_what_clients_require(local, create):
    sandbox = create(metadata={"a": "b"})
    assert re.fullmatch("i[a-z0-9]{20}", sandbox.id)
    assert re.fullmatch("[0-9a-f]{64}", sandbox.token)
    for key in ("templateID", "clientID", "envdVersion"):
        assert sandbox.created[key]
    assert sandbox.created["domain"] == "localhost:%d" % local.port
    detail = sandbox.get().json
    assert detail["state"] == "running"
    assert detail["metadata"] == {"a": "b"}
    assert detail["envdAccessToken"] == sandbox.token
    for key in ("startedAt", "endAt", "cpuCount", "memoryMB", "diskSizeMB", "envdVersion"):
        assert detail[key], key


def test_a_create_said_twice_makes_one_sandbox(api):
    def create(key, **fields):
        return api.call("POST", "/v2/sandboxes", {"templateID": "base", **fields},
                        **{"Idempotency-Key": key})

    # Said at once, the second may be asked to come again.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(create, ["a-1"] * 4))
    assert {a.status for a in answers} <= {201, 409}
    assert all(a.json["error_code"] == "idempotency_in_progress" for a in answers if a.status == 409)
    made = {a.body for a in answers if a.status == 201} | {create("a-1").body}
    assert len(made) == 1

    other = create("a-1", timeout=100)
    assert (other.status, other.json["error_code"]) == (422, "idempotency_request_mismatch")
    for malformed in ("", "A", "a_b", "a" * 256):
        assert create(malformed).status == 400, malformed
    second = create("a-2")
    assert second.status == 201 and second.body not in made

    for body in (made.pop(), second.body):
        api.call("DELETE", "/sandboxes/" + json.loads(body)["sandboxID"])
    again = create("a-1", timeout=100)
    assert again.status == 201  # the key is as old as its sandbox
    api.call("DELETE", "/sandboxes/" + again.json["sandboxID"])


def test_defaults_differ_by_version(create):
    old, new = create(v2=False), create()
    assert old.token is None
    assert 13 < left(old.get().json) <= 15
    assert 290 < left(new.get().json) <= 300
    assert create(v2=False, secure=True).token


def test_bodies_may_be_chunked(api):
    with dial(api.address) as connection:
        body = json.dumps({"templateID": "base"}).encode()
        connection.sendall(
            b"POST /v2/sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-KEY: " + api.key.encode() +
            b"\r\nTransfer-Encoding: chunked\r\n\r\n" +
            b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        stream = connection.makefile("rb")
        head = read_head(stream)
        assert head[0] == "HTTP/1.1 201 Created"
        length = next(int(line.split(":")[1]) for line in head if line.startswith("Content-Length"))
        created = json.loads(stream.read(length))
    assert api.call("DELETE", "/sandboxes/" + created["sandboxID"]).status == 204


@pytest.mark.parametrize("body, status, word", [
    ({}, 400, "templateID"),
    ({"templateID": 7}, 400, "templateID"),
    ({"templateID": "a b"}, 400, "templateID"),
    ({"templateID": "no-such-template"}, 404, "no-such-template"),
    ({"templateID": "base", "timeout": 0}, 400, "timeout"),
    ({"templateID": "base", "timeout": -1}, 400, "timeout"),
    ({"templateID": "base", "timeout": 1.5}, 400, "timeout"),
    ({"templateID": "base", "timeout": "10"}, 400, "timeout"),
    ({"templateID": "base", "timeout": 24 * 3600 + 1}, 400, "24 hours"),
    ({"templateID": "base", "metadata": {"a": 1}}, 400, "metadata"),
    ({"templateID": "base", "metadata": ["a"]}, 400, "metadata"),
    ({"templateID": "base", "envVars": {"A=B": "c"}}, 400, "envVars"),
    ({"templateID": "base", "envVars": {"": "c"}}, 400, "envVars"),
    ({"templateID": "base", "envVars": {"A": "b\0c"}}, 400, "NUL"),
    ({"templateID": "base", "secure": "yes"}, 400, "secure"),
    ({"templateID": "base", "autoPause": "yes"}, 400, "autoPause"),
    ({"templateID": "base", "autoPauseMemory": 1}, 400, "autoPauseMemory"),
    ({"templateID": "base", "autoResume": True}, 400, "autoResume"),
    ({"templateID": "base", "autoResume": {"enabled": 1}}, 400, "enabled"),
    ({"templateID": "base", "volumeMounts": [{"name": "a", "path": "/a"}]}, 400, "volumeMounts"),
    ({"templateID": "base", "network": {"allowOut": ["example.com"]}}, 400, "ALL_TRAFFIC"),
    ({"templateID": "base", "network": {"denyOut": ["example.com"]}}, 400, "denied CIDR"),
    ({"templateID": "base", "network": {"maskRequestHost": "a/b"}}, 400, "mask request host"),
    ({"templateID": "base", "network": {"egressProxy": {"address": "a:1"}}}, 403, "not enabled"),
    ([], 400, "JSON object"),
])
def test_bad_creations_are_refused_in_a_sentence(api, body, status, word):
    for path in ("/sandboxes", "/v2/sandboxes"):
        answer = api.call("POST", path, body)
        assert answer.status == status
        assert answer.json["code"] == status
        assert word in answer.json["message"]


@pytest.mark.parametrize("body", ["", "{", "null", '{"templateID":"base"} x',
                                  '{"templateID":"\xff"}'])
def test_bodies_that_are_no_json_are_refused(api, body):
    answer = api.request("POST", "/sandboxes", body.encode("latin-1"), {"X-API-Key": api.key})
    assert answer.status == 400
    assert answer.json["code"] == 400


def test_fields_that_change_nothing_are_accepted(create):
    sandbox = create(autoPause=False, autoResume={"enabled": False}, autoPauseMemory=True,
                     mcp={"x": {}}, network={"allowPublicTraffic": True, "denyOut": ["0.0.0.0/0"]},
                     allow_internet_access=False, unknownToUs=1, volumeMounts=[])
    assert sandbox.get().json["allowInternetAccess"] is False


def test_keys_are_checked(api):
    missing = Api(api.address, None).call("GET", "/sandboxes")
    assert missing.status == 401 and missing.json["code"] == 401
    for key in ("wrong", "e2b_", "e2b_XYZ", "E2B_00"):
        wrong = Api(api.address, key).call("GET", "/sandboxes")
        assert wrong.status == 401
        assert wrong.json["message"].startswith("Invalid API key\n")
    assert Api(api.address, "e2b_0123456789abcdef").call("GET", "/sandboxes").status == 200


def test_one_key_when_told_so(data_dir):
    with_key = programs.Local(data_dir / "key", "--api-key=e2b_abc")
    try:
        assert Api(with_key.address, "e2b_abc").call("GET", "/sandboxes").status == 200
        assert Api(with_key.address, "e2b_abd").call("GET", "/sandboxes").status == 401
        named = Api(with_key.address, "e2b_abc")
        assert named.call("GET", "/sandboxes", Host="elsewhere.example.com").status == 200
    finally:
        with_key.stop()


def test_foreign_names_are_refused_where_any_key_will_do(api):
    # A page could otherwise reach us through a name of its own (DNS rebinding).
    answer = api.call("GET", "/sandboxes", Host="attacker.example.com")
    assert answer.status == 403
    assert "--domain" in answer.json["message"]


def test_domain_is_told(data_dir):
    named = programs.Local(data_dir / "domain", "--domain=sandboxes.example.com")
    try:
        api = Api(named.address)
        sandbox = api.create()
        assert sandbox.created["domain"] == "sandboxes.example.com"
        assert sandbox.get().json["domain"] == "sandboxes.example.com"
        assert api.call("GET", "/sandboxes", Host="api.sandboxes.example.com").status == 200
        by_name = api.request("GET", "/health",
                              headers={"Host": "49983-%s.sandboxes.example.com" % sandbox.id})
        assert by_name.status == 204
    finally:
        named.stop()


def test_unknown_and_malformed_ids(api):
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/connect"), ("POST", "/timeout"),
                         ("POST", "/refreshes"), ("POST", "/pause")]:
        body = {"timeout": 10} if method == "POST" else None
        unknown = api.call(method, "/sandboxes/i" + "a" * 20 + path, body)
        assert (unknown.status, unknown.json["code"]) == (404, 404), path
        malformed = api.call(method, "/sandboxes/NOT_AN_ID" + path, body)
        assert (malformed.status, malformed.json["code"]) == (400, 400), path


def test_old_clients_append_a_client_id(api, create):
    sandbox = create()
    detail = api.call("GET", "/sandboxes/%s-%s" % (sandbox.id, sandbox.created["clientID"]))
    assert detail.json["sandboxID"] == sandbox.id


def test_a_template_is_looked_up_by_its_alias(api):
    found = api.call("GET", "/templates/aliases/base")
    assert (found.status, found.json) == (200, {"templateID": "base", "public": True})
    assert api.call("GET", "/templates/aliases/Base%3Adefault").status == 200
    for alias, status in (("no-such-name", 404), ("a%2Fb%2Fc", 400), ("%00", 400), ("a" * 300, 400)):
        assert api.call("GET", "/templates/aliases/" + alias).status == status, alias


def test_unknown_routes_and_methods(api):
    assert api.call("GET", "/no/such/route").status == 404
    assert api.call("GET", "/v2/sandboxes/" + "i" * 21).status == 404
    assert api.call("PATCH", "/sandboxes").status == 405
    for path in ("/v3/templates", "/volumes", "/volumes/x", "/secrets", "/teams"):
        answer = api.call("POST", path)
        assert answer.status == 501 and "he local runtime" in answer.json["message"], path
    assert api.call("GET", "/volumesque").status == 404


def test_deleting_is_for_once(create):
    sandbox = create()
    assert sandbox.delete().status == 204
    assert sandbox.delete().status == 404
    assert sandbox.get().status == 404


def test_connecting_only_extends(api, create):
    sandbox = create(timeout=100)
    for path in ("/sandboxes/%s/connect", "/v2/sandboxes/%s/connect"):
        answer = api.call("POST", path % sandbox.id, {"timeout": 50})
        assert answer.status == 200
        assert answer.json["envdAccessToken"] == sandbox.token
        assert 90 < left(sandbox.get().json) <= 100
    assert api.call("POST", "/sandboxes/%s/connect" % sandbox.id, {}).status == 400
    assert api.call("POST", "/v2/sandboxes/%s/connect" % sandbox.id, {}).status == 200
    assert 290 < left(sandbox.get().json) <= 300
    too_long = api.call("POST", "/sandboxes/%s/connect" % sandbox.id, {"timeout": 90000})
    assert too_long.status == 400


def test_timeout_sets_and_refresh_extends(api, create):
    sandbox = create(timeout=100)

    def post(what, body):
        return api.call("POST", "/sandboxes/%s/%s" % (sandbox.id, what), body).status

    assert post("timeout", {"timeout": 30}) == 204
    assert 20 < left(sandbox.get().json) <= 30
    assert post("timeout", {"timeout": 10 ** 6}) == 204  # clamped to the longest life
    assert 86300 < left(sandbox.get().json) <= 86400
    assert post("timeout", {"timeout": -1}) == 400
    assert post("timeout", {}) == 400
    assert post("timeout", {"timeout": 5}) == 204
    assert post("refreshes", {"duration": 1}) == 204
    assert 12 < left(sandbox.get().json) <= 15
    assert post("refreshes", None) == 204
    assert post("refreshes", {"duration": 60}) == 204
    assert post("refreshes", {"duration": 20}) == 204
    assert 50 < left(sandbox.get().json) <= 60
    assert post("refreshes", {"duration": 3601}) == 400


def metadata_query(pairs):
    """As the SDKs do it: every key and value, then the form, then the query."""
    form = urllib.parse.urlencode({urllib.parse.quote(k, safe=""): urllib.parse.quote(v, safe="")
                                   for k, v in pairs.items()})
    return urllib.parse.urlencode({"metadata": form})


def test_lists_are_filtered_by_metadata(api, create):
    one = create(metadata={"k 1": "v&2", "x": "+=%"})
    two = create(metadata={"k 1": "v&2"})
    create()
    for path in ("/sandboxes?", "/v2/sandboxes?"):
        both = api.call("GET", path + metadata_query({"k 1": "v&2"}))
        assert [s["sandboxID"] for s in both.json] == [two.id, one.id]
        narrow = api.call("GET", path + metadata_query({"k 1": "v&2", "x": "+=%"}))
        assert [s["sandboxID"] for s in narrow.json] == [one.id]
        assert api.call("GET", path + metadata_query({"k 1": "v"})).json == []
    assert "envdAccessToken" not in both.json[0]
    assert both.headers["X-Total-Running"] == "2"
    assert both.headers["X-Next-Token"] is None
    assert api.call("GET", "/v2/sandboxes?metadata=a").status == 400


def test_lists_have_pages(api, create):
    made = [create(metadata={"page": "yes"}).id for _ in range(7)]
    query = "/v2/sandboxes?limit=3&" + metadata_query({"page": "yes"})

    def walk(query):
        seen, token = [], None
        while True:
            page = api.call("GET", query + ("&nextToken=" + token if token else ""))
            assert page.status == 200 and 0 < len(page.json) <= 3
            seen += [s["sandboxID"] for s in page.json]
            token = page.headers["X-Next-Token"]
            if token is None:
                return seen
            token = urllib.parse.quote(token)

    assert walk(query) == made[::-1]
    assert walk(query + "&order=asc") == made
    assert api.call("GET", query + "&state=paused").json == []
    assert api.call("GET", query + "&template=other").json == []
    later = urllib.parse.quote((datetime.now(timezone.utc) + timedelta(hours=1)).isoformat())
    assert api.call("GET", query + "&startedAfter=" + later).json == []
    for bad in ("limit=0", "limit=101", "order=up", "state=gone", "nextToken=%21%21"):
        assert api.call("GET", "/v2/sandboxes?" + bad).status == 400


def test_no_domain_is_told_when_told_so(data_dir):
    unnamed = programs.Local(data_dir / "unnamed", "--domain=")
    try:
        assert Api(unnamed.address).create().created["domain"] is None
    finally:
        unnamed.stop()


def test_too_many_sandboxes(data_dir):
    small = programs.Local(data_dir / "small", "--max-sandboxes=2")
    try:
        api = Api(small.address)
        api.create(), api.create()
        refused = api.call("POST", "/v2/sandboxes", {"templateID": "base"})
        assert refused.status == 429
        assert refused.headers["Retry-After"] is None
        assert "limit" in refused.json["message"]
    finally:
        small.stop()
