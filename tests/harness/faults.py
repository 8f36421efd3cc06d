"""A TCP proxy that breaks connections where a test says so."""

import select
import socket
import struct
import threading


class Connection:
    """One connection through the proxy."""

    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.to_server = 0  # bytes so far
        self.to_client = 0
        self.cut_after = None  # bytes to the client at which it breaks
        self.cut_after_sent = None  # bytes to the server at which it does
        self.stalled = threading.Event()
        self._lock = threading.Lock()
        self._open = True

    def cut(self):
        """Resets both ends, as a router that lost its state."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        for end in (self.client, self.server):
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for end in (self.client, self.server):
            end.close()

    def pump(self):
        """Carries bytes both ways until an end is reached or the connection is cut."""
        try:
            sides = {self.client: self.server, self.server: self.client}
            reading = set(sides)
            while reading:
                ready, _, _ = select.select(list(reading), [], [], 0.5)
                if not self._open:
                    return
                for source in ready:
                    data = source.recv(65536)
                    if not data:
                        reading.discard(source)
                        sides[source].shutdown(socket.SHUT_WR)
                        continue
                    if source is self.server:
                        data = self._towards_client(data)
                        if data is None:
                            return
                    else:
                        self.to_server += len(data)
                        if self.cut_after_sent is not None and \
                                self.to_server >= self.cut_after_sent:
                            self._break()
                            return
                    sides[source].sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            self.cut()
            self.proxy.forget(self)

    def _break(self):
        self.proxy.cuts += 1
        self.proxy.on_cut(self)
        self.cut()

    def _towards_client(self, data):
        while self.stalled.is_set() and self._open:
            self.proxy.resume.wait(0.05)
            if not self.stalled.is_set():
                break
        if self.cut_after is not None and self.to_client + len(data) >= self.cut_after:
            keep = self.cut_after - self.to_client
            if keep > 0:
                self.client.sendall(data[:keep])
            self.to_client += max(keep, 0)
            self._break()
            return None
        self.to_client += len(data)
        return data


class Proxy:
    """Listens on a port of its own and passes everything on to target ("host:port").

    on_connect(connection) may set cut_after, cut_after_sent or stalled before any byte passes.
    """

    def __init__(self, target, on_connect=None, on_cut=None):
        self.target = target
        self.on_connect = on_connect or (lambda connection: None)
        self.on_cut = on_cut or (lambda connection: None)
        self.cuts = 0
        self.connections = []
        self.accepted = 0
        self.resume = threading.Event()
        self._lock = threading.Lock()
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.url = "http://" + self.address
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            host, port = self.target.rsplit(":", 1)
            try:
                server = socket.create_connection((host, int(port)), timeout=10)
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, client, server)
            with self._lock:
                if self._closing:
                    connection.cut()
                    return
                self.accepted += 1
                self.connections.append(connection)
            self.on_connect(connection)
            thread = threading.Thread(target=connection.pump, daemon=True)
            thread.start()

    def forget(self, connection):
        with self._lock:
            if connection in self.connections:
                self.connections.remove(connection)

    def cut_all(self):
        with self._lock:
            connections = list(self.connections)
        for connection in connections:
            connection.cut()
        return len(connections)

    def close(self):
        with self._lock:
            self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
