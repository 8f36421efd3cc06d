"""The agent of local sandboxes answers as E2B's own does.

Without SANDBOXD_TEST_ENVD only ours is asked, and has to give the answers the cases expect. With it
E2B's agent has to give the same, or what differences.py says.
"""

import http.client
import json
import os
import secrets

import pytest
from harness import programs

import access_cases  # noqa: F401, each adds its cases
import download_cases  # noqa: F401
import filesystem_cases  # noqa: F401
import process_cases  # noqa: F401
import protocol_cases  # noqa: F401
import terminal_cases  # noqa: F401
import upload_cases  # noqa: F401
import watch_cases  # noqa: F401
from case import CASES
from differences import DIES, DIFFERENCES
from target import Target

NAMES = sorted(CASES)
ENVS = {"FROM_SANDBOX": "1", "E2B_SANDBOX": "changed"}


@pytest.fixture(scope="session")
def ours(local):
    key = {"X-API-Key": programs.API_KEY}
    api = Target(local.address, key, "", False)
    wanted = {"templateID": "base", "timeout": 600, "envVars": ENVS}
    sandbox = api.request("POST", "/v2/sandboxes", json.dumps(wanted), token=False).json
    route = {"E2b-Sandbox-Id": sandbox["sandboxID"], "E2b-Sandbox-Port": "49983"}
    yield Target(local.address, route, sandbox["envdAccessToken"], os.geteuid() == 0)
    api.request("DELETE", "/sandboxes/" + sandbox["sandboxID"], token=False)


def start_envd():
    """E2B's agent, and how to ask it."""
    envd = programs.Envd(os.environ["SANDBOXD_TEST_ENVD"])
    target = Target(envd.address, {}, secrets.token_hex(16), True)
    answer = target.request("POST", "/init", json.dumps(
        {"accessToken": target.token, "defaultUser": "user", "envVars": ENVS}), token=False)
    assert answer.status == 204
    return envd, target


@pytest.fixture(scope="session")
def theirs(ours):
    """Behind ours, so that both end before it is looked for what was left running."""
    envd, target = start_envd()
    yield target
    envd.stop()


def ask(target, name):
    target.begin(name)
    return CASES[name].ask(target)


def test_there_are_enough_cases():
    assert len(CASES) >= 500
    assert set(DIFFERENCES) <= set(CASES)
    assert all(len(d.reason) > 20 for d in DIFFERENCES.values())


@pytest.mark.parametrize("name", NAMES)
def test_ours(ours, name):
    assert ask(ours, name) == CASES[name].answer


def check_that_it_dies(name):
    envd, target = start_envd()
    try:
        ask(target, name)
    except (OSError, http.client.HTTPException):
        pass
    assert envd.process.wait(10) != 0


def those_for_theirs():
    """All cases, or a single one that says why there are none."""
    if not os.environ.get("SANDBOXD_TEST_ENVD"):
        reason = "SANDBOXD_TEST_ENVD does not name a build of E2B's envd"
    elif os.geteuid() != 0:
        reason = "E2B's envd takes root"
    else:
        return NAMES
    return [pytest.param("all", marks=pytest.mark.skip(reason=reason))]


@pytest.mark.parametrize("name", those_for_theirs())
def test_theirs(theirs, name):
    if name not in DIFFERENCES:
        assert ask(theirs, name) == CASES[name].answer
        return
    difference = DIFFERENCES[name]
    if difference.theirs is DIES:
        check_that_it_dies(name)
        return
    answer = ask(theirs, name)
    assert answer == difference.theirs, difference.reason
    assert answer != CASES[name].answer, "no difference any more: " + difference.reason
