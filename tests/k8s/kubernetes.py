"""The manifests as a cluster would get them, and the tools that judge them."""

import base64
import functools
import os
import subprocess

import pytest
import yaml
from harness import programs

OVERLAYS = ["dev", "production", "tls", "mtls", "istio", "linkerd", "gateway"]
# The oldest that has all we use (preStop sleep without a feature gate), one in between, the newest.
VERSIONS = ["1.30", "1.34", "1.37"]
# Made by who installs, as the overlays say.
OUTSIDE_SECRETS = {"sandboxd-e2b", "sandboxd-keys", "sandboxd-tls", "sandboxd-clients"}


def tool(variable, what):
    """A program that ./dev names where it could install it."""
    path = os.environ.get(variable)
    if not path:
        pytest.skip("%s does not name %s" % (variable, what))
    return path


@functools.lru_cache(maxsize=None)
def built(overlay):
    """The overlay as one text."""
    kubectl = tool("SANDBOXD_TEST_KUBECTL", "kubectl")
    # Where it really is: kustomize reads nothing through links out of its folder.
    folder = programs.find("k8s/overlays/%s/kustomization.yaml" % overlay).resolve().parent
    done = subprocess.run([kubectl, "kustomize", folder],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def documents(overlay):
    return [d for d in yaml.safe_load_all(built(overlay)) if d]


class Objects:
    """The objects of an overlay."""

    def __init__(self, overlay):
        self.all = documents(overlay)

    def one(self, kind, name="sandboxd"):
        found = [d for d in self.all if d["kind"] == kind and d["metadata"]["name"] == name]
        assert len(found) == 1, "%d of %s %s" % (len(found), kind, name)
        return found[0]

    def of(self, kind):
        return [d for d in self.all if d["kind"] == kind]

    def pod(self, deployment="sandboxd"):
        return self.one("Deployment", deployment)["spec"]["template"]["spec"]

    def environment(self, deployment="sandboxd", secrets=None):
        """What the first container finds in its environment. secrets: what those made outside of
        the manifests hold."""
        container = self.pod(deployment)["containers"][0]
        env = {}
        for source in container.get("envFrom", []):
            env.update(self.one("ConfigMap", source["configMapRef"]["name"])["data"])
        for entry in container.get("env", []):
            env[entry["name"]] = entry["value"] if "value" in entry else self._secret(
                entry["valueFrom"]["secretKeyRef"], secrets or {})
        return env

    def _secret(self, ref, secrets):
        if ref["name"] in OUTSIDE_SECRETS:
            return secrets[ref["name"]]
        return base64.b64decode(
            self.one("Secret", ref["name"])["data"][ref["key"]]).decode("utf-8")
