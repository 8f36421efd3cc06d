"""What people and pages see of e2b-local: env, status, ca; leave for browsers; limits of rate."""

import json
import os
import subprocess

import pytest
from harness import programs
from wire import KEY, Api, api  # noqa: F401, the fixture


def call(*args, **env):
    return programs.run("runtime/local/e2b-local", *args, env=env)


# ---- the verbs ----

def sourced(text):
    """The environment of a shell that has evaluated the text."""
    done = subprocess.run(["sh", "-c", 'eval "$1"; env -0', "sh", text], env={"PATH": os.defpath},
                          stdout=subprocess.PIPE, check=True, encoding="utf-8")
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if pair)


def test_env_is_what_a_client_needs(local):
    for found_by in ("--listen=" + local.address, "--data-dir=%s" % local.data_dir):
        done = call("env", found_by)
        assert done.returncode == 0 and done.stderr == ""
        env = sourced(done.stdout)
        assert env["E2B_API_URL"] == env["E2B_SANDBOX_URL"] == local.url
        assert env["E2B_DOMAIN"] == "localhost:%d" % local.port
        assert "NODE_EXTRA_CA_CERTS" not in env
        address = env["E2B_API_URL"][len("http://"):]
        assert Api(address, env["E2B_API_KEY"]).call("GET", "/sandboxes").status == 200


def test_env_for_files(local):
    plain = call("env", "--plain", E2B_LOCAL_LISTEN=local.address)
    lines = dict(line.split("=", 1) for line in plain.stdout.splitlines())
    assert lines["E2B_API_URL"] == local.url
    assert lines["E2B_API_KEY"].startswith("e2b_")


def test_env_of_a_server_with_key_and_tls(data_dir):
    server = programs.Local(data_dir / "it's here", "--api-key=e2b_abc", "--tls")
    try:
        found_by = "--data-dir=%s" % server.data_dir
        without = call("env", found_by)
        assert without.returncode == 0 and "--api-key" in without.stderr
        assert "E2B_API_KEY" not in sourced(without.stdout)
        env = sourced(call("env", found_by, E2B_LOCAL_API_KEY="e2b_abc").stdout)
        assert env["E2B_API_KEY"] == "e2b_abc"
        assert env["NODE_EXTRA_CA_CERTS"] == str(server.data_dir / "ca.pem")
        assert call("ca", found_by).stdout.rstrip("\n") == env["NODE_EXTRA_CA_CERTS"]
        assert call("ca", "--listen=" + server.address).stdout == call("ca", found_by).stdout
        pem = call("ca", found_by, "--pem").stdout
        assert pem == (server.data_dir / "ca.pem").read_text()
        assert "PRIVATE" not in pem
    finally:
        server.stop()


def test_the_authority_may_come_before_the_server(data_dir):
    first = call("ca", "--data-dir=%s" % (data_dir / "later"), "--pem")
    assert first.returncode == 0 and "BEGIN CERTIFICATE" in first.stdout
    server = programs.Local(data_dir / "later", "--tls")
    try:
        assert (data_dir / "later" / "ca.pem").read_text() == first.stdout
    finally:
        server.stop()


def test_status_tells_how_it_is(local, api):
    sandbox = api.create()
    status = call("status", "--listen=" + local.address)
    assert status.returncode == 0
    assert local.address in status.stdout and local.ready["isolation"] in status.stdout
    told = json.loads(call("status", "--json", "--data-dir=%s" % local.data_dir).stdout)
    assert told["tier"] == local.ready["tier"]
    assert told["sandboxes"] == len(api.call("GET", "/sandboxes").json) > 0
    assert told["dataDir"] == str(local.data_dir)
    sandbox.delete()


@pytest.mark.parametrize("verb", ["env", "status", "ca"])
def test_verbs_fail_with_a_sentence(verb, local, tmp_path):
    nobody = call(verb, "--listen=127.0.0.1:1")
    assert nobody.returncode == 3 and "nothing answers" in nobody.stderr and not nobody.stdout
    for wrong in (["--no-such-option"], ["operand"], ["--listen=nowhere"]):
        done = call(verb, *wrong)
        assert done.returncode == 2 and done.stderr.startswith("e2b-local: "), wrong
    usage = call(verb, "--help")
    assert usage.returncode == 0 and usage.stdout.startswith("Usage: e2b-local " + verb)
    if verb != "ca":
        unused = call(verb, "--data-dir=%s" % tmp_path)
        assert unused.returncode == 3 and str(tmp_path) in unused.stderr
    else:
        assert call(verb, "--listen=" + local.address).returncode == 3  # it has no TLS


def test_strangers_do_not_learn_where_the_data_is(api):
    assert "dataDir" in api.request("GET", "/health").json
    foreign = api.request("GET", "/health", headers={"Host": "attacker.example.com"})
    assert foreign.status == 200 and "dataDir" not in foreign.json


# ---- browsers ----

def test_pages_of_this_machine_may_ask(api):
    for origin in ("http://localhost:5173", "http://127.0.0.1", "https://app.localhost"):
        asked = api.request("OPTIONS", "/sandboxes", headers={
            "Origin": origin, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key,lang"})
        assert asked.status == 204
        assert asked.headers["Access-Control-Allow-Origin"] == origin
        assert "DELETE" in asked.headers["Access-Control-Allow-Methods"]
        assert asked.headers["Access-Control-Allow-Headers"] == "x-api-key,lang"
        for answer in (api.call("GET", "/v2/sandboxes", Origin=origin),
                       api.call("GET", "/no/such/route", Origin=origin),
                       api.call("GET", "/sandboxes/i" + "z" * 20, Origin=origin)):
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "X-Next-Token" in answer.headers["Access-Control-Expose-Headers"]
            assert answer.headers["Vary"] == "Origin"


def test_pages_of_other_sites_may_not(api):
    for origin in ("https://example.com", "null", "http://localhost.example.com"):
        asked = api.request("OPTIONS", "/sandboxes", headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in asked.headers
        answer = api.call("GET", "/sandboxes", Origin=origin)
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_nothing_is_said_of_it_to_others(api):
    assert not [name for name in api.call("GET", "/sandboxes").headers
                if name.lower().startswith(("access-control", "ratelimit"))]


def test_a_key_lets_any_page_ask(data_dir):
    server = programs.Local(data_dir / "cors", "--api-key=" + KEY)
    try:
        answer = Api(server.address).call("GET", "/sandboxes", Origin="https://example.com")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
    finally:
        server.stop()


# ---- limits of rate ----

def test_rates_are_limited_by_route(data_dir):
    server = programs.Local(data_dir / "rate", "--rate-limit=5")
    try:
        api = Api(server.address)
        answers = [api.call("GET", "/sandboxes") for _ in range(5)]
        assert {a.status for a in answers} == {200}
        assert all(a.headers["RateLimit-Limit"] == "5" for a in answers)
        assert answers[0].headers["RateLimit-Remaining"] == "4"
        assert int(answers[-1].headers["RateLimit-Reset"]) == 1
        denied = programs.wait_until(
            lambda: next((a for a in (api.call("GET", "/sandboxes") for _ in range(10))
                          if a.status != 200), None), 10)
        assert denied.status == 429
        assert denied.json == {"code": 429, "message": "Rate limit exceeded"}
        assert int(denied.headers["Retry-After"]) >= 1
        assert denied.headers["RateLimit-Remaining"] == "0"
        assert api.call("GET", "/v2/sandboxes").status == 200  # another route
        programs.wait_until(lambda: api.call("GET", "/sandboxes").status == 200, 5)
    finally:
        server.stop()
