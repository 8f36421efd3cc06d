"""Files of any size, through pods that break on the way."""

import json
import os
import signal
import stat
import time

import fake_sandboxd
import grpc
import pytest
from command_line import Sandboxctl
from fake_sandboxd import Fault
from fake_transfers import COMMIT
from fixtures import pods, sandboxctl, world  # noqa: F401 (fixtures)
from harness import api

BLOCK = 1 << 18  # what is sent at a time
CONTENT = os.urandom(12 * BLOCK + 345)

unavailable = fake_sandboxd.fails(grpc.StatusCode.UNAVAILABLE)


@pytest.fixture
def local(tmp_path):
    path = tmp_path / "local"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def stored(world):
    world.files["x"] = api.File(path="x", data=CONTENT, mode=0o750)
    return world.files["x"]


def forget(pod, context, stream, sent):
    """The pod goes away, and of what came in the last part all but a little is lost with it."""
    _, part = next(iter(pod.world.uploads.values())).parts[-1]
    del part[BLOCK:]
    unavailable(pod, context, stream, sent)


def went_well(done):
    assert done.returncode == 0, done.stderr
    return done


# ---- uploads


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, len(CONTENT)])
def test_any_size_both_ways(pods, world, sandboxctl, tmp_path, size):
    (tmp_path / "up").write_bytes(CONTENT[:size])
    done = went_well(sandboxctl("upload", "box", str(tmp_path / "up"), "x", "--mode=750", "-u", "me"))
    assert (done.stdout, done.stderr) == ("", "")
    [start] = pods[0].starts
    assert (start.sandbox_id, start.user, start.offset, len(start.upload_id)) == ("box", "me", 0, 32)
    assert world.files["x"].data == CONTENT[:size] and world.uploaded == size
    done = went_well(sandboxctl("download", "box", "x", str(tmp_path / "down")))
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "down").read_bytes() == CONTENT[:size]


@pytest.mark.parametrize("what", [unavailable, fake_sandboxd.die], ids=["fails", "dies"])
@pytest.mark.parametrize("after", [1, 5 * BLOCK, 12 * BLOCK])
def test_an_upload_goes_on_where_it_broke(pods, world, sandboxctl, local, after, what):
    pods[0].faults.append(Fault(after, what))
    done = went_well(sandboxctl("upload", "box", str(local), "x"))
    assert world.files["x"].data == CONTENT
    asked, again = pods[1].starts  # or, where all of it was on its way: commits, and is told
    assert asked.offset in (0, len(CONTENT)) and len(CONTENT) > again.offset >= after
    assert len(pods[0].starts) == 1 and asked.upload_id == pods[0].starts[0].upload_id
    assert "resumed at byte %d on %s\n" % (again.offset, pods[1].address) in done.stderr


def test_an_upload_breaks_many_times(pods, world, local):
    for n in range(10):
        pods[n % 2].faults.append(Fault((n + 1) * BLOCK, unavailable))
    went_well(Sandboxctl(pods, "--give-up=20s")("upload", "box", str(local), "x"))
    assert world.files["x"].data == CONTENT
    assert world.uploaded < 2 * len(CONTENT)


def test_what_a_pod_lost_is_sent_again(pods, world, sandboxctl, local):
    pods[0].faults.append(Fault(5 * BLOCK, forget))
    went_well(sandboxctl("upload", "box", str(local), "x"))
    assert pods[1].starts[-1].offset == BLOCK
    assert world.files["x"].data == CONTENT


def test_a_commit_whose_answer_was_lost_is_not_done_twice(pods, world, sandboxctl, local):
    pods[0].faults.append(Fault(COMMIT, unavailable))
    pods[1].faults.append(Fault(COMMIT, unavailable))
    went_well(sandboxctl("upload", "--create", "box", str(local), "x"))
    assert world.files["x"].data == CONTENT and world.uploaded == len(CONTENT)
    assert all(s.offset == len(CONTENT) for pod in pods for s in pod.starts[1:])


def test_a_pod_that_hangs_is_left(pods, world, local):
    """All of it is in buffers on the way, the commit included, and the pod takes nothing."""
    pods[0].faults.append(Fault(BLOCK, fake_sandboxd.silence))
    done = went_well(Sandboxctl(pods, "--call-timeout=500ms")("upload", "box", str(local), "x"))
    assert world.files["x"].data == CONTENT and "resumed at byte" in done.stderr


def test_an_upload_through_a_pipe_can_break_too(pods, world, sandboxctl):
    pods[0].faults.append(Fault(5 * BLOCK, unavailable))
    went_well(sandboxctl("upload", "box", "-", "x", text=False, input=CONTENT))
    assert world.files["x"].data == CONTENT


def test_an_upload_begins_where_stdin_stands(world, sandboxctl, local):
    with open(local, "rb") as file:
        os.lseek(file.fileno(), 1000, os.SEEK_SET)
        went_well(sandboxctl("upload", "box", "-", "x", stdin=file))
    assert world.files["x"].data == CONTENT[1000:]


