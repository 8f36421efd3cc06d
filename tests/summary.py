"""The end of ./dev test: what ran, what did not and why, and one line that counts it all.

Arguments: a file with a line "passed NAME" or "failed NAME" for each check outside Bazel, and Bazel's
build events as JSON lines. Exits with 1 when anything failed.
"""

import json
import os
import sys
import urllib.parse
import xml.etree.ElementTree as xml
from collections import defaultdict


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = defaultdict(list)  # reason -> names

    def count_case(self, target, case):
        name = "%s %s" % (target, case.get("name", ""))
        skipped = case.find("skipped")
        if skipped is not None:
            self.skipped[skipped.get("message") or "no reason given"].append(name)
        elif case.find("failure") is not None or case.find("error") is not None:
            self.failed.append(name)
        else:
            self.passed += 1

    def count_target(self, target, status, log):
        """One test target: its cases where its log has them, else as a whole."""
        failed_before = len(self.failed)
        cases = []
        if log and os.path.exists(log):
            try:
                cases = list(xml.parse(log).iter("testcase"))
            except xml.ParseError:
                pass  # cut off with the test: its status says what there is to say
        if len(cases) == 1 and case_is_whole_target(target, cases[0]):
            cases = []
        for case in cases:
            self.count_case(target, case)
        if status != "PASSED" and len(self.failed) == failed_before:
            self.failed.append("%s (%s)" % (target, status.lower().replace("_", " ")))
        elif not cases:
            self.passed += 1


def shortened(names):
    """Names of cases, "target case": one line for a target that has many."""
    by_target = defaultdict(list)
    for name in names:
        by_target[name.split()[0]].append(name)
    for target, own in by_target.items():
        if len(own) > 3:
            yield "%s, %d cases" % (target, len(own))
        else:
            yield from own


def case_is_whole_target(target, case):
    """Bazel's own log for a program that wrote none."""
    return case.get("name") == target.lstrip("/").replace(":", "/")


def read_events(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            yield json.loads(line)


def count_bazel(tally, path):
    expected, attempts, broken = set(), {}, []
    for event in read_events(path):
        ident = event.get("id", {})
        if "targetConfigured" in ident and "configured" in event:
            if " test" in event["configured"].get("testSize", "") or event["configured"].get("testSize"):
                expected.add(ident["targetConfigured"]["label"])
        elif "targetCompleted" in ident:
            if not event.get("completed", {}).get("success", False):
                broken.append(ident["targetCompleted"]["label"])
        elif "testResult" in ident:
            key = ident["testResult"]
            logs = [o["uri"] for o in event["testResult"].get("testActionOutput", [])
                    if o["name"] == "test.xml" and "uri" in o]
            log = urllib.parse.unquote(urllib.parse.urlparse(logs[0]).path) if logs else None
            # A later attempt of the same shard replaces an earlier one.
            attempts[key["label"], key.get("shard", 1)] = (event["testResult"]["status"], log)
    for (label, _), (status, log) in sorted(attempts.items()):
        tally.count_target(label, status, log)
    ran = {label for label, _ in attempts}
    for label in sorted(set(broken) | expected - ran):
        if label not in ran:
            tally.failed.append("%s (%s)" % (label, "did not build" if label in broken else "did not run"))


def main(checks_path, events_path):
    tally = Tally()
    with open(checks_path, encoding="utf-8") as f:
        for line in f:
            verdict, name = line.split()
            if verdict == "passed":
                tally.passed += 1
            else:
                tally.failed.append(name)
    if os.path.exists(events_path):
        count_bazel(tally, events_path)
    else:
        tally.failed.append("bazel (it did not start)")

    n_skipped = sum(len(names) for names in tally.skipped.values())
    if tally.skipped:
        print("\nNot run:")
        for reason, names in sorted(tally.skipped.items()):
            print("  %s" % reason)
            for name in shortened(names):
                print("    %s" % name)
    if tally.failed:
        print("\nFailed:")
        for name in tally.failed:
            print("  %s" % name)
    print("\n%d passed, %d failed, %d skipped" % (tally.passed, len(tally.failed), n_skipped))
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
