"""sandboxd as clients see it, and as it may fail: pods that share a world and do what a test says.

A pod takes the next fault of its script for each stream it serves. Nothing here runs commands: they
are lists of events, finished or growing.
"""

import collections
import concurrent.futures
import itertools
import threading
import time

import grpc
from fake_error import Error
from fake_transfers import Transfers
from harness import api

SERVICE = "sandbox.v1.SandboxService"


def event(seq, **fields):
    made = api.CommandEvent(seq=seq, **fields)
    made.time.seconds = 1_700_000_000 + seq
    return made


def started(seq=1, pid=42):
    return event(seq, started=api.Started(pid=pid))


def exited(seq, code=0, reason="EXITED", **fields):
    number = api.Exited.Reason.Value("REASON_" + reason)
    return event(seq, exited=api.Exited(reason=number, code=code, **fields))


def lines(n, code=0):
    """A command that printed n numbered lines."""
    return [started(), *(event(i + 1, stdout=b"line %d\n" % i) for i in range(1, n + 1)),
            exited(n + 2, code)]


class Command:
    def __init__(self, events, finished=True):
        self.events = list(events)
        self.finished = finished
        self.served = 0  # events, to all readers
        self.acked = []  # the seq of each AckLogs
        self.input = b""
        self.eof = False
        self.signals = []
        self.changed = threading.Condition()

    def append(self, made, finished=False):
        with self.changed:
            self.events.append(made)
            self.finished = finished
            self.changed.notify_all()

    def _next(self, at, follow, quiet, is_wanted):
        """The event at that place; None after a quiet time; StopIteration at the end."""
        until = time.monotonic() + quiet
        with self.changed:
            while at == len(self.events):
                if self.finished or not follow or not is_wanted():
                    raise StopIteration
                if time.monotonic() > until:
                    return None
                self.changed.wait(0.05)
            return self.events[at]

    def read(self, from_seq, follow, heartbeat, is_wanted):
        """Events from from_seq on; None where a heartbeat is due."""
        at = 0
        while True:
            try:
                made = self._next(at, follow, heartbeat, is_wanted)
            except StopIteration:
                return
            if made is None:
                yield None
                continue
            at += 1
            if made.seq >= from_seq:
                self.served += 1
                yield made


class World:
    """What all pods see alike."""

    def __init__(self):
        self.commands = {}
        self.starts = []  # RunCommandRequests that started something
        self.next_command = lambda: Command(lines(3))
        self.sandboxes = []
        self.snapshots = []
        self.files = {}
        self.uploads = {}  # (path, upload_id) -> Upload
        self.committed = {}  # path -> (upload_id, digest)
        self.uploaded = 0  # bytes, each as often as it came
        self.lock = threading.Lock()

    def start(self, request):
        with self.lock:
            if request.command_id not in self.commands:
                self.starts.append(request)
                self.commands[request.command_id] = self.next_command()
            return self.commands[request.command_id]


# What a stream does once it has sent `after` events (0: once it has said hello; None: never).
Fault = collections.namedtuple("Fault", "after what", defaults=(None, None))


def die(pod, context, stream, sent):
    """The pod goes away, with all that is connected to it."""
    pod.kill_soon()
    while context.is_active():
        time.sleep(0.01)
    return ()


def silence(pod, context, stream, sent):
    """The pod hangs: not a byte any more."""
    while context.is_active():
        time.sleep(0.01)
    return ()


def fails(*args, **kwargs):
    def fault(pod, context, stream, sent):
        Error(*args, **kwargs).abort(context)
    return fault


def ends(pod, context, stream, sent):
    """The stream ends as if all had been said."""
    return ()


def skips(pod, context, stream, sent):
    """One event is left out."""
    next(stream)
    return ({"events": [made], "last_seq": made.seq} for made in stream)


def claims(pod, context, stream, sent):
    """A message tells of an event that was not sent."""
    return iter([{"events": [], "last_seq": 1000}])


def garbage(pod, context, stream, sent):
    return iter([b"\xff\xff\xff\xff"])


def another(pod, context, stream, sent):
    """The answer is for another command."""
    return iter([{"command_id": "another"}])


def repeats(n):
    def fault(pod, context, stream, sent):
        again = sent[-n:]
        return ({"events": [made], "last_seq": made.seq}
                for made in itertools.chain(again, stream) if made is not None)
    return fault


