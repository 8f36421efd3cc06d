"""A backend in Python: unary calls all the time, and streams that go on where they broke.

Reads its plan from the first line of stdin, says when all streams have begun, works until the second
line, and prints what it met. load_client.cjs is the same in JavaScript.
"""

import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import grpc  # noqa: E402
from harness import api, follow  # noqa: E402

PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)


class Load:
    def __init__(self, plan):
        self.plan, self.stopped = plan, threading.Event()
        self.lock = threading.Lock()
        self.calls, self.typed, self.breaks = 0, 0, 0
        self.failures, self.commands, self.begun = [], {}, set()

    def channel(self):
        return grpc.insecure_channel(self.plan["address"], options=[
            ("grpc.service_config", self.plan["service_config"]), ("grpc.enable_retries", 1),
            ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])

    def call(self, method, request):
        """Never again by itself: that is the service config's, or nobody's."""
        try:
            answer = method(request, timeout=30)
        except grpc.RpcError as error:
            with self.lock:
                self.failures.append("%s: %s %s" % (
                    type(request).__name__, error.code().name, error.details()))
            return None
        with self.lock:
            self.calls += 1
        return answer

    def unary(self, n):
        sandbox_id = self.plan["sandbox_id"]
        with self.channel() as channel:
            stub, round_ = api.Stub(channel), 0
            while not self.stopped.is_set():
                round_ += 1
                text = "%s %d %d" % (self.plan["name"], n, round_)
                path = "%s-%d" % (self.plan["name"], n)
                self.call(stub.GetSandbox, api.GetSandboxRequest(sandbox_id=sandbox_id))
                if self.call(stub.WriteFiles, api.WriteFilesRequest(
                        sandbox_id=sandbox_id, files=[api.File(path=path, text=text)])):
                    got = self.call(stub.ReadFile, api.ReadFileRequest(
                        sandbox_id=sandbox_id, path=path))
                    if got and got.data != text.encode():
                        self.failures.append("read %r, wrote %r" % (got.data, text))
                self.call(stub.ListCommands, api.ListCommandsRequest(sandbox_id=sandbox_id))

    def type(self):
        """What nobody may repeat: each line once, in order."""
        with self.channel() as channel:
            stub = api.Stub(channel)
            while not self.stopped.is_set():
                self.typed += 1
                self.call(stub.SendInput, api.SendInputRequest(
                    sandbox_id=self.plan["sandbox_id"], command_id=self.plan["name"] + "-cat",
                    text="%d\n" % self.typed))
                time.sleep(0.01)
            self.call(stub.SendInput, api.SendInputRequest(
                sandbox_id=self.plan["sandbox_id"], command_id=self.plan["name"] + "-cat", eof=True))

    def follow(self, command_id):
        """To its end; events check that none is missing."""
        events = follow.Events()
        with self.channel() as channel:
            stub = api.Stub(channel)
            while events.exited is None:
                try:
                    for response in stub.Logs(api.LogsRequest(
                            sandbox_id=self.plan["sandbox_id"], command_id=command_id, follow=True,
                            from_seq=events.next_seq)):
                        events.take(response)
                        self.note_begun(command_id)
                except grpc.RpcError as error:
                    with self.lock:
                        self.breaks += 1
                        if error.code() not in PASSING or self.breaks > 1000:
                            self.failures.append("Logs: %s %s" % (error.code().name, error.details()))
                            return
                except follow.Gap as gap:
                    with self.lock:
                        self.failures.append("Logs of %s: %s" % (command_id, gap))
                    return
        with self.lock:
            self.commands[command_id] = {"events": events.count, "out": events.out.decode()}

    def note_begun(self, command_id):
        with self.lock:
            if command_id in self.begun:
                return
            self.begun.add(command_id)
            if len(self.begun) == len(self.plan["commands"]):
                print("begun", flush=True)

    def run(self):
        followers = [threading.Thread(target=self.follow, args=(c,)) for c in self.plan["commands"]]
        workers = [threading.Thread(target=self.unary, args=(n,)) for n in range(self.plan["callers"])]
        workers.append(threading.Thread(target=self.type))
        for thread in followers + workers:
            thread.start()
        sys.stdin.readline()
        self.stopped.set()
        for thread in workers + followers:
            thread.join()
        print(json.dumps({
            "calls": self.calls, "typed": self.typed, "breaks": self.breaks,
            "failures": self.failures[:20], "failed": len(self.failures),
            "commands": self.commands}), flush=True)


Load(json.loads(sys.stdin.readline())).run()
