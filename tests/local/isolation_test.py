"""What a sandbox must not be able to do, tried from inside, as its user and as its root."""

import base64
import os
import shlex
import socket
import textwrap
from pathlib import Path

import pytest
from harness import leftovers, programs
from tiers import local  # noqa: F401, the fixture
from wire import Api, AsRoot, Sandbox


@pytest.fixture(scope="module")
def sandbox(local):
    made = Api(local.address).create(timeout=600)
    yield made
    made.delete()


class WithSudo(Sandbox):
    """The same sandbox, with all commands as what its user becomes by sudo."""

    def start(self, command, timeout=60):
        return super().start("exec sudo bash -c " + shlex.quote(command), timeout)


@pytest.fixture(params=["user", "root", "sudo"])
def inside(request, sandbox, local):
    if request.param == "user":
        return sandbox
    if local.ready["tier"] != "A":
        pytest.skip("tier B has no root inside")
    return (AsRoot if request.param == "root" else WithSudo)(sandbox.api, sandbox.created)


def python(inside, code):
    """Runs code inside; it prints what it found."""
    script = textwrap.dedent("""
        import ctypes, errno, os, socket, sys
        libc = ctypes.CDLL(None, use_errno=True)
        def call(number, *args):
            result = libc.syscall(number, *args)
            return 'ok' if result >= 0 else errno.errorcode[ctypes.get_errno()]
        """) + textwrap.dedent(code)
    encoded = base64.b64encode(script.encode()).decode()
    code, output = inside.run("echo %s | base64 -d | python3 -" % encoded)
    assert code == 0, output
    return output.decode().strip()


def test_only_its_own_processes(inside):
    pids = inside.run("ls /proc | grep -E '^[0-9]+$'")[1].split()
    assert 0 < len(pids) < 15


def test_nothing_of_the_host_in_its_files(inside, local):
    marker = Path("/tmp/isolation-marker")
    marker.write_text("host", encoding="ascii")
    try:
        assert inside.run("test -e /tmp/isolation-marker")[0] == 1
    finally:
        marker.unlink()
    assert inside.run("ls /")[1].decode().split() == sorted(
        ["bin", "dev", "etc", "home", "lib", "media", "mnt", "opt", "proc", "root", "run", "sbin",
         "srv", "sys", "tmp", "usr", "var"] +
        [d for d in ("lib32", "lib64", "libx32") if os.path.lexists("/" + d)])
    assert inside.run("test -e /etc/shadow")[0] == 1
    assert inside.run("ls -A /home /srv /mnt /media /sys")[1].decode().split()[:2] == \
        ["/home:", "user"]
    mounts = inside.run("cat /proc/self/mountinfo")[1].decode()
    assert str(local.data_dir) not in mounts


def test_its_writes_do_not_reach_the_host(sandbox, local):
    if local.ready["tier"] != "A":
        pytest.skip("tier B cannot write there")
    root = AsRoot(sandbox.api, sandbox.created)
    assert root.run("echo x > /usr/bin/made-in-sandbox && echo y >> /etc/debian_version && "
                    "rm /usr/bin/env && ls /usr/bin/made-in-sandbox")[0] == 0
    assert not os.path.exists("/usr/bin/made-in-sandbox")
    assert os.path.exists("/usr/bin/env")
    assert "y" not in Path("/etc/debian_version").read_text(encoding="ascii")
    other = Api(local.address).create()
    try:
        assert other.run("test -x /usr/bin/env && ! test -e /usr/bin/made-in-sandbox")[0] == 0
    finally:
        other.delete()


def test_the_daemons_environment_stays_outside(local):
    program = None
    os.environ["ISOLATION_SECRET"] = "from the host"
    try:
        program = programs.Local(local.data_dir.parent / "secret")
        sandbox = Api(program.address).create()
        assert b"ISOLATION_SECRET" not in sandbox.run("env; cat /proc/*/environ 2>/dev/null")[1]
    finally:
        del os.environ["ISOLATION_SECRET"]
        if program:
            program.stop()