def test_an_upload_that_is_refused(pods, world, sandboxctl, local, stored):
    done = sandboxctl("upload", "--create", "box", str(local), "x")
    assert done.returncode == 255 and "FILE_EXISTS" in done.stderr
    pods[0].errors["UploadFile"].append(
        fake_sandboxd.Error(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND"))
    done = sandboxctl("-o", "json", "upload", "box", str(local), "y")
    assert json.loads(done.stderr)["error"]["reason"] == "SANDBOX_NOT_FOUND"
    assert "y" not in world.files and pods[1].starts == []


def test_an_upload_gives_up(pods, world, local):
    for pod in pods:
        pod.stop()
    done = Sandboxctl(pods, "--give-up=1s", "--call-timeout=1s")("upload", "box", str(local), "x")
    assert done.returncode == 255 and "UNAVAILABLE" in done.stderr


def test_an_upload_as_json(sandboxctl, local):
    done = went_well(sandboxctl("-o", "json", "upload", "box", str(local), "x"))
    assert json.loads(done.stdout) == {
        "committed": True, "receivedSize": str(len(CONTENT)),
        "entry": {"path": "x", "size": str(len(CONTENT))}}


@pytest.mark.parametrize("path", ["/no/such/file", "/"])
def test_a_local_file_that_cannot_be_read(world, sandboxctl, path):
    done = sandboxctl("upload", "box", path, "x")
    assert done.returncode == 1 and path + ":" in done.stderr
    assert world.files == {}


# ---- downloads


@pytest.mark.parametrize("what", [unavailable, fake_sandboxd.die, fake_sandboxd.silence],
                         ids=["fails", "dies", "hangs"])
@pytest.mark.parametrize("after", [1, 5 * BLOCK, len(CONTENT)])
def test_a_download_goes_on_where_it_broke(pods, stored, tmp_path, after, what):
    pods[0].faults.append(Fault(after, what))
    down = Sandboxctl(pods, "--heartbeat=400ms")
    done = went_well(down("download", "box", "x", str(tmp_path / "down")))
    assert (tmp_path / "down").read_bytes() == CONTENT
    [second] = pods[1].made("DownloadFile")
    if second.offset > 0 or what is not fake_sandboxd.die:  # which takes with it what is not out yet
        assert second.offset >= 1 and second.if_version
        assert "resumed at byte %d on %s\n" % (second.offset, pods[1].address) in done.stderr
    if what is not fake_sandboxd.die:
        assert second.offset >= after


def test_a_download_breaks_many_times_on_its_way_to_stdout(pods, stored, sandboxctl):
    for n in range(12):
        pods[n % 2].faults.append(Fault((n + 1) * BLOCK, unavailable))
    done = sandboxctl("download", "box", "x", "-", text=False)
    assert (done.returncode, done.stdout) == (0, CONTENT)


def target_is_untouched(tmp_path):
    assert [p.name for p in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_text() == "before"


@pytest.fixture
def target(tmp_path):
    (tmp_path / "target").write_text("before")
    return tmp_path / "target"


def test_a_file_that_changed_meanwhile_is_not_taken(pods, world, stored, sandboxctl, target):
    def change(pod, context, stream, sent):
        world.files["x"] = api.File(path="x", data=b"other" + CONTENT)
        unavailable(pod, context, stream, sent)

    pods[0].faults.append(Fault(5 * BLOCK, change))
    done = sandboxctl("download", "box", "x", str(target))
    assert done.returncode == 255 and "FILE_CHANGED" in done.stderr
    target_is_untouched(target.parent)


def test_a_file_that_did_not_arrive_as_it_is_is_not_taken(pods, stored, sandboxctl, target):
    pods[0].lies = True
    done = sandboxctl("download", "box", "x", str(target))
    assert done.returncode == 255 and "DATA_LOSS (DIGEST_MISMATCH)" in done.stderr
    target_is_untouched(target.parent)


def test_a_signal_leaves_nothing_behind(pods, stored, sandboxctl, target):
    pods[0].faults.append(Fault(5 * BLOCK, fake_sandboxd.silence))
    running = sandboxctl.start("download", "box", "x", str(target))
    until = time.monotonic() + 30
    while len(os.listdir(target.parent)) == 1 and time.monotonic() < until:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == -signal.SIGTERM
    target_is_untouched(target.parent)


def test_a_download_replaces_a_file_and_keeps_permissions(stored, sandboxctl, target):
    done = went_well(sandboxctl("-o", "json", "download", "box", "x", str(target), umask=0o027))
    assert target.read_bytes() == CONTENT
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    found = json.loads(done.stdout)
    assert (found["size"], found["mode"]) == (str(len(CONTENT)), 0o750)
    stored.mode = 0o666
    went_well(sandboxctl("download", "box", "x", str(target), umask=0o027))
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.parametrize("path", ["/dev/null", "/tmp", "/no/such/folder/file"])
def test_a_local_file_that_cannot_be_written(pods, stored, sandboxctl, path):
    done = sandboxctl("download", "box", "x", path)
    assert done.returncode == 1 and "cannot write " + path in done.stderr
    assert pods[0].calls == [] and stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_output_that_is_full_ends_a_download(stored, sandboxctl):
    with open("/dev/full", "w") as full, \
            sandboxctl.start("download", "box", "x", "-", stdout=full) as running:
        _, err = running.communicate(timeout=60)
    assert running.returncode == 1 and "No space left" in err
