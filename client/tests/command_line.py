"""Runs sandboxctl against some pods."""

import os
import subprocess

from harness import programs


class Sandboxctl:
    def __init__(self, pods, *options):
        self.address = ",".join(pod.address for pod in pods)
        self.options = options
        self.program = str(programs.find("client/sandboxctl"))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SANDBOXD_")}

    def args(self, *args):
        return [self.program, "--address=" + self.address, *self.options, *args]

    def __call__(self, *args, text=True, timeout=60, **kwargs):
        return subprocess.run(self.args(*args), capture_output=True, text=text, timeout=timeout,
                              env=self.env, check=False, **kwargs)

    def start(self, *args, **kwargs):
        kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **kwargs}
        return subprocess.Popen(self.args(*args), env=self.env, **kwargs)
