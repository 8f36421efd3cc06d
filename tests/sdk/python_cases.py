"""What E2B's Python SDK can do, each method once, in either flavour: see python_driver.py.

Every method is awaited; where the flavours differ, `sdk.sync` tells which one this is.
"""

import http.client
import inspect
import io
import os
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone

from e2b import (
    AuthenticationException, CommandExitException, FileNotFoundException, FileType,
    FilesystemEventType, NotFoundException, PtySize, SandboxException, TimeoutException,
)

TIER = os.environ["E2B_LOCAL_TIER"]
ADDRESS = os.environ["E2B_API_URL"].removeprefix("http://")


async def raises(kind, call, *args, **kwargs):
    try:
        result = call(*args, **kwargs)
        if inspect.isawaitable(result):
            await result
    except kind as e:
        return e
    raise AssertionError("%s was not raised" % kind.__name__)


def fetch(host, headers=None):
    """A preview's answer: status and body. Its name need not resolve here."""
    connection = http.client.HTTPConnection(ADDRESS, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": host, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.01)


# --- commands ------------------------------------------------------------------------------------

async def run(sdk, sandbox):
    said = {"out": "", "err": ""}
    result = await sandbox.commands.run(
        "pwd; whoami; echo $FOO $MORE; echo oops >&2", envs={"MORE": "2"}, cwd="/tmp", user="user",
        timeout=20, on_stdout=lambda text: said.update(out=said["out"] + text),
        on_stderr=lambda text: said.update(err=said["err"] + text))
    assert (result.stdout, result.stderr, result.exit_code) == ("/tmp\nuser\nbar 2\n", "oops\n", 0)
    assert said == {"out": result.stdout, "err": result.stderr}
    failed = await raises(CommandExitException, sandbox.commands.run, "echo no; exit 3")
    assert (failed.exit_code, failed.stdout) == (3, "no\n")
    await raises(TimeoutException, sandbox.commands.run, "sleep 100", timeout=0.3)
    if TIER == "A":
        assert (await sandbox.commands.run("id -un", user="root")).stdout == "root\n"
    else:
        refused = await raises(AuthenticationException, sandbox.commands.run, "true", user="root")
        assert "'root' is not to be had" in str(refused)


async def background(sdk, sandbox):
    sleeper = await sandbox.commands.run("sleep 100", background=True)
    assert sleeper.pid in [process.pid for process in await sandbox.commands.list()]
    listen = {} if sdk.sync else {"on_stdout": print, "on_stderr": print}
    again = await sandbox.commands.connect(sleeper.pid, timeout=20, **listen)
    await (await sandbox.commands.connect(sleeper.pid)).disconnect()
    assert await sleeper.kill()
    await raises(CommandExitException, sleeper.wait)
    await raises(CommandExitException, again.wait)
    assert not await sandbox.commands.kill(sleeper.pid)

    other = await sandbox.commands.run("sleep 100", background=True)
    assert await sandbox.commands.kill(other.pid)
    ended = await raises(CommandExitException, other.wait)
    assert ended.exit_code == -1 or ended.exit_code == 137, ended.exit_code
    await raises(NotFoundException, sandbox.commands.connect, 999_999)


async def stdin(sdk, sandbox):
    reader = await sandbox.commands.run("cat; echo done", background=True, stdin=True)
    await sandbox.commands.send_stdin(reader.pid, "typed\n")
    await reader.send_stdin(b"\xc3\xbc\n")
    await sandbox.commands.close_stdin(reader.pid)
    result = await reader.wait() if not sdk.sync else await reader.wait(
        on_stdout=lambda text: None, on_stderr=lambda text: None)
    assert result.stdout == "typed\nü\ndone\n"
    if not sdk.sync:
        assert (reader.stdout, reader.stderr, reader.exit_code) == (result.stdout, "", 0)
        assert not reader.error

    reader = await sandbox.commands.run("cat", background=True, stdin=True)
    await reader.close_stdin()
    assert (await reader.wait()).exit_code == 0

    reader = await sandbox.commands.run("head -n 2", background=True, stdin=True)
    await stream_input(sdk, sandbox.commands, reader.pid, ["first\n", b"second\n"])
    assert (await reader.wait()).stdout == "first\nsecond\n"


async def stream_input(sdk, to, pid, pieces):
    if sdk.sync:
        await to.stream_input(pid, iter(pieces), timeout=20)
        return
    handle = await to.stream_input(pid, timeout=20)
    for piece in pieces:
        await handle.send(piece)
    await handle.close()


# --- terminals -----------------------------------------------------------------------------------

class Screen:
    """What a terminal shows, until it ends."""

    def __init__(self, sdk):
        self.sdk = sdk
        self.text = b""

    def show(self, data):
        self.text += data

    async def create(self, sandbox, **options):
        if not self.sdk.sync:
            options["on_data"] = self.show
        self.handle = await sandbox.pty.create(size=PtySize(rows=24, cols=80), **options)
        return self.handle.pid

    async def connect(self, sandbox, pid):
        options = {} if self.sdk.sync else {"on_data": self.show}
        self.handle = await sandbox.pty.connect(pid, timeout=20, **options)

    async def end(self):
        try:
            await (self.handle.wait(on_pty=self.show) if self.sdk.sync else self.handle.wait())
        except CommandExitException:
            pass
        return self.text.decode()


async def pty(sdk, sandbox):
    screen = Screen(sdk)
    pid = await screen.create(sandbox, user="user", cwd="/tmp", envs={"PLACE": "here"}, timeout=30)
    await sandbox.pty.resize(pid, PtySize(rows=40, cols=100))
    other = Screen(sdk)
    await other.connect(sandbox, pid)
    await sandbox.pty.send_stdin(pid, b"stty size; pwd; echo $PLACE-$TERM\n")
    await stream_input(sdk, sandbox.pty, pid, [b"exit\n"])
    for text in (await screen.end(), await other.end()):
        assert "40 100" in text and "/tmp" in text and "here-xterm-256color" in text, text

    screen = Screen(sdk)
    pid = await screen.create(sandbox)
    assert await sandbox.pty.kill(pid)
    await screen.end()
    assert not await sandbox.pty.kill(pid)


# --- files ---------------------------------------------------------------------------------------

async def write_and_read(sdk, sandbox):
    files = sandbox.files
    written = await files.write("/tmp/new/folder/a.txt", "content ü", user="user")
    assert (written.path, written.name, written.type) == (
        "/tmp/new/folder/a.txt", "a.txt", FileType.FILE)
    assert await files.read("/tmp/new/folder/a.txt", user="user") == "content ü"
    assert await files.read("/tmp/new/folder/a.txt", format="bytes") == "content ü".encode()
    streamed = await files.read("/tmp/new/folder/a.txt", format="stream")
    pieces = list(streamed) if sdk.sync else [piece async for piece in streamed]
    assert b"".join(pieces) == "content ü".encode()

    block = os.urandom(100_000)
    kinds = {"str": ("x" * 9, b"x" * 9), "bytes": (block, block), "io": (io.BytesIO(block), block),
             "text io": (io.StringIO("text"), b"text")}
    if sdk.sync:
        kinds["iterable"] = (iter([b"a", b"b"]), b"ab")
    for name, (data, expected) in kinds.items():
        await files.write("kind", data)
        assert await files.read("kind", format="bytes") == expected, name
    for extra in ({"gzip": True}, {"use_octet_stream": True}, {"use_octet_stream": False}):
        await files.write("packed", block, **extra)
        assert await files.read("packed", format="bytes", gzip=True) == block, extra

    many = await files.write_files([{"path": "x.txt", "data": "x"}, {"path": "y.txt", "data": b"y"}],
                                   user="user")
    assert [w.path for w in many] == ["/home/user/x.txt", "/home/user/y.txt"]
    await files.write_files([{"path": "x.txt", "data": "xx"}], gzip=True, use_octet_stream=True,
                            metadata={"by": "several"})
    assert await files.read("/home/user/x.txt") == "xx"
    assert (await files.get_info("x.txt")).metadata == {"by": "several"}
    await files.write("y.txt", "y", metadata={"color": "blue", "size": "1"})
    assert (await files.get_info("y.txt", user="user")).metadata == {"color": "blue", "size": "1"}
    large = "0123456789" * 500_000
    await files.write("large", large)
    assert await files.read("large") == large
    await raises(FileNotFoundException, files.read, "no/such/file")
    await raises(SandboxException, files.read, "/tmp")
    await raises(SandboxException, files.write, "/tmp", "a folder")


async def tree(sdk, sandbox):
    files = sandbox.files
    assert await files.make_dir("d/e", user="user") and not await files.make_dir("d/e")
    await files.write("d/e/f.txt", "12345")
    assert [entry.name for entry in await files.list("d", user="user")] == ["e"]
    deep = await files.list("/home/user/d", depth=2)
    assert [(entry.path, entry.type) for entry in deep] == [
        ("/home/user/d/e", FileType.DIR), ("/home/user/d/e/f.txt", FileType.FILE)]
    info = await files.get_info("d/e/f.txt")
    assert (info.size, info.permissions, info.mode, info.owner, info.group, info.symlink_target) == (
        5, "-rw-r--r--", 0o644, "user", "user", None)
    assert abs((info.modified_time - datetime.now(timezone.utc)).total_seconds()) < 60
    await sandbox.commands.run("ln -s e/f.txt d/link")
    assert (await files.get_info("d/link")).symlink_target == "/home/user/d/e/f.txt"
    moved = await files.rename("d/e/f.txt", "d/moved.txt", user="user")
    assert moved.path == "/home/user/d/moved.txt"
    assert await files.exists("d/moved.txt", user="user") and not await files.exists("d/e/f.txt")
    await files.remove("d", user="user")
    assert not await files.exists("d")
    await raises(FileNotFoundException, files.list, "d")
    await raises(FileNotFoundException, files.get_info, "d")
    await raises(FileNotFoundException, files.rename, "d", "e")


async def watch(sdk, sandbox):
    await sandbox.files.make_dir("watched/inner")
    events = []
    if sdk.sync:
        handle = await sandbox.files.watch_dir("watched", user="user", recursive=True,
                                               include_entry=True, allow_network_mounts=True)
    else:
        handle = await sandbox.files.watch_dir(
            "watched", events.append, on_exit=lambda error: events.append(error), user="user",
            timeout=30, recursive=True, include_entry=True, allow_network_mounts=True)
    await sandbox.files.write("watched/inner/a.txt", "a")
    await sandbox.commands.run("chmod 600 watched/inner/a.txt; mv watched/inner/a.txt watched/b.txt; "
                               "rm watched/b.txt")
    wanted = {("inner/a.txt", FilesystemEventType.CREATE), ("inner/a.txt", FilesystemEventType.WRITE),
              ("inner/a.txt", FilesystemEventType.CHMOD), ("inner/a.txt", FilesystemEventType.RENAME),
              ("b.txt", FilesystemEventType.CREATE), ("b.txt", FilesystemEventType.REMOVE)}
    end = time.monotonic() + 15
    while not wanted <= {(event.name, event.type) for event in events}:
        assert time.monotonic() < end, (wanted, events)
        if sdk.sync:
            events += await handle.get_new_events()
        else:
            await sdk.pause()
    created = next(e for e in events if e.name == "inner/a.txt" and e.entry)
    assert created.entry.path == "/home/user/watched/inner/a.txt"
    await handle.stop()
    await raises(FileNotFoundException, sandbox.files.watch_dir, "no/such/folder",
                 *([] if sdk.sync else [events.append]))


async def urls(sdk, sandbox):
    url = await sandbox.upload_url("by-url.txt", user="user", use_signature_expiration=60)
    boundary = "xxx"
    body = ("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"by-url.txt\"\r\n\r\n"
            "through a url\r\n--%s--\r\n" % (boundary, boundary)).encode()
    request = urllib.request.Request(
        url, body, {"Content-Type": "multipart/form-data; boundary=" + boundary})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    url = await sandbox.download_url("by-url.txt", user="user", use_signature_expiration=60)
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"through a url"
    try:
        urllib.request.urlopen(url.replace("signature=", "signature=0"), timeout=10)
        raise AssertionError("a wrong signature was taken")
    except urllib.error.HTTPError as e:
        assert e.code == 401


# --- ports ---------------------------------------------------------------------------------------

async def ports(sdk, sandbox):
    await sandbox.commands.run("exec python3 -m http.server -b 127.0.0.1 8000", background=True)
    host = await sandbox.get_host(8000)
    assert host.startswith("8000-%s.localhost" % sandbox.sandbox_id), host
    until(lambda: fetch(host)[0] == 200)
    assert fetch(await sandbox.get_host(8001))[0] == 502


# --- git -----------------------------------------------------------------------------------------

async def git(sdk, sandbox):
    git = sandbox.git
    await git.configure_user("A", "a@example.com", scope="global")
    await git.set_config("pull.rebase", "false", scope="global")
    assert await git.get_config("user.name", scope="global") == "A"
    await git.init("origin.git", bare=True, initial_branch="main")
    await git.init("work", initial_branch="main")
    await git.configure_user("B", "b@example.com", scope="local", path="work")
    await git.set_config("x.y", "z", scope="local", path="work")
    assert await git.get_config("x.y", scope="local", path="work") == "z"
    await sandbox.files.write("work/a.txt", "1")
    await git.add("work", files=["a.txt"])
    assert (await git.status("work")).has_staged
    await git.commit("work", "first", author_name="C", author_email="c@example.com")
    await git.commit("work", "empty", allow_empty=True)
    await git.remote_add("work", "origin", "/home/user/origin.git", overwrite=True)
    assert await git.remote_get("work", "origin") == "/home/user/origin.git"
    await git.push("work", remote="origin", branch="main", set_upstream=True)
    await git.remote_add("work", "origin", "/home/user/origin.git", fetch=True, overwrite=True)
    await git.clone("file:///home/user/origin.git", path="copy", branch="main", depth=1)
    assert await sandbox.files.read("copy/a.txt") == "1"

    await git.create_branch("work", "topic")
    assert (await git.branches("work")).current_branch == "topic"
    await sandbox.files.write("work/a.txt", "2")
    await git.add("work", all=True)
    await git.commit("work", "second")
    await git.checkout_branch("work", "main")
    await git.delete_branch("work", "topic", force=True)
    assert (await git.branches("work")).branches == ["main"]

    await sandbox.files.write("work/a.txt", "3")
    await git.add("work")
    await git.reset("work", paths=["a.txt"])
    assert not (await git.status("work")).has_staged
    await git.restore("work", paths=["a.txt"], worktree=True, source="HEAD")
    assert await sandbox.files.read("work/a.txt") == "1"
    await sandbox.files.write("work/a.txt", "4")
    await git.add("work")
    await git.restore("work", paths=["a.txt"], staged=True)
    await git.reset("work", mode="hard", target="HEAD")
    assert (await git.status("work")).is_clean
    await git.pull("work", remote="origin", branch="main")
    await git.dangerously_authenticate("me", "secret", host="git.example.com", protocol="https")
