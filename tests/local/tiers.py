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
        shutil.copy(programs.find("runtime/local/e2b-local"), binary)
        data_dir = folder / "data"
        data_dir.mkdir()
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


@pytest.fixture(scope="module", params=["own", "ordinary"])
def local(request):
    if request.param == "ordinary" and os.geteuid() != 0:
        pytest.skip("the tests already run as an ordinary user")
    folder = Path(tempfile.mkdtemp(prefix="sandboxd-test-", dir="/tmp"))
    if request.param == "ordinary":
        program = OrdinaryLocal(folder)
        assert program.ready["tier"] == "B"
    else:
        program = programs.Local(folder / "data")
        assert program.ready["tier"] == ("A" if os.geteuid() == 0 else "B")
    yield program
    program.stop()
    left = leftovers.none_within(5, lambda: leftovers.mounts_below(folder))
    assert not left, "left mounted: %s" % left
    shutil.rmtree(folder)
