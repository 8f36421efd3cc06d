"""Some pods in front of one E2B, and clients of them."""

from harness import api, programs


class Service:
    """Pods that are alike; a pod that was killed can be started again at its old address."""

    def __init__(self, local, sandbox_url=None, count=2, options=(), **pod_args):
        sandbox_url = sandbox_url or "http://" + local.sandbox_address
        self._make = lambda **kwargs: programs.Pod(
            local.url, sandbox_url, *options, **{**pod_args, **kwargs})
        self.pods = []
        self._channels = {}
        self._count = count

    def __enter__(self):
        try:
            for n in range(self._count):
                self.pods.append(self._make(name="pod %s" % "ABCDEFG"[n]))
        except BaseException:
            self._stop_all()
            raise
        return self

    def __exit__(self, *failure):
        for channel in self._channels.values():
            channel.close()
        self._stop_all()

    def _stop_all(self):
        failures = []
        for pod in self.pods:
            try:
                pod.stop()
            except AssertionError as failure:
                failures.append(str(failure))
        assert not failures, "\n".join(failures)

    @property
    def addresses(self):
        return [pod.address for pod in self.pods]

    def restart(self, n):
        """Starts pod n again where it was. On the test's own thread: a pod ends with its starter."""
        address, name = self.pods[n].address, self.pods[n].name
        self.pods[n].kill()
        if address in self._channels:  # it may not have noticed yet
            self._channels.pop(address).close()
        self.pods[n] = self._make(listen=address, name=name)
        return self.pods[n]

    def channel(self, n):
        address = self.pods[n].address
        if address not in self._channels:
            self._channels[address] = api.channel(address)
        return self._channels[address]

    def stub(self, n=0, name="sandbox.v1.SandboxService", raw=False):
        return api.Stub(self.channel(n), name, raw=raw)
