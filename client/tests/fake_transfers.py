"""UploadFile and DownloadFile of the pods of fake_sandboxd, which break where they are told to."""

import hashlib
import os

import grpc
from fake_error import Error
from harness import api

COMMIT = "commit"  # of a Fault: after the commit had its effect, before it is answered
BLOCK = 1 << 16


class Upload:
    """The parts of a file that is on its way: pods remember nothing, so any may go on with it."""

    def __init__(self):
        self.parts = []

    def data(self):
        """What there is from the start on."""
        found = b""
        for offset, part in sorted(self.parts, key=lambda p: p[0]):
            if offset <= len(found):
                found += bytes(part[len(found) - offset:])
        return found


def fail(context, code, reason, **metadata):
    Error(getattr(grpc.StatusCode, code), reason, metadata=metadata).abort(context)


class Transfers:
    """What a Pod takes from here. A Fault's `after` is an offset in the file."""

    def _breaks(self, at, context):
        if not self.faults or self.faults[0].after is None:
            return
        after = self.faults[0].after
        if after == at or (COMMIT not in (after, at) and at >= after):
            self.faults.popleft().what(self, context, None, None)

    def UploadFile(self, requests, context):
        start = next(requests).start
        self.starts.append(start)
        upload = self.world.uploads.setdefault((start.path, start.upload_id), Upload())
        part, n = bytearray(), 0
        upload.parts.append((start.offset, part))
        for request in requests:
            if request.HasField("commit"):
                entry = self._commit(start, upload, request.commit, context)
                self._breaks(COMMIT, context)
                return api.UploadFileResponse(committed=True, received_size=entry.size, entry=entry)
            assert 0 < len(request.data) <= 1 << 20
            part.extend(request.data)
            n += len(request.data)
            self.world.uploaded += len(request.data)
            self._breaks(start.offset + n, context)
        return api.UploadFileResponse(received_size=len(upload.data()))

    def _commit(self, start, upload, commit, context):
        there = self.world.files.get(start.path)
        entry = api.FileEntry(path=start.path, size=commit.size, mode=commit.mode)
        if self.world.committed.get(start.path) == (start.upload_id, commit.sha256):
            return entry
        data = upload.data()
        if len(data) < commit.size:
            fail(context, "OUT_OF_RANGE", "UPLOAD_GAP", expected_offset=str(len(data)))
        if hashlib.sha256(data).digest() != commit.sha256 or len(data) != commit.size:
            fail(context, "DATA_LOSS", "DIGEST_MISMATCH")
        if there is not None and commit.create_only:
            fail(context, "ALREADY_EXISTS", "FILE_EXISTS")
        self.world.files[start.path] = api.File(path=start.path, data=data, mode=commit.mode)
        self.world.committed[start.path] = (start.upload_id, commit.sha256)
        upload.parts.clear()
        return entry

    def DownloadFile(self, request, context):
        if request.path not in self.world.files:
            fail(context, "NOT_FOUND", "FILE_NOT_FOUND")
        file = self.world.files[request.path]
        version = hashlib.md5(file.data).hexdigest()
        if request.if_version not in ("", version):
            fail(context, "FAILED_PRECONDITION", "FILE_CHANGED")
        yield api.DownloadFileResponse(start=api.DownloadStart(
            version=version, length=len(file.data) - request.offset,
            entry=api.FileEntry(path=request.path, size=len(file.data), mode=file.mode or 0o644)))
        for at in range(request.offset, len(file.data), BLOCK):
            yield api.DownloadFileResponse(data=file.data[at:at + BLOCK])
            yield api.DownloadFileResponse(data=b"")  # a sign of life
            self._breaks(min(at + BLOCK, len(file.data)), context)
            if not context.is_active():
                return
        digest = os.urandom(32) if self.lies else hashlib.sha256(file.data).digest()
        yield api.DownloadFileResponse(end=api.DownloadEnd(sha256=digest))
