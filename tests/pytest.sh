#!/bin/bash
# Runs pytest for one Bazel test target (see defs.bzl), from the root of its runfiles.
set -eu
select=()
[ -z "${TESTBRIDGE_TEST_ONLY:-}" ] || select=(-k "$TESTBRIDGE_TEST_ONLY")
export PYTHONPATH=$PWD/tests PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m pytest -p no:cacheprovider --rootdir="$PWD/tests" --tb=short -q -rs \
    --junitxml="${XML_OUTPUT_FILE:-/dev/null}" --basetemp="${TEST_TMPDIR:-/tmp}/pytest" \
    "${select[@]}" "$@"
