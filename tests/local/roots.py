"""Root file systems for templates, made of what this machine has."""

import os
import re
import shutil
import subprocess
from pathlib import Path

BUSYBOX = "/bin/busybox"
APPLETS = ["cat", "dd", "df", "echo", "env", "find", "head", "httpd", "id", "ls", "mkdir", "nc",
           "pwd", "seq", "sh", "sleep", "stat", "touch", "true", "wc", "wget"]
PROGRAMS = ["bash", "cat", "chown", "dd", "env", "head", "id", "ls", "mkdir", "mv", "nproc",
            "rm", "sleep", "stat", "touch", "true", "wc"]


def add_user(root, line, group=""):
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n" + line, encoding="ascii")
    (root / "etc/group").write_text("root:x:0:\n" + group, encoding="ascii")


def make_tiny(root):
    """Of an image's kind: one static program under many names, and nobody called `user`."""
    (root / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    add_user(root, "app:x:1000:1000::/srv/app:/bin/sh\n")
    (root / "srv/app").mkdir(parents=True)
    (root / "srv/app/text").write_text("of the image\n", encoding="ascii")
    (root / "lib").symlink_to("usr/lib")  # which leads nowhere


def libraries(program):
    """The shared libraries it is loaded with, and the loader, by the paths it knows them by."""
    done = subprocess.run(["ldd", program], capture_output=True, check=True, encoding="utf-8")
    return re.findall(r"(?:=> |^\t)(/\S+)", done.stdout, re.MULTILINE)


def copy(source, root):
    """To where the links on the way lead: /lib is below /usr."""
    target = root / os.path.realpath(os.path.dirname(source)).lstrip("/") / os.path.basename(source)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def give_libraries(root, program):
    """For an agent that is not static, as sanitizers make it."""
    for name in ("lib", "lib64"):
        if not (root / name).is_symlink():
            (root / name).symlink_to("usr/" + name)
    for library in libraries(program):
        copy(library, root)


def make_debian(root):
    """Of this machine's kind: everything below /usr, shared libraries, a shell that is bash."""
    (root / "usr/bin").mkdir(parents=True)
    for name in PROGRAMS:
        shutil.copy(shutil.which(name, path="/usr/bin:/bin"), root / "usr/bin" / name)
        for library in libraries(root / "usr/bin" / name):
            copy(library, root)
    shutil.copy(BUSYBOX, root / "usr/bin/busybox")
    (root / "usr/bin/sh").symlink_to("bash")
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to("usr/" + name)
    add_user(root, "", "sudo:x:27:somebody\n")
    (root / "srv/www").mkdir(parents=True)
    (root / "srv/www/index.html").write_text("served\n", encoding="ascii")
    (root / "var/lib").mkdir(parents=True)
    (root / "etc/marker").write_text("from the image\n", encoding="ascii")


def give_everybody(folder):
    """So that an ordinary user's server can read what root has made."""
    for path, directories, files in os.walk(folder):
        os.chmod(path, 0o755)
        for name in directories + files:
            entry = Path(path) / name
            if not entry.is_symlink():
                os.chmod(entry, 0o755 if entry.is_dir() else entry.stat().st_mode | 0o444)
