"""E2B's own SDK test suites, fetched beforehand, against e2b-local: a table per file, in Markdown.

    ./dev suites CHECKOUT [js] [python] [async] [--match WORD] [--world] [--published]

CHECKOUT is a work tree of E2B's repository (packages/js-sdk and packages/python-sdk); what the
suites need is installed there. Files whose tests speak to a mock run without a backend, as they
expect the default addresses.

With --published, the tests that speak to a backend use the published packages, as the suites are
older than those. With --world (as root), what they ask of the internet is answered by a namespace
beside them, and e2b-local has a domain with HTTPS.

Exits with 1 when a test failed that NOT_APPLICABLE does not name.
"""

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import programs, world  # noqa: E402

# What a sandbox made of processes cannot do, or what takes a world outside: (suite, file, test) as
# shell patterns, and why.
BUILD = "builds a VM image from a template"
TRANSFORM = "takes the VM image httpbin, reached through the internet with headers changed inside TLS"
NOT_APPLICABLE = [
    ("js*", "sandbox/network.test.ts", "firewall transform *", TRANSFORM),
    ("*", "*/test_network", "test_firewall_transform_injects_headers", TRANSFORM),
    ("*published*", "*/test_connect", "test_connect_normalizes_unset_tokens",
     "mocks the inside of its own version"),
    ("js*", "template/build.test.ts", "*", BUILD),
    ("js*", "template/backgroundBuild.test.ts", "*", BUILD),
    ("js*", "template/methods/*", "*", BUILD),
    ("js mocked", "template/tags.test.ts", "build template with tags*", BUILD),
    ("js mocked", "template/tags.test.ts", "assign single tag to existing*", BUILD),
    ("js mocked", "template/tags.test.ts", "rejects invalid tag format*", BUILD),
    ("*", "*/template_*/test_build", "*", BUILD),
    ("*", "*/template_*/test_background_build", "*", BUILD),
    ("*", "*/template_*/methods/*", "*", BUILD),
    ("*", "*/template_*/test_tags/*", "*", BUILD),
]

PORT = 8443  # in the world's namespace, where it is free

JS_PACKAGES = ["@types/node", "@types/platform", "dotenv", "error-stack-parser-es", "msw", "vitest"]
JS_CONFIG = """
import { defineConfig } from 'vitest/config'
const published = process.env.SUITE_PUBLISHED
export default defineConfig({
  resolve: { alias: published ? [{ find: /^(\.\.\/)+src(\\/(index|errors)(\\.js)?)?$/, replacement: published }] : [] },
  test: {
    include: (process.env.SUITE_FILES ?? '').split(' '),
    isolate: true,
    globals: false,
    testTimeout: 60_000,
    environment: 'node',
    maxWorkers: 3,
    setupFiles: published ? [] : ['tests/globalFetchFallback.setup.ts'],
    env: process.env,
  },
})
"""
# What of the tests speaks to a backend is told by the fixtures it takes.
JS_BACKEND = re.compile(r"\bsandboxTest\b|buildTemplateTest")
JS_BACKEND_TOO = {"sandbox/create.test.ts", "sandbox/lifecyclePayload.test.ts",
                  "template/backgroundBuild.test.ts", "template/exists.test.ts"}
JS_MOCKED = {"template/stacktrace.test.ts", "template/tags.test.ts"}


def run(command, cwd, env=None, timeout=1800):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")}
    return subprocess.run([str(c) for c in command], cwd=cwd, env={**inherited, **(env or {})},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=timeout, check=False, encoding="utf-8",
                          errors="replace")


