"""docs/api.md is what the protos say, and its calls work as they are printed."""

import json
import os
import re
import signal
import subprocess

import pytest
from harness import api, programs

GRPCURL = os.environ.get("SANDBOXD_TEST_GRPCURL")
PAGE = programs.find("docs/api.md").read_text(encoding="utf-8")
LAST = ["SignalCommand", "Attach", "DeleteSnapshot", "DeleteSandbox"]  # they end what others need


def test_it_is_what_the_protos_say():
    """./dev docs writes it anew."""
    assert PAGE == programs.find("docs/made/api.md").read_text(encoding="utf-8")


def calls():
    """(RPC, shell command), in an order in which they work."""
    found = re.findall(r"### (\w+)\n.*?```sh\n(.*?)```", PAGE, re.DOTALL)
    return sorted(found, key=lambda call: LAST.index(call[0]) if call[0] in LAST else -1)


def start_what_they_name(stub, sandbox_id):
    for command_id, fields in {
            "cat": {"shell": "cat", "stdin": True},
            "server": {"shell": "exec python3 -m http.server --bind 127.0.0.1 8080"},
            "shell": {"shell": "exec sh", "pty": api.TerminalSize(cols=80, rows=24)}}.items():
        stream = stub.RunCommand(api.RunCommandRequest(
            sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=60)
        next(r for r in stream if r.events)
        stream.cancel()
    stub.GetSandboxUrl(api.GetSandboxUrlRequest(
        sandbox_id=sandbox_id, port=8080, wait_until_listening=api.seconds(60)), timeout=90)


def end_watch(stub, sandbox_id):
    """A watch goes on until its directory is gone, and can be read to its end then."""
    stub.MakeDirectory(api.MakeDirectoryRequest(sandbox_id=sandbox_id, path="out"), timeout=60)
    stream = stub.WatchDirectory(api.WatchDirectoryRequest(
        sandbox_id=sandbox_id, watch_id="out", path="out", recursive=True), timeout=60)
    next(r for r in stream if any(e.change.type == api.FileChange.TYPE_READY for e in r.events))
    stub.RemoveFile(api.RemoveFileRequest(
        sandbox_id=sandbox_id, path="out", recursive=True), timeout=60)
    assert any(e.HasField("closed") for r in stream for e in r.events)


def see_list(command, env):
    """What changes in the list of sandboxes is told without end."""
    with subprocess.Popen(["bash", "-c", command], env=env, stdout=subprocess.PIPE,
                          encoding="utf-8", start_new_session=True) as running:
        try:
            assert any("TYPE_SYNCED" in line for line in running.stdout), command
        finally:
            os.killpg(running.pid, signal.SIGTERM)


@pytest.mark.skipif(not GRPCURL, reason="grpcurl is not there: it takes a newer Go than Debian 12 has")
def test_its_calls_work(stub, pods):
    env = {**os.environ, "PATH": os.path.dirname(GRPCURL) + ":" + os.environ["PATH"]}
    seen = []
    for method, command in calls():
        command = command.replace("localhost:50051", pods[0].address)
        if method == "WatchDirectory":
            end_watch(stub, env["SANDBOX"])
        if method == "WatchSandboxes":
            see_list(command, env)
            seen.append(method)
            continue
        done = subprocess.run(["bash", "-c", command], env=env, capture_output=True,
                              encoding="utf-8", timeout=120, check=False)
        assert done.returncode == 0, "%s\n%s" % (command, done.stderr)
        seen.append(method)
        if method == "CreateSandbox":
            env["SANDBOX"] = json.loads(done.stdout)["sandbox"]["sandboxId"]
            start_what_they_name(stub, env["SANDBOX"])
        elif method == "ForkSandbox":
            fork = json.loads(done.stdout)
            for sandbox in fork["sandboxes"]:
                stub.DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox["sandboxId"]),
                                   timeout=30)
            stub.DeleteSnapshot(api.DeleteSnapshotRequest(snapshot_id=fork["snapshotId"]),
                                timeout=30)
        elif method == "CreateSnapshot":
            env["SNAPSHOT"] = json.loads(done.stdout)["snapshot"]["snapshotId"]
    service = api.POOL.FindServiceByName("sandbox.v1.SandboxService")
    assert sorted(seen) == sorted(m.name for m in service.methods)
