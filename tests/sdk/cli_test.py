"""E2B's own command line, unmodified, against e2b-local: what it does with sandboxes."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from harness import programs


@pytest.fixture(scope="module")
def cli(local, tmp_path_factory):
    script = os.environ.get("SANDBOXD_TEST_E2B_CLI", "")
    if not os.path.exists(script):
        pytest.skip("SANDBOXD_TEST_E2B_CLI does not name E2B's command line, which needs Node 20")
    return Cli(local, script, tmp_path_factory.mktemp("home"))


class Cli:
    def __init__(self, local, script, home):
        self.command = [shutil.which("node"), script]
        exports = programs.run("runtime/local/e2b-local", "env", "--plain",
                               "--listen=" + local.address).stdout
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1", "TERM": "dumb",
                    **dict(line.split("=", 1) for line in exports.splitlines())}

    def run(self, *args, code=0, data=None):
        done = subprocess.run([*self.command, *args], env=self.env, input=data or "",
                              capture_output=True, encoding="utf-8", timeout=60, check=False)
        assert done.returncode == code, (args, done.stdout, done.stderr)
        return done


@pytest.fixture(scope="module")
def sandbox(cli):
    return re.search(r"\bi[a-z0-9]{20}\b", cli.run("sandbox", "create", "--detach").stdout).group()


def listed(cli, *options):
    return {entry["sandboxId"]: entry
            for entry in json.loads(cli.run("sandbox", "list", "-f", "json", *options).stdout or "[]")}


def test_list(cli, sandbox):
    assert listed(cli)[sandbox]["templateId"] == "base"
    assert sandbox in cli.run("sandbox", "list").stdout
    assert sandbox not in listed(cli, "--state", "paused")
    assert sandbox not in listed(cli, "--metadata", "no=such")
    assert sandbox in listed(cli, "--template", "base", "--limit", "1", "--order", "desc")


def test_info(cli, sandbox):
    told = json.loads(cli.run("sandbox", "info", sandbox, "-f", "json").stdout)
    assert told["sandboxId"] == sandbox and told["state"] == "running"


def test_exec_and_its_exit_code(cli, sandbox):
    done = cli.run("sandbox", "exec", sandbox, "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, "err" in done.stderr) == ("out\n", True)
    done = cli.run("sandbox", "exec", "-c", "/tmp", "-e", "WORD=hello", sandbox, "--",
                   "sh", "-c", "pwd; echo $WORD")
    assert done.stdout == "/tmp\nhello\n"


def test_exec_with_input(cli, sandbox):
    text = "".join("%d\n" % i for i in range(50_000))
    assert cli.run("sandbox", "exec", sandbox, "cat", data=text).stdout == text


def test_exec_in_the_background(cli, sandbox):
    pid = cli.run("sandbox", "exec", "-b", sandbox, "sleep 50").stderr.strip().splitlines()[-1]
    assert cli.run("sandbox", "exec", sandbox, "cat /proc/%d/comm" % int(pid)).stdout


def test_logs(cli, sandbox):
    cli.run("sandbox", "exec", sandbox, "true a-word-to-find")

    def told():
        lines = cli.run("sandbox", "logs", "--format", "json", sandbox).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    entries = programs.wait_until(
        lambda: [e for e in told() if "a-word-to-find" in e.get("cmd", "")], 10, every=0.1)
    assert entries[0]["logger"] == "process" and entries[0]["message"] == "Process started"
    assert cli.run("sandbox", "logs", "--loggers", "sandbox", sandbox).stdout.count("started") == 1


def test_metrics(cli, sandbox):
    def told():
        lines = cli.run("sandbox", "metrics", "--format", "json", sandbox).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    assert programs.wait_until(told, 10, every=0.1)[0]["memTotal"] > 0
    assert "Memory" in cli.run("sandbox", "metrics", sandbox).stdout


def test_connect_is_a_terminal(cli, sandbox):
    master, slave = pty.openpty()
    process = subprocess.Popen([*cli.command, "sandbox", "connect", sandbox], env=cli.env,
                               stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    seen = b""

    def until(word, timeout=30):
        nonlocal seen
        end = time.monotonic() + timeout
        while word not in seen:
            assert time.monotonic() < end, seen
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 65536)

    try:
        until(b"Terminal connecting")
        until(b"$ ")
        os.write(master, b"echo $((40 + 2)) $USER; tty\n")
        until(b"42 user")
        until(b"/dev/pts/")
        os.write(master, b"exit\n")
        until(b"Closing terminal connection")
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_kill(cli, sandbox):
    other = re.search(r"\bi[a-z0-9]{20}\b", cli.run("sandbox", "create", "--detach").stdout).group()
    assert "has been killed" in cli.run("sandbox", "kill", other).stdout
    assert other not in listed(cli) and sandbox in listed(cli)
    assert "wasn't found" in cli.run("sandbox", "kill", other).stderr
    cli.run("sandbox", "kill", "--all")
    assert not listed(cli)


def test_building_a_template_is_refused_in_a_sentence(cli, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    done = subprocess.run([*cli.command, "template", "create", "some", "-d", "Dockerfile"],
                          env=cli.env, cwd=tmp_path, input="", capture_output=True,
                          encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 1
    assert "501: Templates are not built here" in done.stderr