class Results:
    """(suite, file) -> {test: (outcome, message)}"""

    def __init__(self):
        self.files = defaultdict(dict)

    def add(self, suite, name, test, outcome, message=""):
        self.files[suite, name][test] = (outcome, message)

    def reason(self, suite, name, test):
        for a_suite, a_file, a_test, reason in NOT_APPLICABLE:
            if all(fnmatch.fnmatch(value, pattern) for value, pattern in
                   ((suite, a_suite), (name, a_file), (test, a_test))):
                return reason
        return None

    def failures(self):
        for (suite, name), tests in sorted(self.files.items()):
            for test, (outcome, message) in sorted(tests.items()):
                if outcome == "failed" and not self.reason(suite, name, test):
                    yield suite, name, test, message

    def table(self):
        lines = ["| suite | file | passed | failed | not applicable | why |", "|---|---|--:|--:|--:|---|"]
        sums = defaultdict(lambda: [0, 0, 0])
        for (suite, name), tests in sorted(self.files.items()):
            passed, failed, out, why = 0, 0, 0, []
            for test, (outcome, message) in sorted(tests.items()):
                if outcome == "passed":
                    passed += 1
                elif outcome == "skipped":
                    out += 1
                    why.append("skips itself: %s" % (message.strip().splitlines() or [test])[0])
                elif reason := self.reason(suite, name, test):
                    out += 1
                    why.append(reason)
                else:
                    failed += 1
                    why.append("**%s**: %s" % (test, message.splitlines()[0][:160] if message else ""))
            for n, count in enumerate((passed, failed, out)):
                sums[suite][n] += count
            text = "; ".join(dict.fromkeys(why)).replace("|", "\\|")
            lines.append("| %s | %s | %d | %d | %d | %s |" % (suite, name, passed, failed, out, text))
        for suite, counts in sorted(sums.items()):
            lines.append("| **%s** | **all** | %d | %d | %d | |" % (suite, *counts))
        return "\n".join(lines)


class Javascript:
    def __init__(self, checkout, match, published):
        self.folder = checkout / "packages/js-sdk"
        self.match = match
        self.published = os.path.join(
            os.environ.get("SANDBOXD_TEST_E2B_NODE_MODULES", ""), "e2b/dist/index.mjs")
        if not published:
            self.published = ""

    def install(self):
        if (self.folder / "node_modules/vitest").exists():
            return
        path = self.folder / "package.json"
        package = json.loads(path.read_text(encoding="utf-8"))
        package["devDependencies"] = {
            name: version for name, version in package["devDependencies"].items()
            if name in JS_PACKAGES}
        path.write_text(json.dumps(package, indent=1), encoding="utf-8")
        done = run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], self.folder)
        assert done.returncode == 0, done.stdout

    def run(self, env, results):
        (self.folder / "suites.config.mts").write_text(JS_CONFIG, encoding="utf-8")
        backend, mocked = [], []
        for path in sorted((self.folder / "tests").rglob("*.test.ts*")):
            name = str(path.relative_to(self.folder / "tests"))
            if self.match not in name:
                continue
            if name.startswith("runtimes/"):
                results.add("js", name, "(all)", "skipped", "is for Cloudflare's or a browser's runtime")
                continue
            speaks = (JS_BACKEND.search(path.read_text(encoding="utf-8")) or
                      name in JS_BACKEND_TOO) and name not in JS_MOCKED
            (backend if speaks else mocked).append("tests/" + name)
        self._vitest("js published" if self.published else "js", backend,
                     {**env, "SUITE_PUBLISHED": self.published}, results)
        if not self.published:
            self._vitest("js mocked", mocked, {"E2B_API_KEY": programs.API_KEY}, results)

    def _vitest(self, suite, files, env, results):
        if not files:
            return
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            done = run(["npx", "vitest", "run", "--config", "suites.config.mts", "--reporter=json",
                        "--outputFile=" + report.name], self.folder,
                       {**env, "SUITE_FILES": " ".join(files)})
            try:
                told = json.load(report)
            except ValueError:
                raise RuntimeError(done.stdout[-5000:]) from None
        for entry in told["testResults"]:
            name = str(Path(entry["name"]).relative_to(self.folder / "tests"))
            if not entry["assertionResults"]:
                results.add(suite, name, "(the file)", "failed", entry["message"])
            for test in entry["assertionResults"]:
                outcome = {"pending": "skipped", "todo": "skipped"}.get(test["status"], test["status"])
                results.add(suite, name, test["fullName"].strip(), outcome,
                            "\n".join(test.get("failureMessages") or []))


