"""A pod without a key of its own: callers bring theirs, and E2B tells them apart."""

import grpc
import pytest
from fakes.e2b import SANDBOX, Answer, FakeE2B, describe
from harness import api, programs

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
MINE, YOURS, REVOKED = ("e2b_" + digit * 40 for digit in "123")
GET = api.GetSandboxRequest(sandbox_id=SANDBOX)


class TwoAccounts(FakeE2B):
    """One of them has the sandbox, the other nothing, and every other key is unknown."""

    def choose(self, method, path, headers, body):
        key = next((v for k, v in headers.items() if k.lower() == "x-api-key"), None)
        answer = super().choose(method, path, headers, body)
        if key == MINE:
            return answer
        if key == YOURS:
            return Answer(200, []) if path.split("?")[0].endswith("sandboxes") and method == "GET" \
                else Answer.error(404, "no such sandbox")
        return Answer.error(401, "invalid key")


@pytest.fixture(scope="module")
def e2b():
    fake = TwoAccounts()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def pod(e2b):
    pod = programs.Pod(e2b.url, None, "--auth=passthrough", api_key=None)
    yield pod
    pod.stop()
    said = "\n".join(pod.log)
    assert not [key for key in (MINE, YOURS, REVOKED) if key in said], "a key is in the log"


@pytest.fixture(scope="module")
def stub(pod):
    with api.channel(pod.address) as channel:
        yield api.Stub(channel)


@pytest.mark.parametrize("header", [("x-e2b-api-key", MINE), ("authorization", "Bearer " + MINE)])
def test_a_call_is_made_with_its_callers_key(e2b, stub, header):
    e2b.reset()
    got = stub.GetSandbox(GET, timeout=30, metadata=(header,))
    assert got.sandbox.sandbox_id == SANDBOX
    assert [h.get("X-API-KEY", h.get("X-API-Key")) for _, _, h, _ in e2b.requests] == [MINE]


def test_what_one_has_the_other_does_not_see(stub, fails):
    """Also from the pod's memory: it has just shown the sandbox to the first."""
    mine, yours = ((("x-e2b-api-key", key),) for key in (MINE, YOURS))
    for _ in range(2):
        assert stub.GetSandbox(GET, timeout=30, metadata=mine).sandbox.sandbox_id == SANDBOX
        fails(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND", stub.GetSandbox, GET, metadata=yours)
    listed = stub.ListSandboxes(api.ListSandboxesRequest(), timeout=30, metadata=mine)
    assert [s.sandbox_id for s in listed.sandboxes] == [describe()["sandboxID"]]
    assert not stub.ListSandboxes(api.ListSandboxesRequest(), timeout=30, metadata=yours).sandboxes


def test_no_key_and_keys_of_no_form_never_reach_e2b(e2b, stub, fails):
    e2b.reset()
    for metadata in ((), (("authorization", "Bearer "),), (("x-e2b-api-key", "a b"),),
                     (("x-e2b-api-key", "e2b_" + "a" * 300),)):
        fails(UNAUTHENTICATED, "UNAUTHENTICATED", stub.GetSandbox, GET, metadata=metadata)
    assert not e2b.requests


def test_a_key_that_e2b_does_not_know(stub, fails):
    fails(UNAUTHENTICATED, "UNAUTHENTICATED", stub.GetSandbox, GET,
          metadata=(("x-e2b-api-key", REVOKED),))
