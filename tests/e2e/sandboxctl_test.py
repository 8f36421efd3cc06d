"""sandboxctl, as people and scripts use it."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest
from harness import api, faults, programs, web
from harness.service import Service


class Control:
    def __init__(self, addresses):
        self.path = str(programs.find("client/sandboxctl"))
        self.addresses = "--address=" + ",".join(addresses)

    def start(self, *args):
        return subprocess.Popen([self.path, self.addresses, *args], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)

    def __call__(self, *args, data=None, code=0):
        done = subprocess.run([self.path, self.addresses, *args], input=data or b"",
                              capture_output=True, timeout=60, check=False)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def json(self, *args, **kwargs):
        return [json.loads(line) for line in self("-o", "json", *args, **kwargs).stdout.splitlines()]


@pytest.fixture(scope="module")
def control(service):
    return Control(service.addresses)


def test_a_session_in_text(control, tmp_path):
    sandbox_id = control("create", "--timeout=5m", "--metadata=by=hand").stdout.decode().strip()
    assert sandbox_id in control("ls", "--metadata=by=hand").stdout.decode()
    (tmp_path / "hello.sh").write_text("echo hello $1; echo oops >&2; exit 7\n")
    control("write", sandbox_id, str(tmp_path / "hello.sh"), "hello.sh", "--mode=755")
    control("write", sandbox_id, "-", "from-stdin", data=b"\x00\xffbytes")
    assert control("read", sandbox_id, "from-stdin").stdout == b"\x00\xffbytes"
    ran = control("run", sandbox_id, "--id=hello", "sh hello.sh you", code=7)
    assert (ran.stdout, ran.stderr) == (b"hello you\n", b"oops\n")
    again = control("logs", sandbox_id, "hello")
    assert (again.stdout, again.stderr) == (b"hello you\n", b"oops\n")
    assert "hello" in control("ps", sandbox_id).stdout.decode()
    assert sandbox_id in control("url", sandbox_id, "8080").stdout.decode()
    control("rm", sandbox_id)
    gone = control("read", sandbox_id, "hello.sh", code=255)
    assert sandbox_id in gone.stderr.decode() and gone.stdout == b""
    control("rm", "--force", sandbox_id)


def test_a_session_in_json(control, sandbox):
    events = control.json("run", sandbox, "--", "printf", "%s", "a b")
    assert "commandId" in events[0]
    assert base64.b64decode("".join(e.get("stdout", "") for e in events)) == b"a b"
    assert events[-1]["exited"]["reason"] == "REASON_EXITED"
    (command,) = control.json("ps", sandbox, events[0]["commandId"])
    assert command["args"] == ["printf", "%s", "a b"]
    failed = control("-o", "json", "logs", sandbox, "never-started", code=255)
    assert "COMMAND_NOT_FOUND" in failed.stderr.decode() + failed.stdout.decode()


@pytest.mark.parametrize("line,code", [
    ("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143), ("no-such-program", 127),
])
def test_the_exit_code_is_the_commands(control, sandbox, line, code):
    control("run", sandbox, line, code=code)


def test_exit_codes_of_what_goes_wrong(control, sandbox):
    control("run", sandbox, "--", "/no/such/program", code=127)
    control("run", sandbox, "--timeout=1s", "sleep 100", code=124)
    control("run", "i0123456789abcdefghij", "true", code=255)
    control("no-such-verb", code=2)
    control("run", code=2)


def test_a_detached_command_goes_on_and_can_be_driven(control, sandbox):
    name = "driven%d" % time.time_ns()
    left = control("run", sandbox, "--id=" + name, "--detach", "--stdin",
                   "while read line; do echo got $line; done; sleep 100")
    assert left.stdout.decode().strip() == name
    control("input", sandbox, name, "one\n")
    control("input", sandbox, name, "--eof")
    reader = control.start("logs", "-f", sandbox, name)
    assert reader.stdout.readline() == b"got one\n"
    control("kill", sandbox, name, "--signal=KILL")
    assert reader.wait(20) == 0
    reader.stdout.close(), reader.stderr.close()


def test_ctrl_c_is_sent_on_to_the_command(control, sandbox):
    child = control.start("run", sandbox, "trap 'echo caught; exit 9' INT; echo on; "
                                          "while :; do sleep 0.1; done")
    assert child.stdout.readline() == b"on\n"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert (out, child.returncode) == (b"caught\n", 9), err


def test_a_stream_goes_on_through_another_pod(local, sandbox):
    with Service(local, count=2) as service:
        control = Control(service.addresses)
        child = control.start("run", sandbox, "for i in $(seq 300); do echo $i; sleep 0.01; done")
        first = [child.stdout.readline() for _ in range(20)]
        service.pods[0].kill()
        out, err = child.communicate(timeout=60)
        assert (b"".join(first) + out).split() == [b"%d" % n for n in range(1, 301)]
        assert child.returncode == 0
        assert service.addresses[0] in err.decode() and service.addresses[1] in err.decode()


def test_a_stream_leaves_a_pod_that_falls_silent(local, sandbox):
    """A pod that hangs says nothing at all: its missing heartbeats do."""
    with Service(local, count=2, options=["--heartbeat-interval=200ms"]) as service:
        control = Control(service.addresses)
        child = control.start("--heartbeat=200ms", "run", sandbox,
                              "for i in $(seq 300); do echo $i; sleep 0.01; done")
        first = [child.stdout.readline() for _ in range(20)]
        os.kill(service.pods[0].pid, signal.SIGSTOP)
        try:
            out, err = child.communicate(timeout=60)
        finally:
            os.kill(service.pods[0].pid, signal.SIGCONT)
        assert (b"".join(first) + out).split() == [b"%d" % n for n in range(1, 301)]
        assert child.returncode == 0 and service.addresses[1] in err.decode()


def test_the_session_in_the_readme_works_as_it_stands(service):
    readme = programs.find("README.md").read_text(encoding="utf-8")
    session = re.search(r"own client.*?\n\n((?:    [^\n]+\n)+)", readme, re.DOTALL).group(1)
    assert session.count("sandboxctl ") == 4
    script = session.replace("localhost:50051,localhost:50052", ",".join(service.addresses))
    path = "%s:%s" % (programs.find("client/sandboxctl").parent, os.environ["PATH"])
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], timeout=60, check=False,
                          env={**os.environ, "PATH": path}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Hello from a sandbox\n"


def test_it_says_who_does_not_answer(sandbox):
    nobody = Control(["127.0.0.1:9"])
    failed = nobody("--call-timeout=2s", "ls", code=255)
    assert "127.0.0.1:9" in failed.stderr.decode()


def test_parts_of_a_record_are_shown(control, sandbox):
    control("run", sandbox, "--id=parts", "--label=kind=parts",
            "for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert control("logs", sandbox, "parts", "-n", "2", "--stream=stdout").stdout == b"out 2\nout 3\n"
    shown = control("logs", sandbox, "parts", "--stream=stderr", "--lines")
    assert (shown.stdout, shown.stderr) == (b"", b"err 1\nerr 2\nerr 3\n")
    assert control("logs", sandbox, "parts", "--before=1h").stdout == b""
    assert control("logs", sandbox, "parts", "--since=1h").stdout == b"out 1\nout 2\nout 3\n"
    assert control("logs", sandbox, "parts", "--since=yesterday", code=2)
    both = control("logs", sandbox).stdout
    assert both.count(b"==> parts <==\n") >= 1 and b"out 3\n" in both
    assert b"parts" in control("ps", sandbox, "--label=kind=parts").stdout
    assert b"parts" not in control("ps", sandbox, "--label=kind=other").stdout
    assert b"parts" not in control("ps", sandbox, "--state=running").stdout


def test_terminals_are_resized_and_waited_for(control, sandbox):
    control("run", sandbox, "--id=tty", "--tty=100x30", "--detach",
            "stty size; read -r x; stty size; exit 5")
    control("wait", sandbox, "tty", "--timeout=200ms", code=124)
    control("resize", sandbox, "tty", "120x40")
    control("resize", sandbox, "tty", "120", code=2)
    for _ in range(2):
        control("input", sandbox, "tty", "go\r", "--offset=0")
    control("wait", sandbox, "tty", code=5)
    assert control("logs", sandbox, "tty").stdout == b"30 100\r\ngo\r\n40 120\r\n"
    assert control.json("wait", sandbox, "tty", code=5)[0]["exited"]["code"] == 5


def test_limits_and_silence_end_commands(control, sandbox):
    assert b"too long" in control("run", sandbox, "--idle-timeout=200ms", "sleep 100",
                                  code=124).stderr
    assert control("run", sandbox, "--limit-files=50", "--limit-memory=1GiB", "--kill-grace=1s",
                   "ulimit -n -v").stdout.split()[-1] == b"1048576"


def test_output_is_pruned(control):
    sandbox_id = control("create").stdout.decode().strip()
    for name in "a", "b":
        control("run", sandbox_id, "--id=" + name, "--until-closed", "echo " + name)
    assert control("prune", sandbox_id, "--max-commands=1").stdout.startswith(b"1 commands, ")
    assert b"removed" in control("logs", sandbox_id, "a", code=255).stderr
    assert control("logs", sandbox_id, "b").stdout == b"b\n"
    control("rm", sandbox_id)


def test_files_are_looked_at_and_moved_about(control, sandbox):
    control("mkdir", "-p", "--mode=750", sandbox, "cli/sub")
    control("write", sandbox, "-", "cli/one", data=b"12345")
    control("mv", sandbox, "cli/one", "cli/sub/two")
    control("mv", sandbox, "cli/none", "cli/x", code=255)
    lines = control("dir", "--depth=2", sandbox, "cli").stdout.decode().splitlines()
    assert [(line[:10], line.split()[-1]) for line in lines] == [
        ("drwxr-x---", "/home/user/cli/sub"), ("-rw-r--r--", "/home/user/cli/sub/two")]
    (entry,) = [e for e in control.json("dir", sandbox, "~/cli/sub")]
    assert entry["name"] == "two" and entry["size"] == "5"
    told = control("stat", "--sha256", sandbox, "cli/sub/two").stdout.decode()
    assert told.startswith("5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5\n-rw-")
    control("remove", sandbox, "cli", code=255)
    control("remove", "-r", sandbox, "cli")
    control("remove", sandbox, "cli", code=255)
    control("remove", "--force", sandbox, "cli")


def test_files_are_written_with_care_and_fetched_by_url(control, sandbox):
    control("write", "--create", sandbox, "-", "care", data=b"one")
    control("write", "--create", sandbox, "-", "care", data=b"two", code=255)
    (same,) = control.json("write", "--changed", sandbox, "-", "care", data=b"one")
    assert same["files"][0]["unchanged"] is True
    url = control("file-url", "--expire=10m", sandbox, "care").stdout.decode().strip()
    assert web.fetch(url) == (200, b"one")
    up = control("file-url", "--upload", sandbox, "care").stdout.decode().strip()
    assert web.request("POST", up, body=b"two", headers={
        "Content-Type": "application/octet-stream"}).status == 200
    assert control("read", sandbox, "care").stdout == b"two"


def test_a_port_is_forwarded(control, stub, new_sandbox):
    sandbox = new_sandbox()
    control("write", sandbox, "-", "site/index.html", data=b"it works" * 100000)
    server = control.start("run", sandbox, "cd site && exec python3 -m http.server --bind 127.0.0.1 3200")
    stub.GetSandboxUrl(api.GetSandboxUrlRequest(
        sandbox_id=sandbox, port=3200, wait_until_listening=api.seconds(60)), timeout=90)
    child = control.start("-o", "json", "forward", sandbox, "0:3200")
    address = json.loads(child.stdout.readline())["address"]
    # Many connections, some at the same time.
    got = []
    asking = [threading.Thread(target=lambda: got.append(web.fetch("http://%s/" % address, {})))
              for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)
    assert got == [(200, b"it works" * 100000)] * 8
    # Nothing listens: the connection is reset, and the next one is on its own.
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=60)
    with socket.create_connection(address.split(":")) as s, pytest.raises(ConnectionResetError):
        s.settimeout(60)
        s.recv(1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0 and b"nothing listens on port 3200" in err


def test_forwarding_ends_with_the_sandbox(control, new_sandbox):
    sandbox = new_sandbox()
    child = control.start("forward", sandbox, "0:80")
    line = child.stdout.readline().decode()
    assert "leads to port 80 of " + sandbox in line
    control("rm", sandbox)
    host, port = line.split()[0].split(":")
    with socket.create_connection((host, port)) as s, pytest.raises(ConnectionResetError):
        s.settimeout(60)
        s.recv(1)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 255 and sandbox.encode() in err
    control("forward", sandbox, "0:80", code=255)
    for ports in "", "x", "80:", "1:2:3", "0:70000":
        control("forward", sandbox, ports, code=2)


def test_files_of_any_size_survive_the_loss_of_a_pod(local, sandbox, tmp_path):
    """The first pod is killed when a third of the file has passed, once in each direction."""
    content, third = os.urandom(24 << 20), 8 << 20
    (tmp_path / "large").write_bytes(content)
    with Service(local, count=2) as service:
        proxy = faults.Proxy(service.addresses[0], on_cut=lambda _: service.pods[0].kill())
        control = Control([proxy.address, service.addresses[1]])

        proxy.on_connect = lambda connection: setattr(connection, "cut_after_sent", third)
        up = control("upload", "--mode=640", sandbox, str(tmp_path / "large"), "dir/large")
        assert proxy.cuts == 1 and service.addresses[1] in up.stderr.decode()
        told = control("stat", "--sha256", sandbox, "dir/large").stdout.decode().split()
        assert told[:2] == [hashlib.sha256(content).hexdigest(), "-rw-r-----"]
        assert control("dir", sandbox, "dir").stdout.count(b"\n") == 1

        service.restart(0)
        proxy.on_connect = lambda connection: setattr(connection, "cut_after", third)
        down = control("download", sandbox, "dir/large", str(tmp_path / "back"))
        assert proxy.cuts == 2 and service.addresses[1] in down.stderr.decode()
        assert (tmp_path / "back").read_bytes() == content
        assert sorted(os.listdir(tmp_path)) == ["back", "large"]
        proxy.close()


def test_uploads_and_downloads_through_pipes(control, sandbox):
    content = os.urandom(3_000_000)
    control("upload", sandbox, "-", "piped", data=content)
    assert control("download", sandbox, "piped", "-").stdout == content
    missing = control("download", sandbox, "no/such", "-", code=255)
    assert b"FILE_NOT_FOUND" in missing.stderr and missing.stdout == b""
