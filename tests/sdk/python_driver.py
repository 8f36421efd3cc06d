"""python_driver.py sync|async: every method of E2B's Python SDK against e2b-local; see sdk_test.py.

Prints a line for each case. Ends with 1 if one failed, or if the SDK has a method, or a method has
an option, that neither ran nor stands in NOT_APPLICABLE with its reason.
"""

import asyncio
import sys
import time
import traceback

import e2b
import python_cases
import python_life
from python_watch import Seen, Watched

SHELL = "said to commands.run, which has it too"
MCP = "the MCP gateway is a program of E2B's own templates"
NOT_APPLICABLE = {
    "Sandbox.create(iam)": "workload identity is a service of E2B's cloud",
    "Sandbox.create(mcp)": MCP,
    "Sandbox.create(volume_mounts)": "volumes are a service of E2B's cloud",
    "Sandbox.get_mcp_token": MCP,
    "Sandbox.get_mcp_url": MCP,
    "Git.clone(dangerously_store_credentials)": "takes a remote that asks for a password",
    **{"Git.%s(%s)" % (name, option): "takes a remote that asks for a password"
       for name in ("clone", "pull", "push") for option in ("username", "password")},
}


class Sdk:
    def __init__(self, sync):
        self.sync = sync
        self.pause = lambda: asyncio.sleep(0.01)
        if sync:
            from e2b.sandbox_sync import paginator
            from e2b.sandbox_sync.commands import command, command_handle, pty
            from e2b.sandbox_sync.filesystem import filesystem, watch_handle
            from e2b.sandbox_sync import git
            handle, watch, prefix = command_handle.CommandHandle, watch_handle.WatchHandle, ""
            sandbox, more = e2b.Sandbox, {}
        else:
            from e2b.sandbox_async import paginator
            from e2b.sandbox_async.commands import (
                command, command_handle, command_input_handle, pty)
            from e2b.sandbox_async.filesystem import filesystem, watch_handle
            from e2b.sandbox_async import git
            handle, watch, prefix = (
                command_handle.AsyncCommandHandle, watch_handle.AsyncWatchHandle, "Async")
            sandbox = e2b.AsyncSandbox
            more = {command_input_handle.AsyncCommandInputHandle: "CommandInputHandle"}
        self.seen = Seen({
            sandbox: "Sandbox", command.Commands: "Commands", pty.Pty: "Pty",
            filesystem.Filesystem: "Filesystem", git.Git: "Git", handle: "CommandHandle",
            watch: "WatchHandle", **more,
            getattr(paginator, prefix + "SandboxPaginator"): "SandboxPaginator",
            getattr(paginator, prefix + "SnapshotPaginator"): "SnapshotPaginator"})
        self.Sandbox = Watched(self.seen, sandbox)

    def service(self, client, name):
        """A class of the client's, of this flavour."""
        return Watched(Seen({getattr(client, name): name, getattr(client, "Async" + name): name}),
                       getattr(client, name if self.sync else "Async" + name))

    def run(self, coroutine):
        if not self.sync:
            return LOOP.run_until_complete(coroutine)
        try:
            coroutine.send(None)  # nothing in it waits
        except StopIteration as done:
            return done.value
        raise AssertionError("the synchronous SDK awaited something")


LOOP = asyncio.new_event_loop()
ON_ONE_SANDBOX = [
    python_cases.run, python_cases.background, python_cases.stdin, python_cases.pty,
    python_cases.write_and_read, python_cases.tree, python_cases.watch, python_cases.urls,
    python_cases.ports, python_cases.git, python_life.create_and_list,
    python_life.end]
ALONE = [python_life.services, python_life.idempotency, python_life.pause, python_life.lifecycle,
         python_life.snapshots, python_life.network, python_life.metrics]


# What the runtime does not serve yet; while there is any, methods that never ran are no failure.
LATER = []


async def create(sdk):
    return await sdk.Sandbox.create("base", metadata={"purpose 1": "a&b"}, envs={"FOO": "bar"},
                                    timeout=120, secure=True, allow_internet_access=False)


def main():
    sdk = Sdk(sys.argv[1] == "sync")
    failed = []
    sandbox = sdk.run(create(sdk))
    for case in ON_ONE_SANDBOX + ALONE:
        if case in LATER:
            continue
        begun = time.monotonic()
        try:
            sdk.run(case(sdk, sandbox) if case in ON_ONE_SANDBOX else case(sdk))
            print("passed %s in %.2f s" % (case.__name__, time.monotonic() - begun))
        except Exception:
            failed.append(case.__name__)
            print("FAILED %s" % case.__name__)
            traceback.print_exc(file=sys.stdout)
    excuses = dict(NOT_APPLICABLE)
    for what in ("envs", "user", "cwd", "timeout"):
        excuses.update({w: SHELL for w in sdk.seen.missing({})[0]
                        if w.startswith("Git.") and w.endswith("(%s)" % what)})
    missing, needless = sdk.seen.missing(excuses)
    for what in missing:
        print("never ran: %s" % what)
    for what in needless:
        print("ran, or is not there, so it needs no excuse: %s" % what)
    sys.exit(1 if failed or not LATER and (missing or needless) else 0)


if __name__ == "__main__":
    main()
