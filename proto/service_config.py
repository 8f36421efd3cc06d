"""Writes a gRPC service config for clients, from the table of methods in a descriptor set.

Calls that may be repeated are, when they meet UNAVAILABLE: a pod that drains, is full, or is gone. For
streams that holds until their first message; from then on the caller goes on where it was, with
from_seq. Others are repeated by nobody but gRPC itself, where no server has seen them.
"""

import json
import sys

from google.protobuf import descriptor_pb2


def methods(files):
    """(service, method, may be repeated) of everything that is ours."""
    for file in files.file:
        if file.package.startswith("sandbox."):
            for service in file.service:
                for method in service.method:
                    yield ("%s.%s" % (file.package, service.name), method.name,
                           method.options.idempotency_level != 0)


def config(files):
    again = [{"service": service, "method": method}
             for service, method, safe in methods(files) if safe]
    return {
        # Call by call over all pods that the name stands for. No healthCheckConfig: behind a proxy the
        # one pod that the check lands on would speak for all of them.
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{
            "name": again,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }],
        # When most of what is asked fails, asking again makes it worse.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
    }


def main(path):
    with open(path, "rb") as f:
        files = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    json.dump(config(files), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
