"""Fixtures of every test in Python: a local E2B, pods in front of it, and sandboxes in it."""

import os
import shutil
import tempfile
from pathlib import Path

import grpc
import pytest
from harness import api, leftovers, programs
from harness.service import Service


def pytest_addoption(parser):
    parser.addoption("--backend", choices=["local", "envd"], default="local",
                     help="what serves the traffic of sandboxes: the local runtime's own agent, "
                          "or E2B's envd")
    parser.addoption("--archive", choices=["directory", "s3"], default="directory",
                     help="where archives are kept")


def pytest_configure(config):
    programs.adopt_orphans()


def pytest_collection_modifyitems(config, items):
    if config.getoption("backend") != "envd":
        return
    # All sandboxes are one there, so cases that take one to themselves are left out.
    alone = [item for item in items if "new_sandbox" in item.fixturenames]
    items[:] = [item for item in items if item not in alone]
    config.hook.pytest_deselected(items=alone)
    reason = None
    if not os.environ.get("SANDBOXD_TEST_ENVD"):
        reason = "SANDBOXD_TEST_ENVD does not name a build of E2B's envd"
    elif os.geteuid() != 0:
        reason = "E2B's envd takes root"
    for item in items if reason else []:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    """No process survives the tests of a file."""
    yield
    leftovers.reap()
    left = leftovers.none_within(10, lambda: leftovers.descendants(os.getpid()))
    assert not left, "left running: %s" % [leftovers.command_line(pid) for pid in left]


@pytest.fixture(scope="session")
def data_dir():
    """A folder for one program's data; nothing may stay mounted below it."""
    path = tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp")
    yield Path(path)
    left = leftovers.none_within(5, lambda: leftovers.mounts_below(path))
    assert not left, "left mounted: %s" % left
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def local(data_dir, pytestconfig):
    """E2B on this machine; one for all tests of a file."""
    program = programs.Local(data_dir / "local")
    if pytestconfig.getoption("backend") == "envd":
        program.envd = programs.Envd(os.environ["SANDBOXD_TEST_ENVD"])
    yield program
    if program.envd:
        program.envd.stop()
    program.stop()


@pytest.fixture(scope="session")
def service(local):
    """Two pods in front of it, the second one for what must not depend on the pod."""
    with Service(local) as service:
        yield service


@pytest.fixture(scope="session")
def pods(service):
    return service.pods


@pytest.fixture(scope="session")
def stub(service):
    return service.stub(0)


@pytest.fixture(scope="session")
def other_stub(service):
    return service.stub(1)


@pytest.fixture(scope="session")
def sandbox(stub):
    """The id of a sandbox shared by tests that do not harm each other."""
    created = stub.CreateSandbox(api.CreateSandboxRequest(timeout=api.seconds(2700)), timeout=60)
    yield created.sandbox.sandbox_id
    stub.DeleteSandbox(api.DeleteSandboxRequest(
        sandbox_id=created.sandbox.sandbox_id, allow_missing=True), timeout=30)


@pytest.fixture
def new_sandbox(stub):
    """Makes sandboxes that are gone after the test."""
    made = []

    def make(**fields):
        fields.setdefault("timeout", api.seconds(600))
        made.append(stub.CreateSandbox(api.CreateSandboxRequest(**fields), timeout=60).sandbox)
        return made[-1].sandbox_id

    yield make
    for sandbox in made:
        stub.DeleteSandbox(api.DeleteSandboxRequest(
            sandbox_id=sandbox.sandbox_id, allow_missing=True), timeout=30)


@pytest.fixture
def fails():
    """Checks how a call fails: fails(code, reason, call, request) returns its details."""
    def check(code, reason, call, *args, **kwargs):
        kwargs.setdefault("timeout", 30)
        with pytest.raises(grpc.RpcError) as caught:
            answer = call(*args, **kwargs)
            if hasattr(answer, "__next__"):
                for _ in answer:
                    pass
        return api.check_error(caught.value, code, reason)
    return check
