"""What is between sandboxd and E2B, where a test breaks it: Toxiproxy, or our own proxy.

Both have the same three ways to fail: cut() resets connections in the middle of what they carry, refuse(status) answers
every new request with that status, restore() lets everything through again.
"""

import http.client
import json
import socket
import threading

from harness import faults, programs

REFUSAL = ("HTTP/1.1 %d Refused\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
           "Connection: close\r\n\r\n%s")


class Refuser:
    """An E2B that refuses whatever it is asked."""

    def __init__(self):
        self.status = 503
        self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client):
        with client:
            client.settimeout(5)
            head = b""
            try:
                while b"\r\n\r\n" not in head:
                    data = client.recv(65536)
                    if not data:
                        return
                    head += data
                body = json.dumps({"code": self.status, "message": "refused by the test"})
                client.sendall((REFUSAL % (self.status, len(body), body)).encode())
                self.refused += 1
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):  # what it still sends, so that our answer is not reset
                    pass
            except OSError:
                pass

    def close(self):
        self._listener.close()


class Own:
    """By harness.faults.Proxy."""

    name = "our own proxy"

    def __init__(self, target):
        self._target = target
        self._refuser = Refuser()
        self._proxy = faults.Proxy(target)
        self.address = self._proxy.address

    def cut(self, after):
        """Resets each open connection once so many more bytes went to the pod; returns their number."""
        connections = list(self._proxy.connections)
        for connection in connections:
            connection.cut_after = connection.to_client + after
        return len(connections)

    def refuse(self, status):
        self._refuser.status = status
        self._proxy.target = self._refuser.address
        self._proxy.cut_all()

    def restore(self):
        self._proxy.target = self._target

    def stop(self):
        self._proxy.close()
        self._refuser.close()


class Toxiproxy:
    """By the server that SANDBOXD_TEST_TOXIPROXY names."""

    name = "Toxiproxy"

    def __init__(self, server, target):
        with socket.create_server(("127.0.0.1", 0)) as control, \
                socket.create_server(("127.0.0.1", 0)) as listen:
            self._control = "127.0.0.1:%d" % control.getsockname()[1]
            self.address = "127.0.0.1:%d" % listen.getsockname()[1]
        self._target = target
        self._refuser = Refuser()
        host, port = self._control.split(":")
        self._program = programs.Program("toxiproxy", [server, "-host=" + host, "-port=" + port])
        programs.wait_until(self._answers, 10, "Toxiproxy")
        self._ask("POST", "/proxies", {"name": "e2b", "listen": self.address, "upstream": target})

    def _answers(self):
        try:
            self._ask("GET", "/version")
            return True
        except OSError:
            return False

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self._control, timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 300, "%s %s: %d %r" % (method, path, answer.status, text)
            return text
        finally:
            connection.close()

    def cut(self, after):
        """Ends each open connection once so many more bytes went to the pod; restore() before the next."""
        self._ask("POST", "/proxies/e2b/toxics", {
            "name": "cut", "type": "limit_data", "stream": "downstream",
            "attributes": {"bytes": max(after, 1)}})
        return 1

    def refuse(self, status):
        self._refuser.status = status
        self._ask("POST", "/proxies/e2b", {"upstream": self._refuser.address, "enabled": True})

    def restore(self):
        self._ask("POST", "/reset")
        self._ask("POST", "/proxies/e2b", {"upstream": self._target, "enabled": True})

    def stop(self):
        self._program.kill()
        self._refuser.close()


def make(server, target):
    """server: the path of Toxiproxy's, or None."""
    return Toxiproxy(server, target) if server else Own(target)
