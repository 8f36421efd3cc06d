"""Ways out of a sandbox, each tried from inside as its user, as its root and as what its user
becomes by sudo; each fails its test when it succeeds.

That they are attempts at all is shown outside: there root makes the same ones, by the same program,
and succeeds.
"""

import os
import shlex
import socket
import subprocess
import threading

import pytest
from harness import programs
from tiers import local  # noqa: F401, the fixture
from wire import Api, AsRoot

PROBE = programs.find("tests/local/probe/probe")

UNMAPPED = 70000  # an id that no sandbox has
REFUSED = "EPERM"
DENIED = "EACCES EPERM"
UNSEEN = "ENOENT EACCES ENOMEDIUM ENODATA EROFS"
NOBODY = "ESRCH"
FOREIGN = "EPERM EINVAL"
KILLED = "Bad system call"
NO_FAMILY = "EAFNOSUPPORT"
NO_WAY = "ECONNREFUSED ECONNRESET ENETUNREACH EHOSTUNREACH EAGAIN ENOENT"

# What is tried, and how it may be refused. {victim} is a process of the host, which for what is
# tried on the agent stands for it outside; {agent} is 1 inside.
ATTEMPTS = [
    # Mounts, roots and namespaces.
    ("mount_tmpfs", REFUSED), ("mount_bind", REFUSED), ("mount_proc", REFUSED),
    ("remount=/proc", REFUSED), ("unmount=/proc", REFUSED), ("fsopen", REFUSED),
    ("open_tree", REFUSED), ("mount_setattr=/proc", REFUSED), ("pivot_root", REFUSED),
    ("chroot", REFUSED), ("clone3", "ENOSYS"), ("setns=/proc/self/ns/net", REFUSED),
    *[("%s=%#x" % (how, flag), REFUSED) for how in ("unshare", "clone")
      for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000,
                   0x40000000)],
    # The kernel's own interfaces.
    *[(name, REFUSED) for name in (
        "bpf perf add_key keyctl request_key userfaultfd io_uring load_module load_module_file "
        "unload_module kexec reboot swapon acct quotactl set_time set_time_of_day adjust_time "
        "read_kernel_log iopl modify_ldt set_host_name fanotify open_by_handle=/etc/passwd "
        "open_by_made_up_handle compare={agent} set_memory_policy push_input "
        "push_input_in_disguise use_console").split()],
    ("call_in_32_bits", KILLED), ("call_in_x32", KILLED),
    # The agent, which holds the token.
    ("attach={agent}", REFUSED), ("seize={agent}", REFUSED), ("read_memory={agent}", REFUSED),
    ("take_descriptor={agent}", REFUSED),
    *[("read=/proc/{agent}/" + name, DENIED) for name in ("environ", "maps", "mem")],
    *[("open=d,/proc/{agent}/" + name, DENIED) for name in ("root", "cwd")],
    *[("open=l,/proc/{agent}/" + name, DENIED) for name in ("exe", "fd/0", "fd/2", "ns/net")],
    ("setns=/proc/{agent}/ns/mnt", DENIED),
    # Processes of the host.
    ("signal={victim}", NOBODY), ("attach={victim}", NOBODY), ("read_memory={victim}", REFUSED),
    ("prlimit={victim}", NOBODY), ("take_descriptor={victim}", NOBODY + " EPERM"),
    ("open=d,/proc/{victim}", UNSEEN), ("read=/proc/{victim}/environ", UNSEEN),
    # Files of the host and of the kernel.
    ("read={secret}", UNSEEN), ("open=w,{secret}", UNSEEN), ("open=d,{data_dir}", UNSEEN),
    ("read=/etc/shadow", UNSEEN), ("read=/proc/1/root{secret}", UNSEEN),
    ("read=/proc/self/root{secret}", UNSEEN), ("read=/proc/self/cwd/../../../../..{secret}", UNSEEN),
    ("read=/proc/kcore", UNSEEN), ("read=/proc/keys", UNSEEN), ("read=/proc/kmsg", UNSEEN),
    ("read=/proc/timer_list", UNSEEN), ("read=/dev/mem", UNSEEN), ("read=/dev/kmsg", UNSEEN),
    ("read=/dev/vda", UNSEEN), ("open=d,/sys/kernel", UNSEEN),
    *[("open=w,/proc/sys/" + name, UNSEEN) for name in (
        "kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "vm/drop_caches",
        "vm/overcommit_memory", "fs/file-max", "net/ipv4/ip_forward",
        "user/max_user_namespaces")],
    ("open=w,/proc/sysrq-trigger", UNSEEN), ("write=/proc/self/oom_score_adj,-1", "EACCES"),
    # Users, powers and devices.
    ("become_user=%d" % UNMAPPED, FOREIGN), ("become_group=%d" % UNMAPPED, FOREIGN),
    ("join_group=%d" % UNMAPPED, FOREIGN), ("give_away=%d" % UNMAPPED, FOREIGN),
    *[("take_capability=%d" % cap, REFUSED) for cap in (2, 12, 16, 17, 19, 21, 24, 27, 38, 39)],
    ("give_file_capability", REFUSED), ("make_device=b,254,0", REFUSED),
    ("make_device=c,1,1", REFUSED), ("make_device=c,1,3", REFUSED), ("make_device=c,10,200", REFUSED),
    ("raise_limit", REFUSED), ("run_in_real_time", REFUSED), ("be_less_nice", DENIED),
    ("have_the_disk_first", REFUSED),
    # Sockets: vsock, packet, alg, key, tipc, rds, xdp, bluetooth, can; a raw one.
    *[("socket=" + numbers, NO_FAMILY) for numbers in (
        "40,1", "40,2", "17,3,768", "17,2,768", "38,5", "15,3,2", "30,5", "21,5", "44,3", "31,3,1",
        "29,3,1")],
    ("socketpair=40", NO_FAMILY), ("socketpair=30", NO_FAMILY), ("socket=2,3,1", REFUSED),
    ("socket=10,3,58", REFUSED), ("add_address", REFUSED), ("change_interface", REFUSED),
    # What listens on the host; these are the last.
    ("reach=127.0.0.1:{port}", NO_WAY), ("reach={address}:{port}", NO_WAY),
    ("reach_unix=@{abstract}", NO_WAY), ("reach_unix={socket}", NO_WAY),
]


