"""A `local` for modules whose tests hold in both tiers: as who runs the tests, and, where that is
root, as an ordinary user too."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from harness import leftovers, programs

ORDINARY = 12345  # belongs to nobody


class OrdinaryLocal(programs.Local):
    """e2b-local, started by root as somebody who has nothing but a folder."""

    def __init__(self, folder, *options):
        os.chmod(folder, 0o755)
        binary = folder / "e2b-local"  # where it was built, others may not be able to look
        if not binary.exists():
            shutil.copy(programs.find("runtime/local/e2b-local"), binary)
        data_dir = folder / "data"
        data_dir.mkdir(exist_ok=True)
        os.chown(data_dir, ORDINARY, ORDINARY)
        programs.Program.__init__(
            self, "e2b-local",
            ["setpriv", "--reuid=%d" % ORDINARY, "--regid=%d" % ORDINARY, "--clear-groups", "--",
             binary, "--listen=127.0.0.1:0", "--data-dir=%s" % data_dir,
             *options])
        self.wait_ready()
        self.data_dir = data_dir
        self.cgroups = leftovers.cgroups_of(data_dir)
        self.envd = None


class Place:
    """A folder in which one e2b-local after the other is started, all by the same user."""

    def __init__(self, tier):
        if tier == "ordinary" and os.geteuid() != 0:
            pytest.skip("the tests already run as an ordinary user")
        self.ordinary = tier == "ordinary"
        self.tier = "A" if os.geteuid() == 0 and not self.ordinary else "B"
        self.folder = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
        self.data_dir = self.folder / "data"
        self.started = []

    def start(self, *options):
        program = OrdinaryLocal(self.folder, *options) if self.ordinary else \
            programs.Local(self.data_dir, *options)
        self.started.append(program)
        assert program.ready["tier"] == self.tier
        return program

    def close(self):
        """Also when the test did not come to its end."""
        for program in self.started:
            if program.process.poll() is None:
                program.kill()
        if (self.data_dir / "zygote.sock").exists():
            self.start().stop()
        left = leftovers.none_within(5, lambda: leftovers.mounts_below(self.folder))
        assert not left, "left mounted: %s" % left
        shutil.rmtree(self.folder)


TIERS = ["own", "ordinary"]


@pytest.fixture(scope="module", params=TIERS)
def local(request):
    place = Place(request.param)
    program = place.start()
    yield program
    program.stop()
    place.close()