def test_the_agent_is_out_of_reach(inside):
    """It holds the token; it is process 1."""
    for name in ("environ", "mem", "maps", "fd/3", "fd/5", "root", "cwd", "exe"):
        code, output = inside.run("cat /proc/1/%s || readlink /proc/1/%s || ls /proc/1/%s/"
                                  % (name, name, name))
        assert code != 0, (name, output)
    assert python(inside, "print(call(101, 16, 1, 0, 0))") == "EPERM"  # PTRACE_ATTACH
    assert python(inside, "print(call(310, 1, 0, 0, 0, 0, 0))") == "EPERM"  # process_vm_readv
    inside.run("kill -9 1; kill -STOP 1; kill -TERM 1; kill -SEGV 1")
    assert inside.health() == 204


def test_no_mounts_and_no_namespaces(inside):
    assert inside.run("mount -t tmpfs none /mnt")[0] != 0
    assert inside.run("umount /proc")[0] != 0
    assert inside.run("unshare -U true")[0] != 0
    assert inside.run("unshare -n true")[0] != 0
    assert inside.run("nsenter -t 1 -m true")[0] != 0
    assert inside.run("chroot / true")[0] != 0
    found = python(inside, """
        for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000):
            print(call(56, flag | 17, 0, 0, 0, 0))   # clone
        print(call(435, 0, 0))                       # clone3
        print(call(272, 0x10000000))                 # unshare
        print(call(428, -100, b'/', 1))              # open_tree
        print(call(430, b'tmpfs', 0))                # fsopen
    """)
    assert found.split() == ["EPERM"] * 4 + ["ENOSYS"] + ["EPERM"] * 3


def test_no_kernel_interfaces(inside):
    found = python(inside, """
        print(call(321, 0, 0, 0))                    # bpf
        print(call(298, 0, 0, -1, -1, 0))            # perf_event_open
        print(call(250, 0, 0, 0))                    # keyctl
        print(call(323, 0))                          # userfaultfd
        print(call(425, 1, 0))                       # io_uring_setup
        print(call(304, -100, 0, 0))                 # open_by_handle_at
        print(call(175, 0, 0, b''))                  # init_module
        print(call(169, 0, 0, 0, 0))                 # reboot
        print(call(103, 3, 0, 0))                    # syslog
        print(call(170, b'x', 1))                    # sethostname
        print(call(227, 0, 0))                       # clock_settime
        print(call(438, 0, 0, 0))                    # pidfd_getfd
    """)
    assert found.split() == ["EPERM"] * 12
    assert inside.run("mknod /tmp/null c 1 3")[0] != 0
    assert inside.run("mknod /tmp/disk b 254 0")[0] != 0
    assert inside.run("cat /proc/kcore | head -c 1 | grep -q .")[0] != 0
    assert inside.run("test -s /proc/keys")[0] != 0
    assert inside.run("echo x > /proc/sys/kernel/core_pattern")[0] != 0
    assert inside.run("echo 1 > /proc/sys/net/ipv4/ip_forward")[0] != 0


def test_sockets_are_confined(inside):
    found = python(inside, """
        for family in (40, 17, 38, 15, 30):           # vsock packet alg key tipc
            try:
                socket.socket(family, socket.SOCK_DGRAM).close(); print('ok')
            except OSError as e:
                print(errno.errorcode[e.errno])
        try:
            socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print('ok')
        except OSError as e:
            print(errno.errorcode[e.errno])
    """).split()
    assert set(found[:5]) == {"EAFNOSUPPORT"} and found[5] == "EPERM"


