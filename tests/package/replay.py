"""Does what a Dockerfile says in clean Debian roots, without Docker, and judges the result.

    ./dev image [--keep DIR]

mmdebstrap makes the system that "FROM debian:12-slim" names; every RUN happens in its stage with
namespaces of its own; COPY copies. The last stage is then started as a restricted pod would start it,
in front of a local E2B, and serves a call. Takes root, and some minutes: everything is built anew.
"""

import argparse
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCES / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import image  # noqa: E402
from harness import programs  # noqa: E402

BASES = {"debian:12-slim": "bookworm"}


def instructions(path):
    """(verb, rest) of each, with lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            verb, rest = line.split(None, 1)
            yield verb.upper(), rest.strip()


class Stage:
    def __init__(self, root):
        self.root, self.cwd, self.user, self.entrypoint = root, "/", "0:0", None

    def run(self, command):
        script = """
mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1" && mkdir -p proc dev sys tmp
mount -t proc proc proc && mount -t tmpfs tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd && ln -s fd/0 dev/stdin && ln -s fd/1 dev/stdout && ln -s fd/2 dev/stderr
mkdir dev/shm && mount -t tmpfs tmpfs dev/shm
mkdir -p .old && pivot_root . .old && cd / && umount -l .old && rmdir .old
cd "$2" && exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /bin/sh -c "$3"
"""
        subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", script,
                        "sh", self.root, self.cwd, command], check=True, stdin=subprocess.DEVNULL)


class Replay:
    def __init__(self, work):
        self.work, self.stages, self.last = work, {}, None

    def play(self, path):
        self.ignored = path.with_name(path.name + ".dockerignore").read_text().split()
        for verb, rest in instructions(path):
            print("replay: %s %s" % (verb, rest), flush=True)
            getattr(self, "on_" + verb.lower())(rest)
        return self.last

    def on_from(self, rest):
        base, _, name = rest.partition(" AS ")
        root = self.work / name
        if base == "scratch":
            root.mkdir()
        elif base in BASES:
            subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", BASES[base], root], check=True)
            shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        else:
            raise ValueError("no base %s" % base)
        self.last = self.stages[name] = Stage(root)

    def on_workdir(self, rest):
        self.last.cwd = rest
        self._inside(rest).mkdir(parents=True, exist_ok=True)

    def on_run(self, rest):
        self.last.run(rest)

    def on_copy(self, rest):
        *options, source, target = shlex.split(rest)
        to = self._inside(target)
        if options:
            stage = self.stages[options[0].split("=")[1]]
            self._copy(stage.root / source.lstrip("/"), to, [])
        else:
            self._copy(SOURCES / source, to, self.ignored)

    def on_user(self, rest):
        self.last.user = rest

    def on_entrypoint(self, rest):
        self.last.entrypoint = json.loads(rest)

    def on_expose(self, rest):
        assert all(port.isdigit() for port in rest.split())

    def _inside(self, path):
        return self.last.root / os.path.join(self.last.cwd, path).lstrip("/")

    @staticmethod
    def _copy(source, target, ignored):
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_dir():
            shutil.copy2(source, target)
            return
        for entry in source.iterdir():
            if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignored):
                target.mkdir(exist_ok=True)
                subprocess.run(["cp", "-a", entry, target], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="a new folder for the roots, which stay there")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        sys.exit("this takes root, and mmdebstrap")
    work = options.keep or Path(tempfile.mkdtemp(prefix="sandboxd-image-", dir="/var/tmp"))
    work.mkdir(exist_ok=True)
    begun = time.monotonic()
    try:
        last = Replay(work).play(SOURCES / "k8s/image/Dockerfile")
        assert last.user == "65532:65532"
        programs.adopt_orphans()
        local = programs.Local(work / "data")
        try:
            size = image.judge(str(last.root), last.entrypoint, local)
        finally:
            local.stop()
        print("the image has %.1f MiB, and serves a call: read-only, user 65532, no capabilities "
              "(%d s)" % (size / (1 << 20), time.monotonic() - begun))
    finally:
        if not options.keep:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
