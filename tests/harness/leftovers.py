"""What programs must not leave behind: processes, mounts, cgroups."""

import os
import subprocess
import time
from pathlib import Path


def _parents():
    """pid -> (parent, state) of every process."""
    table = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        fields = stat[stat.rindex(")") + 2:].split()
        table[int(entry)] = (int(fields[1]), fields[0])
    return table


def descendants(root):
    """Living processes that come from root, with zombies left out."""
    table = _parents()
    found, frontier = set(), {root}
    while frontier:
        frontier = {pid for pid, (parent, _) in table.items() if parent in frontier} - found
        found |= frontier
    return {pid for pid in found if table[pid][1] not in "ZX"}


def command_line(pid):
    try:
        data = Path("/proc/%d/cmdline" % pid).read_bytes()
    except OSError:
        return ""
    return data.replace(b"\0", b" ").decode("utf-8", "replace").strip()


def mounts_below(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = [line.split()[4] for line in f]
    return [p for p in points if p == str(path) or p.startswith("%s/" % path)]


def cgroups_of(data_dir):
    """The cgroups that e2b-local makes for this folder. They are named by its inode, so there may be
    older ones, of a folder that had the number before and an e2b-local that was killed."""
    status = os.stat(data_dir)
    name = "e2b-local-%x-%x" % (status.st_dev, status.st_ino)
    born = float(subprocess.check_output(["stat", "-c", "%.W", data_dir]))  # 0: not known
    found = (os.path.join(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup")
             if name in names)
    return [path for path in found if _changed(path) >= born]


def _changed(path):
    """When, in seconds; -1: it is gone."""
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return -1


def reap():
    """Collects what ended and was handed to us."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def none_within(seconds, list_leftovers):
    """Gives leftovers a moment to go, then returns those that did not."""
    end = time.monotonic() + seconds
    while True:
        left = list_leftovers()
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.02)