def test_no_way_to_the_host_by_network(inside, local):
    host, port = local.address.rsplit(":", 1)
    found = python(inside, """
        s = socket.socket()
        try:
            s.connect((%r, %s)); print('connected')
        except OSError as e:
            print(errno.errorcode[e.errno])
        print([name for _, name in socket.if_nameindex()])
        s = socket.create_server(('127.0.0.1', %s)); print('free')
        try:
            socket.create_connection(('2001:db8::1', 80), 5); print('connected')
        except OSError as e:
            print(errno.errorcode.get(e.errno))
    """ % (host, port, port)).splitlines()
    assert found == ["ECONNREFUSED", "['lo']", "free", "ENETUNREACH"]


def test_abstract_sockets_of_the_host_are_not_there(inside):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0isolation-test-%d" % os.getpid())
        listener.listen()
        assert python(inside, """
            try:
                socket.socket(socket.AF_UNIX).connect(chr(0) + 'isolation-test-%d'); print('connected')
            except OSError as e:
                print(errno.errorcode[e.errno])
        """ % os.getpid()) == "ECONNREFUSED"


def powers(inside):
    status = inside.run("cat /proc/self/status")[1].decode().splitlines()
    return dict(line.split(":\t") for line in status if ":\t" in line)


# What the root of a sandbox may do there, and nobody outside: chown, dac_override, fowner, fsetid,
# kill, setgid, setuid, setpcap, net_bind_service.
ROOTS_POWERS = 0x5fb


def test_a_user_has_no_powers(sandbox, local):
    """In tier A he can get some, by a set-user-id program, and never more than root has."""
    status = powers(sandbox)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert int(status["CapBnd"], 16) == (ROOTS_POWERS if local.ready["tier"] == "A" else 0)
    assert status["NoNewPrivs"] == ("0" if local.ready["tier"] == "A" else "1")
    assert status["Seccomp"] == "2"
    assert status["Uid"].split() == ["1000"] * 4
    assert python(sandbox, "print(call(105, 0), call(106, 0))") in ("EPERM EPERM", "EINVAL EINVAL")
    assert sandbox.run("su -c id root </dev/null")[0] != 0


def test_root_has_few_powers(sandbox, local):
    if local.ready["tier"] != "A":
        pytest.skip("tier B has no root inside")
    for root in (AsRoot(sandbox.api, sandbox.created), WithSudo(sandbox.api, sandbox.created)):
        status = powers(root)
        assert status["Uid"].split() == ["0"] * 4
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == ROOTS_POWERS
        assert status["Seccomp"] == "2"
        # And the ids it has are nobody's outside.
        assert root.run("touch /tmp/as-root && chown 1234 /tmp/as-root")[0] == 0
        assert root.run("chown 70000 /tmp/as-root")[0] != 0
        assert root.run("rm /tmp/as-root")[0] == 0


def test_descriptors_do_not_leak(inside):
    assert inside.run("ls /proc/$$/fd; true")[1].split() == [b"0", b"1", b"2"]


def test_a_fork_bomb_is_bounded(local):
    sandbox = Api(local.address).create(timeout=600)
    try:
        made = int(python(sandbox, """
            import time
            made = 0
            try:
                while made < 5000:
                    if os.fork() == 0:
                        os.closerange(0, 3); time.sleep(600); os._exit(0)
                    made += 1
            except BlockingIOError:
                pass
            print(made)
        """))
        assert 100 < made < 600
        assert sandbox.health() == 204
    finally:
        assert sandbox.delete().status == 204


