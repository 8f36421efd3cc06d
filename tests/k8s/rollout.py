"""Pods behind a balancer of ours, replaced one after the other, and load on them from clients in two
languages that notices whatever is lost."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from harness import api, follow, programs
from harness.programs import Pod, Program, wait_until
from kubernetes import tool

HEARTBEAT_S = 0.5
IDLE_S = 10  # what a proxy takes for dead; a unary call, which is silent, may be slow on a busy machine
PODS = 3
LINES = """i=0; while [ ! -e done ]; do i=$((i+1)); echo line $i; sleep 0.01; done"""


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Deployment:
    """Pods at addresses of their own, that can be replaced as a rollout does."""

    def __init__(self, local, heartbeat_s=HEARTBEAT_S, count=PODS, program="service/sandboxd",
                 has_admin_port=True):
        self.local, self.heartbeat_s = local, heartbeat_s
        self.program, self.has_admin_port = program, has_admin_port
        ports = free_ports(2 * count)
        self.addresses = ["127.0.0.1:%d" % p for p in ports[:count]]
        self.admin_ports = ports[count:]
        self.pods = []
        for n in range(count):
            self.pods.append(self._start(n, program))

    def _start(self, n, program):
        # Told to end, a pod serves on for longer than balancers need to notice.
        options = ["--heartbeat-interval=%dms" % (self.heartbeat_s * 1000),
                   "--drain-settle=2500ms", "--drain-spread=1s", "--drain-budget=20s"]
        if self.has_admin_port:
            options.append("--admin-listen=127.0.0.1:%d" % self.admin_ports[n])
        return Pod(self.local.url, "http://" + self.local.sandbox_address, *options,
                   listen=self.addresses[n], name="pod %d" % n, program=program)

    def restart(self, n, program=None):
        self.pods[n].terminate()
        self.pods[n].stop(timeout=60)
        self.pods[n] = self._start(n, program or self.program)

    def stop(self):
        for pod in self.pods:
            pod.stop()


class Balancer(Program):
    """Envoy or haproxy."""

    def __init__(self, name, args, port, pods):
        super().__init__(name, args)
        self.pods = pods
        self.ready = {"listen": "127.0.0.1:%d" % port}
        try:
            wait_until(self._listens, 30, name)
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise

    def wait_healthy(self):
        wait_until(lambda: self.healthy() == self.pods, 30, "health of all pods", every=0.05)

    def _listens(self):
        assert self.process.poll() is None, self.tail()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self, timeout=30):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout)


class Envoy(Balancer):
    def __init__(self, deployment, directory):
        binary = tool("SANDBOXD_TEST_ENVOY", "Envoy")
        port, self.admin_port = free_ports(2)
        path = directory / "envoy.yaml"
        path.write_text(json.dumps(self._config(deployment, port)), encoding="utf-8")
        super().__init__("envoy", [binary, "-c", path, "--concurrency", "1", "-l", "warn",
                                   "--use-dynamic-base-id"], port, len(deployment.addresses))

    def _config(self, deployment, port):
        """The one we ship, with other addresses and shorter limits."""
        config = yaml.safe_load(programs.find("k8s/balancers/envoy.yaml").read_text("utf-8"))
        config["admin"]["address"]["socket_address"]["port_value"] = self.admin_port
        listener = config["static_resources"]["listeners"][0]
        listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        assert manager["stream_idle_timeout"] == "60s"
        manager["stream_idle_timeout"] = "%ds" % IDLE_S
        manager["http_filters"][0]["typed_config"]["proto_descriptor"] = str(
            programs.find("proto/sandboxd.protoset"))
        cluster = config["static_resources"]["clusters"][0]
        cluster["type"] = "STATIC"
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {
                "address": "127.0.0.1", "port_value": int(a.split(":")[1])}}}}
            for a in deployment.addresses]
        cluster["health_checks"][0].update(interval="0.25s", no_traffic_interval="0.25s")
        return config

    def healthy(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=5)
        try:
            connection.request("GET", "/clusters?format=json")
            status = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        hosts = status["cluster_statuses"][0].get("host_statuses", [])
        return sum(h["health_status"].get("eds_health_status") == "HEALTHY"
                   and "failed_active_health_check" not in h["health_status"] for h in hosts)


class Haproxy(Balancer):
    def __init__(self, deployment, directory):
        program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
        if not program:
            pytest.skip("haproxy is not installed")
        (port,) = free_ports(1)
        text = programs.find("k8s/balancers/haproxy.cfg").read_text(encoding="utf-8")
        assert text.count("60s") == 2
        text = text.replace("60s", "%ds" % IDLE_S).replace("inter 1s", "inter 250ms")
        text = text.replace("bind :8080", "bind 127.0.0.1:%d" % port)
        text = re.sub(r"    server-template .*\n", "".join(
            "    server pod%d %s port %d\n" % (n, address, deployment.admin_ports[n])
            for n, address in enumerate(deployment.addresses)), text)
        text = re.sub(r"\nresolvers [^\n]*\n(?:    [^\n]*\n)*", "\n", text)
        path = directory / "haproxy.cfg"
        # A path of its own: those of tests are longer than a socket's may be.
        self.socket = tempfile.mktemp(prefix="haproxy-", suffix=".sock", dir="/tmp")
        path.write_text(text.replace(
            "global\n", "global\n    stats socket %s\n" % self.socket), encoding="utf-8")
        super().__init__("haproxy", [program, "-db", "-f", path], port, len(deployment.addresses))

    def healthy(self):
        with socket.socket(socket.AF_UNIX) as stats:
            try:
                stats.connect(self.socket)
            except (FileNotFoundError, ConnectionRefusedError):
                return 0  # it comes up after the other one
            stats.sendall(b"show stat\n")
            text = b"".join(iter(lambda: stats.recv(65536), b"")).decode("ascii")
        return len(re.findall(r"^pods,pod\d+,.*,UP,", text, re.MULTILINE))


def clients():
    """Command lines by language."""
    here = Path(__file__).resolve().parent
    found = {"python": [sys.executable, str(here / "load_client.py")]}
    if os.environ.get("SANDBOXD_TEST_GRPC_NODE_MODULES"):
        found["node"] = ["node", str(here / "load_client.cjs")]
    return found


class Client:
    def __init__(self, name, args, plan):
        self.name = name
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.process.stdin.write(json.dumps(plan) + "\n")
        self.process.stdin.flush()

    def wait_begun(self):
        assert self.process.stdout.readline() == "begun\n", self.process.stderr.read()

    def stop(self):
        out, err = self.process.communicate("stop\n", timeout=120)
        assert self.process.returncode == 0, err
        return json.loads(out)

    def kill(self):
        self.process.kill()
        self.process.wait()


def start_command(stub, sandbox_id, command_id, **fields):
    stream = stub.RunCommand(api.RunCommandRequest(
        sandbox_id=sandbox_id, command_id=command_id, **fields))
    events = follow.Events()
    for response in stream:
        events.take(response)
        if events.started is not None:
            break
    stream.cancel()


def start_load(stub, sandbox_id, address):
    """Clients in each language that there is, each with three commands to follow and one to type to."""
    config = programs.find("proto/service_config.json").read_text(encoding="utf-8")
    running = []
    try:
        for name, args in clients().items():
            commands = ["%s-%d" % (name, n) for n in range(3)]
            for command_id in commands:
                start_command(stub, sandbox_id, command_id, shell=LINES)
            start_command(stub, sandbox_id, name + "-cat", shell="cat", stdin=True)
            running.append(Client(name, args, {
                "name": name, "address": address, "service_config": config,
                "protoset": str(programs.find("proto/sandboxd.protoset")),
                "sandbox_id": sandbox_id, "commands": commands, "callers": 4}))
        for client in running:
            client.wait_begun()
    except BaseException:
        kill_load(running)
        raise
    return running


def check_load(running, stub, sandbox_id, breaks):
    """Ends it: no call failed, no line is missing, and nothing was typed twice."""
    stub.WriteFiles(api.WriteFilesRequest(
        sandbox_id=sandbox_id, files=[api.File(path="done")]), timeout=60)
    for client in running:
        report = client.stop()
        assert report["failed"] == 0, (client.name, report["failures"])
        assert report["calls"] > 50 and report["breaks"] >= breaks, (client.name, report)
        for said in report["commands"].values():
            lines = said["out"].splitlines()
            assert lines == ["line %d" % (i + 1) for i in range(len(lines))] and len(lines) > 100
        assert len(report["commands"]) == 3
        typed = follow.logs(stub, sandbox_id, client.name + "-cat").out.decode().split()
        assert typed == [str(i + 1) for i in range(report["typed"])]


def kill_load(running):
    for client in running:
        client.kill()
