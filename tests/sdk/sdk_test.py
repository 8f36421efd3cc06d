"""E2B's own SDKs, unmodified, through every method they have, against e2b-local.

Each driver compares what ran with what the SDK's classes expose, so a method, or an option of one,
that a new version brings fails here until it is driven or excused by name.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import programs
from local.tiers import OrdinaryLocal


def drive(local, command, **env):
    env = {**os.environ, "E2B_API_KEY": programs.API_KEY, "E2B_API_URL": local.url,
           "E2B_SANDBOX_URL": local.url, "E2B_LOCAL_TIER": local.ready["tier"], **env}
    done = subprocess.run(command, env=env, capture_output=True, timeout=100, check=False,
                          encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + local.tail()


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_python(local, flavour):
    python = os.environ.get("SANDBOXD_TEST_E2B_PYTHON", "")
    if not os.path.exists(python):
        pytest.skip("SANDBOXD_TEST_E2B_PYTHON does not name a Python that has E2B's SDK")
    drive(local, [python, programs.find("tests/sdk/python_driver.py"), flavour])


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as an ordinary user already")
def test_python_where_an_ordinary_user_runs_it(data_dir):
    folder = Path(data_dir) / "ordinary"
    folder.mkdir()
    os.chmod(data_dir, 0o755)
    local = OrdinaryLocal(folder)
    try:
        test_python(local, "sync")
    finally:
        local.stop()


def test_javascript(local):
    modules = os.environ.get("SANDBOXD_TEST_E2B_NODE_MODULES", "")
    if not os.path.exists(modules + "/e2b"):
        pytest.skip("SANDBOXD_TEST_E2B_NODE_MODULES does not name a folder that has E2B's SDK, "
                    "which needs Node 20")
    drive(local, [shutil.which("node"), programs.find("tests/sdk/javascript_driver.cjs")],
          E2B_NODE_MODULES=modules)


TEMPLATE = {"aliases": ["hello"], "envs": {"GREETING": "hello"}, "workdir": "/home/user/project",
            "startCmd": "echo at the start > started", "readyCmd": "test -s started",
            "memoryMB": 321}


@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_python_and_a_template(data_dir, flavour):
    python = os.environ.get("SANDBOXD_TEST_E2B_PYTHON", "")
    if not os.path.exists(python):
        pytest.skip("SANDBOXD_TEST_E2B_PYTHON does not name a Python that has E2B's SDK")
    folder = Path(data_dir) / "templates" / "greeter"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "template.json").write_text(json.dumps(TEMPLATE), encoding="utf-8")
    local = programs.Local(data_dir / ("templated-" + flavour),
                           "--template-dir=%s" % folder.parent)
    try:
        drive(local, [python, programs.find("tests/sdk/python_template.py"), flavour])
    finally:
        local.stop()
