"""Reading a command's events as a careful client does: checked as they come, resumed when the way breaks."""

import grpc

from harness import api


class Gap(AssertionError):
    """An event is missing, came twice, or came out of order."""


class Events:
    """What one client received of one command. Every event is checked against the one before."""

    def __init__(self, from_seq=1):
        self.next_seq = max(from_seq, 1)
        self.offsets = {"stdout": 0, "stderr": 0} if from_seq <= 1 else {}
        self.time = (0, 0)
        self.out = bytearray()
        self.err = bytearray()
        self.terminal = bytearray()
        self.text = {1: [], 2: []}
        self.count = 0
        self.dropped = []
        self.dropped_bytes = 0
        self.started = self.exited = self.closed = None
        self.heartbeats = 0
        self.command_id = None

    def take(self, response):
        if response.command_id:
            if self.command_id not in (None, response.command_id):
                raise Gap("events of %s in a stream of %s"
                          % (response.command_id, self.command_id))
            self.command_id = response.command_id
        if not response.events:
            self.heartbeats += 1
        for event in response.events:
            self._take_event(event)
        if response.last_seq and response.last_seq != self.next_seq - 1 and response.events:
            raise Gap("last_seq is %d after event %d" % (response.last_seq, self.next_seq - 1))

    def _take_event(self, event):
        kind = event.WhichOneof("event")
        if kind == "dropped":
            gone = event.dropped
            if gone.first_seq != self.next_seq or event.seq != gone.last_seq:
                raise Gap("dropped %d to %d (seq %d), expected from %d"
                          % (gone.first_seq, gone.last_seq, event.seq, self.next_seq))
            self.dropped.append((gone.first_seq, gone.last_seq))
            self.dropped_bytes += gone.bytes
            self.next_seq = event.seq + 1
            self.offsets = {}  # known again with the next output event
            return
        if event.seq != self.next_seq:
            raise Gap("event %d (%s) came, %d was expected" % (event.seq, kind, self.next_seq))
        self.next_seq += 1
        self.count += 1
        time = (event.time.seconds, event.time.nanos)
        if time < self.time:
            raise Gap("time goes back at event %d" % event.seq)
        self.time = time
        if self.exited is not None and kind in ("started", "exited"):
            raise Gap("%s after the exit" % kind)
        if kind in ("stdout", "stderr", "terminal"):
            data = getattr(event, kind)
            expected = self.offsets.get(kind)
            if expected is not None and event.offset != expected:
                raise Gap("%s at offset %d, expected %d" % (kind, event.offset, expected))
            self.offsets[kind] = event.offset + len(data)
            {"stdout": self.out, "stderr": self.err, "terminal": self.terminal}[kind].extend(data)
        elif kind == "text":
            self.text[event.text.stream].append(event.text.text)
        elif kind == "started":
            self.started = event.started
        elif kind == "exited":
            self.exited = event.exited
        elif kind == "closed":
            self.closed = event.closed

    @property
    def stdout_text(self):
        return "".join(self.text[1])

    @property
    def stderr_text(self):
        return "".join(self.text[2])


def start(stub, sandbox_id, command_id, timeout=120, **fields):
    """Starts a command and leaves it; returns its id."""
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields), timeout=timeout)
    for response in stream:
        if response.events:
            break
    stream.cancel()
    return command_id


def get(stub, sandbox_id, command_id):
    """What is known of a command."""
    return stub.GetCommand(api.GetCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id), timeout=30).command


def run(stub, sandbox_id, timeout=60, from_seq=1, **fields):
    """RunCommand to its end, without any second try."""
    events = Events(from_seq)
    if isinstance(fields.get("argv"), list):
        fields["argv"] = api.Argv(args=fields["argv"])
    request = api.RunCommandRequest(sandbox_id=sandbox_id, from_seq=from_seq, **fields)
    for response in stub.RunCommand(request, timeout=timeout):
        events.take(response)
    return events


def logs(stub, sandbox_id, command_id, timeout=60, from_seq=1, **fields):
    """Logs to its end, without any second try."""
    events = Events(from_seq)
    for response in stub.Logs(api.LogsRequest(
            sandbox_id=sandbox_id, command_id=command_id, from_seq=from_seq, **fields),
            timeout=timeout):
        events.take(response)
    return events


RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)


def follow_through(addresses, sandbox_id, command_id, on_response=None, events=None,
                   on_break=None, tries=400, **fields):
    """Follows a command to its end through whichever pod answers.

    on_response(address, events) runs after each message; on_break(address, events, error) before
    another pod is tried. Returns the events.
    """
    events = events or Events()
    fields.setdefault("follow", True)
    for attempt in range(tries):
        address = addresses[attempt % len(addresses)]
        with api.channel(address) as channel:
            stream = api.Stub(channel).Logs(api.LogsRequest(
                sandbox_id=sandbox_id, command_id=command_id, from_seq=events.next_seq, **fields))
            try:
                for response in stream:
                    events.take(response)
                    if on_response:
                        on_response(address, events)
                return events
            except grpc.RpcError as error:
                if error.code() not in RETRYABLE:
                    raise
                if on_break:
                    on_break(address, events, error)
    raise AssertionError("the command did not end within %d streams" % tries)
