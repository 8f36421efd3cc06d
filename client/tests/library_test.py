"""libsandbox by itself: its example, and many threads on one client."""

import subprocess
import time

import fake_sandboxd
import grpc
from fake_sandboxd import Command, Fault, event, exited, lines, started
from fixtures import pods, world  # noqa: F401 (fixtures)
from harness import programs


def run(program, pods, *args):
    addresses = ",".join(pod.address for pod in pods)
    return subprocess.run([str(programs.find(program)), addresses, *map(str, args)],
                          capture_output=True, text=True, timeout=60, check=False)


def test_the_example(pods, world):
    world.next_command = lambda: Command([
        started(), *(event(i + 1, stdout=b"hello %d\n" % i) for i in (1, 2, 3)), exited(5, 3)])
    pods[0].faults.append(Fault(3, fake_sandboxd.die))
    done = run("client/hello", pods)
    assert done.returncode == 0
    assert done.stdout == "hello 1\nhello 2\nhello 3\nit exited with 3 after 5 events\n"
    assert done.stderr == "lost %s behind event 3, went on at %s\n" % (
        pods[0].address, pods[1].address)
    assert b"hello $i" in world.files["hello.sh"].data
    assert world.sandboxes == []


def test_threads_share_a_client(pods, world):
    """Each of them loses its stream several times."""
    world.next_command = lambda: Command(lines(298))
    for pod in pods:
        pod.faults.extend(
            Fault(90, fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE)) for _ in range(8))
    before = time.monotonic()
    done = run("client/threads", pods, 8)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - before < 9  # no call hangs until it is given up
    resumed = {request.from_seq for pod in pods for request in pod.made("Logs")}
    assert resumed <= {91, 181, 271}  # no stream is broken by the failure of another
    assert done.stdout == "ended 8 stopped 0 events 2400\n"
    assert len(world.starts) == 8
    assert all(command.acked[-1] == 300 for command in world.commands.values())


def test_stop_ends_streams_that_wait(pods, world):
    world.next_command = lambda: Command([started()], finished=False)
    before = time.monotonic()
    done = run("client/threads", pods, 8, 700)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "ended 0 stopped 8 events 8\n"
    assert time.monotonic() - before < 20


def test_stop_ends_attempts_that_wait(pods):
    for pod in pods:
        pod.stop()
    before = time.monotonic()
    done = run("client/threads", pods, 4, 700)
    assert (done.returncode, done.stdout) == (0, "ended 0 stopped 4 events 0\n")
    assert time.monotonic() - before < 20