class Python:
    PACKAGES = ["pytest>=9.0.3,<10", "pytest-xdist>=3.3.1,<4", "python-dotenv>=1.0.0,<2",
                "pytest-dotenv>=0.5.2,<0.6", "pytest-asyncio>=1.3.0,<2", "pytest-timeout>=2.4.0,<3"]
    MOCKED = ("tests/test_", "tests/shared/api", "tests/shared/sandbox", "tests/shared/template",
              "tests/*/secret_", "tests/*/volume_",
              "tests/*/sandbox_*/test_config_propagation", "tests/*/template_*/test_stacktrace")

    def __init__(self, checkout, kinds, match, published):
        self.folder = checkout / "packages/python-sdk"
        self.published = published
        self.venv = checkout / (".venv-published" if published else ".venv")
        self.kinds = kinds
        self.match = match

    def install(self):
        if (self.venv / "bin/pytest").exists():
            return
        for command in (["/usr/bin/python3", "-m", "venv", self.venv],
                        [self.venv / "bin/pip", "install", "-q",
                         *self.PACKAGES, *(["e2b"] if self.published else ["-e", self.folder])]):
            done = run(command, self.folder)
            assert done.returncode == 0, done.stdout

    def run(self, env, results):
        for kind in self.kinds:
            folder = {"python": "sync", "async": "async"}[kind]
            backend, mocked = [], []
            paths = sorted((self.folder / "tests" / folder).rglob("test_*.py"))
            if kind == "python":
                paths += sorted((self.folder / "tests/shared").rglob("test_*.py"))
                paths += sorted((self.folder / "tests").glob("test_*.py"))
            for path in paths:
                name = str(path.relative_to(self.folder))
                if self.match in name:
                    (mocked if any(fnmatch.fnmatch(name, m + "*") for m in self.MOCKED)
                     else backend).append(name)
            self._pytest(kind + " published" * self.published, backend, env, results)
            if not self.published:
                self._pytest(kind + " mocked", mocked, {"E2B_API_KEY": programs.API_KEY}, results)

    def _pytest(self, suite, files, env, results):
        if not files:
            return
        with tempfile.NamedTemporaryFile(suffix=".xml") as report:
            done = run([self.venv / "bin/pytest", "-q", "-n3", "--timeout=60",
                        "--tb=short", "--junitxml=" + report.name, *files], self.folder,
                       env)
            try:
                root = xml.etree.ElementTree.parse(report.name).getroot()
            except xml.etree.ElementTree.ParseError:
                raise RuntimeError(done.stdout[-5000:]) from None
        for case in root.iter("testcase"):
            parts = case.get("classname").split(".")
            name = "/".join(parts[1:])
            outcome, message = "passed", ""
            for kind, means in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
                node = case.find(kind)
                if node is not None:
                    outcome, message = means, node.get("message", "") + "\n" + (node.text or "")
            known = results.files[suite, name].get(case.get("name"))
            if not known or known[0] == "passed":
                results.add(suite, name, case.get("name"), outcome, message)


def start(data, in_world):
    """e2b-local, and what tells the SDKs of it: in the world a domain of its own, with HTTPS, as
    the cloud has; else its address."""
    if not in_world:
        local = programs.Local(data / "local")
        return local, {"E2B_API_KEY": programs.API_KEY, "E2B_API_URL": local.url,
                       "E2B_SANDBOX_URL": local.url}
    domain = "%s:%d" % (world.DOMAIN, PORT)
    local = programs.Local(data / "local", "--tls", "--domain=" + domain,
                           listen="127.0.0.1:%d" % PORT)
    ca = programs.run("runtime/local/e2b-local", "ca", "--pem",
                      "--data-dir=%s" % local.data_dir)
    assert ca.returncode == 0, ca.stderr
    (data / "ca.pem").write_text(ca.stdout, encoding="ascii")
    world.trust(ca.stdout)
    return local, {"E2B_API_KEY": programs.API_KEY, "E2B_DOMAIN": domain,
                   "NODE_EXTRA_CA_CERTS": str(data / "ca.pem"), "SSL_CERT_FILE": world.BUNDLE}


def main():
    parser = argparse.ArgumentParser(prog="./dev suites")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("what", nargs="*", help="js, python, async; all of them without")
    parser.add_argument("--match", default="", help="only files whose names have this")
    parser.add_argument("--world", action="store_true", help="have an internet of our own")
    parser.add_argument("--published", action="store_true", help="drive the published packages")
    options = parser.parse_args()
    what = options.what or ["js", "python", "async"]
    checkout = options.checkout.resolve()
    suites = []
    if "js" in what:
        suites.append(Javascript(checkout, options.match, options.published))
    if kinds := [k for k in what if k != "js"]:
        suites.append(Python(checkout, kinds, options.match, options.published))
    for suite in suites:
        suite.install()
    if options.world:
        world.enter()
    programs.adopt_orphans()
    data = tempfile.mkdtemp(prefix="sandboxd-suites-", dir="/tmp")
    local, env = start(Path(data), options.world)
    results = Results()
    try:
        for suite in suites:
            suite.run(env, results)
    finally:
        local.stop()
        shutil.rmtree(data, ignore_errors=True)
    failed = list(results.failures())
    for suite, name, test, message in failed:
        print("=== %s %s: %s\n%s\n" % (suite, name, test, message[:3000]), file=sys.stderr)
    print(results.table())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
