"""The end of ./dev test counts what it must, and fails when it must."""

import json

import summary

CASES = """<testsuites><testsuite>
<testcase name="good"/><testcase name="also good"/>
<testcase name="away"><skipped message="no grpcurl"/></testcase>
%s</testsuite></testsuites>"""


def events(tmp_path, results, configured=(), broken=()):
    lines = [{"id": {"targetConfigured": {"label": label}}, "configured": {"testSize": "SMALL"}}
             for label in configured]
    lines += [{"id": {"targetCompleted": {"label": label}}} for label in broken]
    for n, (label, status, text) in enumerate(results):
        log = tmp_path / ("%d.xml" % n)
        log.write_text(text)
        lines.append({"id": {"testResult": {"label": label}}, "testResult": {
            "status": status, "testActionOutput": [{"name": "test.xml", "uri": log.as_uri()}]}})
    path = tmp_path / "events"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def checks(tmp_path, text="passed lint/a\n"):
    path = tmp_path / "checks"
    path.write_text(text)
    return path


def test_cases_are_counted_one_by_one(tmp_path, capsys):
    path = events(tmp_path, [("//a:t", "PASSED", CASES % "")])
    assert summary.main(checks(tmp_path), path) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "3 passed, 0 failed, 1 skipped"
    assert "no grpcurl" in out and "//a:t away" in out


def test_a_program_without_cases_counts_once(tmp_path, capsys):
    path = events(tmp_path, [("//a:t", "PASSED", '<testsuites><testcase name="a/t"/></testsuites>')])
    assert summary.main(checks(tmp_path, ""), path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


def test_a_failed_case_fails_the_whole(tmp_path, capsys):
    failure = CASES % '<testcase name="bad"><failure/></testcase>'
    path = events(tmp_path, [("//a:t", "FAILED", failure)])
    assert summary.main(checks(tmp_path), path) == 1
    out = capsys.readouterr().out
    assert "//a:t bad" in out and out.splitlines()[-1] == "3 passed, 1 failed, 1 skipped"


def test_a_timeout_is_a_failure_though_every_case_so_far_passed(tmp_path, capsys):
    assert summary.main(checks(tmp_path), events(tmp_path, [("//a:t", "TIMEOUT", CASES % "")])) == 1
    assert "//a:t (timeout)" in capsys.readouterr().out


def test_what_did_not_build_or_run_is_a_failure(tmp_path, capsys):
    path = events(tmp_path, [], configured=["//a:t", "//a:u"], broken=["//a:t"])
    assert summary.main(checks(tmp_path), path) == 1
    out = capsys.readouterr().out
    assert "//a:t (did not build)" in out and "//a:u (did not run)" in out


def test_a_failed_check_and_a_missing_bazel_are_failures(tmp_path, capsys):
    assert summary.main(checks(tmp_path, "failed lint/a\n"), tmp_path / "none") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 2 failed, 0 skipped"
