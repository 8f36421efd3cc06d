"""What a confined image must be, for the test of its root and for the replay of its Dockerfile."""

import os
import re
import subprocess
import sys
from pathlib import Path

from harness import api
from harness.programs import API_KEY, Program

MOST_BYTES = 40 << 20


def size(root):
    done = subprocess.run(["du", "-sb", root], stdout=subprocess.PIPE, check=True, encoding="ascii")
    return int(done.stdout.split()[0])


class Confined(Program):
    """sandboxd in an image's root, in front of the E2B given."""

    def __init__(self, root, entrypoint, local):
        super().__init__(
            "confined", [sys.executable, Path(__file__).with_name("confine.py"), root, *entrypoint],
            {"E2B_API_KEY": API_KEY, "E2B_API_URL": local.url, "E2B_SANDBOX_URL": local.url,
             "SANDBOXD_LISTEN": "127.0.0.1:0", "SANDBOXD_ADMIN_LISTEN": "127.0.0.1:0"})
        self.wait_ready()

    def assert_confined(self):
        said = dict(re.findall(r"^(\w+):[ \t]*(.*)$", Path(
            "/proc/%d/status" % self.pid).read_text(encoding="ascii"), re.MULTILINE))
        assert said["Uid"].split() == said["Gid"].split() == ["65532"] * 4, said["Uid"]
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(said[kind], 16) == 0, kind
        assert said["NoNewPrivs"] == "1" and said["Groups"] == ""
        mounts = Path("/proc/%d/mountinfo" % self.pid).read_text(encoding="ascii").splitlines()
        assert {line.split()[4]: line.split()[5].split(",")[0] for line in mounts} == {
            "/": "ro", "/proc": "ro"}

    def serve_a_call(self):
        """From the creation of a sandbox to what a command in it prints."""
        with api.channel(self.address) as channel:
            stub = api.Stub(channel)
            made = stub.CreateSandbox(api.CreateSandboxRequest(), timeout=60).sandbox.sandbox_id
            try:
                printed = b"".join(
                    event.stdout for response in stub.RunCommand(api.RunCommandRequest(
                        sandbox_id=made, shell="echo from a sandbox"), timeout=60)
                    for event in response.events)
            finally:
                stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=made), timeout=60)
        assert printed == b"from a sandbox\n", printed


def judge(root, entrypoint, local):
    """Returns the bytes of an image that is as it must be."""
    assert os.geteuid() == 0
    pod = Confined(root, entrypoint, local)
    try:
        pod.assert_confined()
        pod.serve_a_call()
    finally:
        pod.stop()
    assert size(root) < MOST_BYTES
    return size(root)