def test_the_disk_is_bounded(local):
    sandbox = Api(local.address).create(timeout=600)
    try:
        total = int(sandbox.run("df --output=size -B1 / | tail -n 1")[1])
        assert total <= 4 << 30
        code, output = sandbox.run("fallocate -l %d /tmp/a && fallocate -l %d /var/tmp/b"
                                   % (total // 2, total // 2 + 1000000))
        assert code != 0 and b"No space left" in output
        code, output = sandbox.run("mkdir /tmp/n; cd /tmp/n; "
                                   "python3 -c \"[open(str(i), 'w').close() for i in range(300000)]\"")
        assert code != 0 and b"No space left" in output
        assert sandbox.health() == 204
    finally:
        sandbox.delete()


def test_memory_is_bounded(local):
    if local.ready["tier"] == "B" and programs.is_sanitized("runtime/local/e2b-local"):
        pytest.skip("a sanitized agent cannot live with a limit on its own memory")
    sandbox = Api(local.address).create(timeout=600)
    try:
        code, _ = sandbox.run("python3 -c \"x = bytearray(8 << 30); print(len(x))\"")
        assert code != 0
        assert sandbox.health() == 204
        assert sandbox.run("echo fine") == (0, b"fine\n")
    finally:
        sandbox.delete()


def test_two_sandboxes_do_not_meet(local):
    api = Api(local.address)
    one, two = api.create(), api.create()
    try:
        if local.ready["tier"] == "A":
            maps = [made.run("cat /proc/self/uid_map")[1].split() for made in (one, two)]
            assert all(m[0] == b"0" and m[2] == b"65536" for m in maps)
            assert abs(int(maps[0][1]) - int(maps[1][1])) >= 65536, "they share ids"
        one.run("echo secret > /tmp/secret")
        assert two.run("test -e /tmp/secret")[0] == 1
        with one.start("exec sleep 100") as process:
            code, _ = two.run("kill -0 %d && readlink /proc/%d/exe | grep sleep"
                              % (process.pid, process.pid))
            assert code != 0
        stolen = two.headers()
        stolen["X-Access-Token"] = one.token
        answer = api.request("GET", "/metrics", headers=stolen)
        assert answer.status == 401
    finally:
        one.delete()
        two.delete()


def test_an_end_is_complete(local):
    api = Api(local.address)
    sandbox = api.create()
    with sandbox.start("for i in 1 2 3; do (setsid sleep 987 &); done; sleep 987") as process:
        programs.wait_until(lambda: len(sleepers()) == 4, 10, "the processes")
        assert len([g for g in local.cgroups if os.path.exists(os.path.join(g, sandbox.id))]) == \
            len(local.cgroups)
        # When the answer is there, nothing else of it is.
        assert sandbox.delete().status == 204
        assert not sleepers()
    assert not (Path(local.data_dir) / "sandboxes" / sandbox.id).exists()
    assert not [g for g in local.cgroups if os.path.exists(os.path.join(g, sandbox.id))]
    assert sandbox.delete().status == 404


def sleepers():
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit() and leftovers.command_line(int(pid)) == "sleep 987":
            found.append(int(pid))
    return found


def test_a_killed_daemon_leaves_nothing(data_dir):
    program = programs.Local(data_dir / "killed", "--orphan-time=0")
    sandbox = Api(program.address).create()
    with sandbox.start("sleep 986"):
        program.kill()
    programs.wait_until(lambda: not any(leftovers.command_line(int(pid)) == "sleep 986"
                                        for pid in os.listdir("/proc") if pid.isdigit()), 10,
                        "the end of its processes")
    programs.wait_until(lambda: not leftovers.cgroups_of(data_dir / "killed"), 10, "its cgroups")
    programs.wait_until(lambda: os.listdir(data_dir / "killed" / "sandboxes") == [], 10, "its files")


def test_an_agent_that_ends_takes_its_sandbox_along(local, sandbox):
    """Not from inside, but from the host: the sandbox is gone, and so is what it had."""
    victim = Api(local.address).create()
    assert victim.run("true")[0] == 0
    inner = int(victim.run("stat -c %d /")[1])
    agents = [int(pid) for pid in os.listdir("/proc") if pid.isdigit()
              and leftovers.command_line(int(pid)) == "agent"
              and root_device(pid) == inner]
    if not agents:
        pytest.skip("the roots of other processes cannot be looked at here")
    os.kill(agents[0], 9)
    programs.wait_until(lambda: victim.get().status == 404, 10, "the end of the sandbox")
    assert not (Path(local.data_dir) / "sandboxes" / victim.id).exists()


def root_device(pid):
    try:
        return os.stat("/proc/%s/root/" % pid).st_dev
    except OSError:
        return None
