"""Rules, alerts and the dashboard: they mean what they say, and speak of what a pod tells."""

import http.client
import json
import re
import subprocess

import pytest
import yaml
from harness import api, follow, programs
from kubernetes import Objects, tool

# Of Prometheus itself, and what a pod's own labels have.
OTHERS = {"up"}


def monitoring(name):
    return programs.find("k8s/components/monitoring/" + name)


@pytest.fixture
def promtool(tmp_path):
    program = tool("SANDBOXD_TEST_PROMTOOL", "promtool")

    def run(*args):
        return subprocess.run([program, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, cwd=tmp_path, encoding="utf-8", check=False)
    return run


def rules():
    return yaml.safe_load(monitoring("rules.yaml").read_text(encoding="utf-8"))["spec"]["groups"]


def dashboard():
    return json.loads(monitoring("dashboard.json").read_text(encoding="utf-8"))


def dashboard_expressions():
    return [t["expr"].replace("$__rate_interval", "1m").replace("$namespace", ".*")
            for p in dashboard()["panels"] for t in p.get("targets", [])]


def test_alerts_fire_when_they_should(promtool, tmp_path):
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": rules()}), encoding="utf-8")
    tests = programs.find("tests/k8s/rules_test.yaml").read_text(encoding="utf-8")
    (tmp_path / "rules_test.yaml").write_text(tests, encoding="utf-8")
    checked = promtool("check", "rules", "rules.yaml")
    assert checked.returncode == 0, checked.stdout
    tested = promtool("test", "rules", "rules_test.yaml")
    assert tested.returncode == 0 and "SUCCESS" in tested.stdout, tested.stdout
    alerts = {r["alert"] for g in rules() for r in g["rules"] if "alert" in r}
    assert alerts == set(re.findall(r"alertname: (\w+)", tests)), "each has a test"
    manual = programs.find("docs/operations.md").read_text(encoding="utf-8")
    assert alerts == set(re.findall(r"^### (\w+)$", manual, re.MULTILINE)), "and says what to do"


def test_the_dashboard_asks_what_can_be_asked(promtool, tmp_path):
    expressions = dashboard_expressions()
    assert len(expressions) >= 15
    (tmp_path / "asked.yaml").write_text(json.dumps({"groups": [{"name": "asked", "rules": [
        {"record": "panel:%d" % n, "expr": e} for n, e in enumerate(expressions)]}]}),
        encoding="utf-8")
    checked = promtool("check", "rules", "asked.yaml")
    assert checked.returncode == 0, checked.stdout


def test_the_dashboard_fits_its_grid():
    taken = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"])
                 for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def names_in(expression):
    """Metrics of an expression: words in front of labels, ranges and operators, but for functions,
    labels and keywords."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    words = re.findall(r"(?<![\w:\[])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return {w for w in words if w not in ("and", "or", "unless", "bool", "le")}


def test_names_are_found_in_expressions():
    assert names_in('histogram_quantile(0.99, sum by (a, le) (rate(x_bucket{b!="c d"}[5m]))) > 5') == {
        "x_bucket"}
    assert names_in('min_over_time(d{job="s"}[2m]) == 1\nand d{job="s"} == 1') == {"d"}
    assert names_in('(sum by (a) (rate(y[5m])) > 0) / r:z:rate5m') == {"y", "r:z:rate5m"}


def test_every_metric_is_one_that_a_pod_has(service, sandbox):
    expressions = [r["expr"] for g in rules() for r in g["rules"]] + dashboard_expressions()
    recorded = {r["record"] for g in rules() for r in g["rules"] if "record" in r}
    wanted = set().union(*map(names_in, expressions)) - recorded - OTHERS
    for autoscaler in Objects("production").of("HorizontalPodAutoscaler"):
        wanted |= {m["pods"]["metric"]["name"] for m in autoscaler["spec"]["metrics"]
                   if m["type"] == "Pods"}
    stub = service.stub(0)
    assert follow.run(stub, sandbox, shell="seq 1000").exited.code == 0
    with pytest.raises(Exception, match="NOT_FOUND"):
        stub.GetSandbox(api.GetSandboxRequest(sandbox_id="i0123456789abcdefghij"), timeout=30)
    connection = http.client.HTTPConnection(service.pods[0].ready["admin"], timeout=30)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode("utf-8")
    connection.close()
    had = set(re.findall(r"^([a-zA-Z_:][\w:]*)", page, re.MULTILINE))
    assert len(wanted) >= 12 and not wanted - had
    manual = programs.find("docs/operations.md").read_text(encoding="utf-8")
    kinds = re.findall(r"^# TYPE (\S+)", page, re.MULTILINE)
    assert not {kind for kind in kinds if "`%s`" % kind not in manual}, "the manual has them all"
    labels = set(re.findall(r'grpc_(\w+)="', page))
    assert labels == {"type", "service", "method", "code"}