class Pod(Transfers):
    def __init__(self, world, heartbeat=15):
        self.world = world
        self.heartbeat = heartbeat
        self.calls = []  # (method, request, metadata)
        self.faults = collections.deque()
        self.errors = collections.defaultdict(collections.deque)  # method -> Error
        self.delays = collections.defaultdict(float)
        self.serving = True
        self.starts = []  # of UploadFile
        self.lies = False  # about digests
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=16),
                                  options=[("grpc.so_reuseport", 0)])
        self.server.add_generic_rpc_handlers([_Handlers(self)])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.address = "127.0.0.1:%d" % self.port
        self.server.start()

    def kill_soon(self):
        threading.Thread(target=self.stop).start()

    def stop(self):
        self.server.stop(0).wait()

    def made(self, method):
        """The requests that were made of a method."""
        return [request for name, request, _ in self.calls if name == method]

    # ---- streams

    def _follow(self, context, command_id, command, from_seq, follow, response):
        fault = self.faults.popleft() if self.faults else Fault()
        yield response(command_id=command_id)
        stream = command.read(from_seq, follow, self.heartbeat, context.is_active)
        sent = []
        while fault.after != len(sent):
            try:
                made = next(stream)
            except StopIteration:
                return
            if made is None:
                yield response()
                continue
            sent.append(made)
            yield response(events=[made], last_seq=made.seq)
        for fields in fault.what(self, context, stream, sent):
            yield fields if isinstance(fields, bytes) else response(**fields)

    def RunCommand(self, request, context):
        command = self.world.start(request)
        return self._follow(context, request.command_id, command, request.from_seq, True,
                            api.RunCommandResponse)

    def Logs(self, request, context):
        command = self.command(request, context)
        return self._follow(context, request.command_id, command, request.from_seq, request.follow,
                            api.LogsResponse)

    # ---- unary methods

    def command(self, request, context):
        if request.command_id not in self.world.commands:
            Error(grpc.StatusCode.NOT_FOUND, "COMMAND_NOT_FOUND").abort(context)
        return self.world.commands[request.command_id]

    def CreateSandbox(self, request, context):
        for sandbox in self.world.sandboxes:
            if request.request_id == sandbox.metadata["request_id"]:
                return api.CreateSandboxResponse(sandbox=sandbox, reused=True)
        sandbox = api.Sandbox(sandbox_id="i%d" % len(self.world.sandboxes), state=1,
                              template=request.template or "base")
        sandbox.start_time.seconds = 1_700_000_000
        sandbox.end_time.seconds = 1_700_000_600
        sandbox.metadata.update(request.metadata)
        sandbox.metadata["request_id"] = request.request_id
        self.world.sandboxes.append(sandbox)
        return api.CreateSandboxResponse(sandbox=sandbox)

    def _page(self, all_of_it, token):
        """Two at a time, so that there are pages."""
        at = int(token or 0)
        return all_of_it[at:at + 2], str(at + 2) if at + 2 < len(all_of_it) else ""

    def ListSandboxes(self, request, context):
        wanted = request.metadata.items()
        found = [s for s in self.world.sandboxes if wanted <= s.metadata.items()]
        page, token = self._page(found, request.page_token)
        return api.ListSandboxesResponse(sandboxes=page, next_page_token=token)

    def GetSandbox(self, request, context):
        for sandbox in self.world.sandboxes:
            if sandbox.sandbox_id == request.sandbox_id:
                return api.GetSandboxResponse(sandbox=sandbox)
        Error(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND").abort(context)

    def DeleteSandbox(self, request, context):
        kept = [s for s in self.world.sandboxes if s.sandbox_id != request.sandbox_id]
        if len(kept) == len(self.world.sandboxes) and not request.allow_missing:
            Error(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND",
                  message="sandbox %s does not exist" % request.sandbox_id).abort(context)
        self.world.sandboxes = kept
        return api.DeleteSandboxResponse()

    def SetSandboxTimeout(self, request, context):
        response = api.SetSandboxTimeoutResponse()
        response.end_time.seconds = 1_700_000_000 + request.timeout.seconds
        return response

    def KeepAlive(self, request, context):
        response = api.KeepAliveResponse()
        response.end_time.seconds = 1_700_000_000 + (request.timeout.seconds or 600)
        return response

    def _state(self, sandbox_id, state, context):
        for sandbox in self.world.sandboxes:
            if sandbox.sandbox_id == sandbox_id:
                changed = sandbox.state != state
                sandbox.state = state
                return sandbox, changed
        return Error(grpc.StatusCode.NOT_FOUND, "SANDBOX_NOT_FOUND").abort(context)

    def PauseSandbox(self, request, context):
        sandbox, _ = self._state(request.sandbox_id, api.Sandbox.STATE_PAUSED, context)
        return api.PauseSandboxResponse(sandbox=sandbox)

    def ResumeSandbox(self, request, context):
        sandbox, resumed = self._state(request.sandbox_id, api.Sandbox.STATE_RUNNING, context)
        return api.ResumeSandboxResponse(sandbox=sandbox, resumed=resumed)

    def PurgeSandboxes(self, request, context):
        wanted = request.metadata.items()
        found = [s for s in self.world.sandboxes if wanted <= s.metadata.items()]
        taken = found[:2]
        if not request.dry_run:
            self.world.sandboxes = [s for s in self.world.sandboxes if s not in taken]
        return api.PurgeSandboxesResponse(
            sandbox_ids=[s.sandbox_id for s in taken], more=len(found) > len(taken))

    def CreateSnapshot(self, request, context):
        made = api.Snapshot(snapshot_id="s%d:default" % len(self.world.snapshots),
                            names=[request.name] if request.name else [])
        self.world.snapshots.append(made)
        return api.CreateSnapshotResponse(snapshot=made)

    def ListSnapshots(self, request, context):
        page, token = self._page(self.world.snapshots, request.page_token)
        return api.ListSnapshotsResponse(snapshots=page, next_page_token=token)

    def DeleteSnapshot(self, request, context):
        kept = [s for s in self.world.snapshots if s.snapshot_id != request.snapshot_id]
        if len(kept) == len(self.world.snapshots) and not request.allow_missing:
            Error(grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND",
                  message="snapshot %s does not exist" % request.snapshot_id).abort(context)
        self.world.snapshots = kept
        return api.DeleteSnapshotResponse()

    def GetSandboxUrl(self, request, context):
        host = "%d-%s.example.org" % (request.port, request.sandbox_id)
        return api.GetSandboxUrlResponse(url="https://" + host, host=host, headers={"x-key": "k"})

    def WriteFiles(self, request, context):
        response = api.WriteFilesResponse()
        for file in request.files:
            self.world.files[file.path] = file
            response.files.add(path=file.path, size=len(file.data))
        return response

    def ReadFile(self, request, context):
        if request.path not in self.world.files:
            Error(grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND").abort(context)
        data = self.world.files[request.path].data
        if request.encoding == api.ENCODING_TEXT:
            return api.ReadFileResponse(text=data.decode("utf-8", "replace"), size=len(data))
        return api.ReadFileResponse(data=data, size=len(data))

    def _describe(self, command_id, command):
        made = api.Command(command_id=command_id, args=["/bin/bash", "-l", "-c", "make it"],
                           state=api.Command.STATE_EXITED if command.finished
                           else api.Command.STATE_RUNNING,
                           pid=42, last_seq=command.events[-1].seq)
        if command.finished:
            made.exited.CopyFrom(command.events[-1].exited)
        return made

    def GetCommand(self, request, context):
        command = self.command(request, context)
        return api.GetCommandResponse(command=self._describe(request.command_id, command))

    def ListCommands(self, request, context):
        page, token = self._page(sorted(self.world.commands), request.page_token)
        return api.ListCommandsResponse(
            commands=[self._describe(i, self.world.commands[i]) for i in page],
            next_page_token=token)

    def SendInput(self, request, context):
        command = self.command(request, context)
        command.input += request.data
        command.eof = command.eof or request.eof
        return api.SendInputResponse(offset=len(command.input))

    def SignalCommand(self, request, context):
        command = self.command(request, context)
        command.signals.append(request.signal)
        if command.finished:
            Error(grpc.StatusCode.FAILED_PRECONDITION, "COMMAND_ENDED").abort(context)
        return api.SignalCommandResponse()

    def AckLogs(self, request, context):
        self.command(request, context).acked.append(request.seq)
        return api.AckLogsResponse(acked_seq=request.seq)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, pod):
        self.pod = pod

    def service(self, details):
        _, service, method = details.method.split("/")
        if service == "grpc.health.v1.Health" and method == "Check":
            return self._health()
        if service != SERVICE or not hasattr(self.pod, method):
            return None
        streams = api.STREAMING[details.method]

        def call(request, context):
            self.pod.calls.append((method, request, dict(details.invocation_metadata)))
            if self.pod.delays[method]:
                time.sleep(self.pod.delays[method])
            if self.pod.errors[method]:
                self.pod.errors[method].popleft().abort(context)
            return getattr(self.pod, method)(request, context)

        make = {(False, True): grpc.unary_stream_rpc_method_handler,
                (True, False): grpc.stream_unary_rpc_method_handler,
                (False, False): grpc.unary_unary_rpc_method_handler}[streams]
        return make(call, request_deserializer=api.message(
            "sandbox.v1.%sRequest" % method).FromString,
            response_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString())

    def _health(self):
        response = api.message("grpc.health.v1.HealthCheckResponse")
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: response(status=1 if self.pod.serving else 2),
            request_deserializer=api.message("grpc.health.v1.HealthCheckRequest").FromString,
            response_serializer=response.SerializeToString)