class Host:
    """What there is to be found outside."""

    def __init__(self, folder):
        self.secret = folder / "secret"
        self.secret.write_text("of the host", encoding="ascii")
        self.secret.chmod(0o666)
        self.victim = subprocess.Popen(["sleep", "600"])
        self.tcp = socket.create_server(("0.0.0.0", 0))
        self.abstract = "escape-test-%d" % os.getpid()
        self.unix = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        self.path = folder / "listens"
        self.unix[0].bind(str(self.path))
        self.path.chmod(0o666)
        self.unix[1].bind("\0" + self.abstract)
        for listener in self.unix:
            listener.listen(100)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"host")

    def address(self):
        """Another one than the loopback's, where there is one."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            try:
                s.connect(("192.0.2.1", 9))
            except OSError:
                return "127.0.0.2"
            return s.getsockname()[0]

    def close(self):
        self.victim.kill()
        self.victim.wait()
        self.tcp.close()
        for listener in self.unix:
            listener.close()


@pytest.fixture(scope="module")
def host(local):
    made = Host(local.data_dir.parent)
    yield made
    made.close()


def words(local, host, agent):
    known = {"victim": host.victim.pid, "agent": agent, "secret": host.secret, "socket": host.path,
             "data_dir": local.data_dir, "port": host.tcp.getsockname()[1],
             "address": host.address(), "abstract": host.abstract}
    return [word.format(**known) for word, _ in ATTEMPTS]


def tell(output):
    lines = output.splitlines()
    assert len(lines) == len(ATTEMPTS), output
    return {word: line for (word, _), line in zip(ATTEMPTS, lines)}


@pytest.fixture(scope="module")
def outside(local, host):
    """What becomes of each attempt where it must succeed."""
    if os.geteuid() != 0:
        pytest.skip("only root can show that these are attempts")
    if local.ready["tier"] != "A":
        pytest.skip("this is shown once")
    all_words = words(local, host, host.victim.pid)
    # What listens is in the network of here.
    apart = [word for word in all_words if not word.startswith("reach")]
    return tell("".join(subprocess.run([PROBE, *some], stdout=subprocess.PIPE, check=True,
                                       encoding="ascii").stdout
                        for some in (["--apart", *apart], all_words[len(apart):])))


@pytest.fixture(scope="module")
def sandbox(local):
    made = Api(local.address).create(timeout=600)
    assert made.request("POST", "/files?path=/tmp/probe", PROBE.read_bytes(),
                        headers={"Content-Type": "application/octet-stream"}).status == 200
    assert made.run("chmod 755 /tmp/probe")[0] == 0
    yield made
    made.delete()


@pytest.fixture(scope="module")
def inside(request, local, sandbox, host):
    """What becomes of each attempt where none may succeed."""
    if request.param != "user" and local.ready["tier"] != "A":
        pytest.skip("tier B has no root inside")
    runner = AsRoot(sandbox.api, sandbox.created) if request.param == "root" else sandbox
    code, output = runner.run(
        ("sudo " if request.param == "sudo" else "") + "/tmp/probe " +
        " ".join(shlex.quote(word) for word in words(local, host, 1)))
    assert code == 0, output
    return tell(output.decode())


# What the root of this machine may not do either shows nothing; ENOSYS, ENODEV and the like: the
# kernel does not have it.
NOT_HERE = {"EPERM", "EACCES", "ENOSYS", "ENODEV", "ENOENT", "ENXIO", "EAFNOSUPPORT",
            "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}


@pytest.mark.parametrize("local", ["own"], indirect=True)
def test_these_are_attempts(outside):
    not_shown = {word: what for word, what in outside.items() if what != "ok"}
    assert set(not_shown.values()) <= NOT_HERE, not_shown
    assert len(not_shown) < len(outside) / 4, not_shown
    print("not shown on this machine:", not_shown)


@pytest.mark.parametrize("local, inside", [("own", "user"), ("own", "root"), ("own", "sudo"),
                                           ("ordinary", "user")], indirect=True)
@pytest.mark.parametrize("word, refusals", ATTEMPTS, ids=[word for word, _ in ATTEMPTS])
def test_attempt(inside, word, refusals):
    assert inside[word] in ([KILLED] if refusals == KILLED else refusals.split())


@pytest.mark.parametrize("word", ["become_user=0", "become_group=0", "join_group=0", "give_away=0",
                                  "take_capability=6", "take_capability=7"])
def test_a_user_is_no_root(sandbox, word):
    assert sandbox.run("/tmp/probe " + word)[1] in (b"EPERM\n", b"EINVAL\n")
