"""A file far beyond memory, up and down through two pods, each stream cut five times on the way.

Prints the pods' most resident memory above what they had before, and how fast it went; exits with 1
when it is not flat, or what came back is not what was sent.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grpc  # noqa: E402
from harness import api, follow, programs  # noqa: E402
from harness.service import Service  # noqa: E402

MIB = 1 << 20
RSS_ALLOWED = 64 * MIB
CUTS = 5
WAIT = 1800
BLOCK = 1 << 18

_noise = os.urandom(BLOCK)


def content(begin, end):
    """Bytes begin to end of a file of which no two blocks are alike."""
    while begin < end:
        n, at = divmod(begin, BLOCK)
        block = n.to_bytes(8, "big") + _noise[8:]
        yield block[at:min(BLOCK, at + end - begin)]
        begin += BLOCK - at


class Memory:
    """The most resident memory of a pod, in bytes, above what it has now."""

    def __init__(self, pod):
        self.path = "/proc/%d/" % pod.process.pid
        with open(self.path + "clear_refs", "w") as file:
            file.write("5")  # starts VmHWM anew
        self.before = self.read("VmRSS:")

    def read(self, key):
        with open(self.path + "status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))

    def risen(self):
        return self.read("VmHWM:") - self.before


def start(sandbox_id, offset):
    return api.UploadFileRequest(start=api.UploadStart(
        sandbox_id=sandbox_id, path="large", upload_id="bigfile", offset=offset))


def upload_until(stub, sandbox_id, begin, end):
    """Sends these bytes, then breaks the stream off while it waits for more."""
    reached, broken = threading.Event(), threading.Event()

    def requests():
        yield start(sandbox_id, begin)
        for block in content(begin, end):
            yield api.UploadFileRequest(data=block)
        reached.set()
        broken.wait(WAIT)

    call = stub.UploadFile.future(requests(), timeout=WAIT)
    if not reached.wait(WAIT):
        raise TimeoutError("the upload stands still")
    call.cancel()
    broken.set()


def upload(stubs, sandbox_id, size, sha256):
    have = 0
    for n in range(CUTS):
        upload_until(stubs[n % 2], sandbox_id, have, size * (n + 1) // (CUTS + 1) + n * 12345)
        have = stubs[(n + 1) % 2].UploadFile(
            iter([start(sandbox_id, 0)]), timeout=WAIT).received_size
        print("  cut at %d MiB" % (have // MIB), flush=True)

    def rest():
        yield start(sandbox_id, have)
        for block in content(have, size):
            yield api.UploadFileRequest(data=block)
        yield api.UploadFileRequest(commit=api.UploadCommit(size=size, sha256=sha256))

    done = stubs[0].UploadFile(rest(), timeout=WAIT)
    assert done.committed and done.entry.size == size


def download(stubs, sandbox_id, size, sha256):
    """The digest of what came, and the one that the last stream said."""
    digest, have, version, told = hashlib.sha256(), 0, "", None
    for n in range(CUTS + 1):
        stop = size * (n + 1) // (CUTS + 1) if n < CUTS else size + 1
        call = stubs[n % 2].DownloadFile(api.DownloadFileRequest(
            sandbox_id=sandbox_id, path="large", offset=have, if_version=version,
            with_sha256=n == CUTS), timeout=WAIT)
        for message in call:
            kind = message.WhichOneof("message")
            if kind == "start":
                version = message.start.version
            elif kind == "data":
                digest.update(message.data)
                have += len(message.data)
                if have >= stop:
                    print("  cut at %d MiB" % (have // MIB), flush=True)
                    call.cancel()
                    break
            else:
                told = message.end.sha256
    assert have == size, "of %d bytes %d came" % (size, have)
    return digest.digest(), told


def measure(service, size):
    stubs = [service.stub(0), service.stub(1)]
    created = stubs[0].CreateSandbox(api.CreateSandboxRequest(
        template="large", timeout=api.seconds(2700)), timeout=60)
    sandbox_id = created.sandbox.sandbox_id
    digest = hashlib.sha256()
    for block in content(0, size):
        digest.update(block)
    sha256 = digest.digest()
    follow.run(stubs[0], sandbox_id, shell="true")
    memory = [Memory(pod) for pod in service.pods]
    figures = {}
    for name, move in ("upload", upload), ("download", download):
        print("%s of %d MiB" % (name, size // MIB), flush=True)
        began = time.monotonic()
        came = move(stubs, sandbox_id, size, sha256)
        assert came in (None, (sha256, sha256)), "the digest is another one"
        seconds = time.monotonic() - began
        figures[name] = "%.0f s, %.0f MiB/s" % (seconds, size / MIB / seconds)
        figures[name + " RSS above idle, MiB"] = ["%.1f" % (m.risen() / MIB) for m in memory]
    got = follow.run(stubs[0], sandbox_id, timeout=WAIT, shell="sha256sum large")
    assert got.out.decode().split()[0] == sha256.hex()
    stubs[0].DeleteSandbox(api.DeleteSandboxRequest(sandbox_id=sandbox_id), timeout=60)
    for name, value in figures.items():
        print("%s: %s" % (name, value))
    return all(m.risen() < RSS_ALLOWED for m in memory)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=10 << 10, help="size of the file (10240)")
    parser.add_argument("--dir", help="where the sandbox's disk is; takes 1.4 times the size")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(dir=options.dir))
    try:
        (directory / "templates" / "large").mkdir(parents=True)
        (directory / "templates" / "large" / "template.json").write_text(
            json.dumps({"disk": "disk", "diskSizeMB": options.mib * 2 + 1024}))
        local = programs.Local(directory / "local", "--template-dir=%s" % (directory / "templates"))
        try:
            with Service(local) as service:
                flat = measure(service, options.mib * MIB)
        finally:
            local.stop()
    finally:
        shutil.rmtree(directory)
    if not flat:
        sys.exit("the pods' memory is not flat: more than %d MiB above idle" % (RSS_ALLOWED // MIB))


if __name__ == "__main__":
    programs.adopt_orphans()
    main()
