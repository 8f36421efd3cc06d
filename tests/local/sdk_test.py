"""E2B's own SDKs, unmodified, against e2b-local."""

import os
import shutil
import subprocess

import pytest
from harness import programs
from wire import KEY


def first_calls(local, command, **env):
    env = {**os.environ, "E2B_API_KEY": KEY, "E2B_API_URL": local.url,
           "E2B_SANDBOX_URL": local.url, **env}
    done = subprocess.run(command, env=env, capture_output=True, timeout=100, check=False,
                          encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr + local.tail()
    assert done.stdout.endswith("as E2B has it\n")


def test_python(local):
    python = os.environ.get("SANDBOXD_TEST_E2B_PYTHON", "")
    if not os.path.exists(python):
        pytest.skip("SANDBOXD_TEST_E2B_PYTHON does not name a Python that has E2B's SDK")
    first_calls(local, [python, programs.find("tests/local/sdk_python.py")])


def test_javascript(local):
    modules = os.environ.get("SANDBOXD_TEST_E2B_NODE_MODULES", "")
    if not os.path.exists(modules + "/e2b"):
        pytest.skip("SANDBOXD_TEST_E2B_NODE_MODULES does not name a folder that has E2B's SDK, "
                    "which needs Node 20")
    first_calls(local, [shutil.which("node"), programs.find("tests/local/sdk_javascript.cjs")],
                E2B_NODE_MODULES=modules)
