"""Machines that give less isolation: what the runtime does with it, and what it says."""

import subprocess

import pytest
from harness import programs
from wire import Api


def start(data_dir, before="", wrapper=("unshare", "-Urm")):
    """e2b-local in a user and mount namespace of its own, prepared by a shell command."""
    local = programs.find("runtime/local/e2b-local")
    script = '%s exec "$0" --listen=127.0.0.1:0 "--data-dir=$1"' % before
    return programs.Program("e2b-local",
                            [*wrapper, "sh", "-ec", script, local, data_dir / "local"])


def refusal(program):
    assert program.process.wait(20) != 0
    with pytest.raises(RuntimeError) as error:
        program.wait_ready()
    return str(error.value)


def test_root_of_a_user_namespace_gets_tier_b(tmp_path):
    program = start(tmp_path).wait_ready()
    try:
        assert program.ready["tier"] == "B"
        assert "65536 ids from 1879048192 or from 100000 on are not to be had" in program.ready["isolation"]
        sandbox = Api(program.address).create()
        assert sandbox.run("id -un; exit 3") == (3, b"user\n")
    finally:
        program.stop()


def test_a_container_that_hides_proc_is_refused(tmp_path):
    said = refusal(start(tmp_path, "mount -t tmpfs none /proc/fs;"))
    assert "mount /proc: Operation not permitted" in said
    assert "systempaths=unconfined" in said


def test_no_user_namespaces_is_refused(tmp_path):
    said = refusal(start(tmp_path, "echo 0 > /proc/sys/user/max_user_namespaces;"))
    assert "user.max_user_namespaces" in said


def test_a_data_directory_has_one_daemon(data_dir):
    first = programs.Local(data_dir / "shared")
    try:
        said = refusal(programs.Program(
            "second", [programs.find("runtime/local/e2b-local"), "--listen=127.0.0.1:0",
                       "--data-dir=%s" % (data_dir / "shared")]))
        assert "used by another daemon" in said
        assert Api(first.address).create().run("true")[0] == 0
    finally:
        first.stop()


def test_what_a_killed_daemon_and_its_zygote_left_is_removed(data_dir):
    program = programs.Local(data_dir / "both")
    sandbox = Api(program.address).create()
    zygote = subprocess.run(["pgrep", "-P", str(program.pid)], stdout=subprocess.PIPE, check=True,
                            encoding="ascii").stdout.split()
    program.process.send_signal(19)  # SIGSTOP: it must not see the zygote go
    subprocess.run(["kill", "-KILL", *zygote], check=True)
    program.kill()
    assert (data_dir / "both" / "sandboxes" / sandbox.id).exists()
    again = programs.Local(data_dir / "both")
    try:
        assert not (data_dir / "both" / "sandboxes" / sandbox.id).exists()
        assert Api(again.address).create().run("true")[0] == 0
    finally:
        again.stop()
