"""A real S3 server for tests: moto's, in a process of its own (s3_server.py)."""

import json
import os
import subprocess
from pathlib import Path

BUCKET = "logs.of-sandboxes"


def python():
    """The interpreter that has moto, or None."""
    return os.environ.get("SANDBOXD_TEST_MOTO_PYTHON")


class S3:
    def __init__(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", python(),
             str(Path(__file__).with_name("s3_server.py")), BUCKET],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            encoding="utf-8", env=environment)
        self.settings = json.loads(self.process.stdout.readline())

    def ask(self, do, **fields):
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @property
    def env(self):
        """What a pod needs to use it: temporary keys."""
        key_id, secret, token = self.settings["session"]
        return {"AWS_ENDPOINT_URL": self.settings["url"], "AWS_REGION": self.settings["region"],
                "AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret,
                "AWS_SESSION_TOKEN": token}

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()
