"""Tests in Python: pytest under Bazel, with the system's interpreter and libraries."""

def pytest_test(name, srcs, data = [], size = "medium", tags = [], args = [], **kwargs):
    """One or more test files run by pytest.

    They import the harness as `harness.…` and find the programs they drive in their runfiles. Each
    case shows by itself in test.xml, so that ./dev test can tell what was skipped and why.

    Args:
      name: the target.
      srcs: files named *_test.py, and what they import from their own folder.
      data: programs and files the tests use; see PROGRAMS.
      size: as in Bazel.
      tags: as in Bazel.
      args: more arguments of pytest.
      **kwargs: passed on.
    """
    tests = [s for s in srcs if s.endswith("_test.py")]
    native.sh_test(
        name = name,
        srcs = ["//tests:pytest.sh"],
        args = args + ["$(location %s)" % t for t in tests],
        data = srcs + data + ["//proto:descriptor_set", "//tests:conftest", "//tests/harness"],
        size = size,
        # The local runtime makes namespaces, mounts and cgroups of its own, which the build's sandbox
        # does not let it.
        tags = tags + ["no-sandbox"],
        **kwargs
    )

# What a whole service is made of.
PROGRAMS = [
    "//client:sandboxctl",
    "//runtime/local:e2b-local",
    "//service:sandboxd",
]

def service_test(name, srcs = None, data = [], **kwargs):
    """A pytest_test of a whole service.

    Args:
      name: the target.
      srcs: as for pytest_test; the file that is named like the target if not set.
      data: what it uses besides PROGRAMS.
      **kwargs: as for pytest_test.
    """
    pytest_test(
        name = name,
        srcs = srcs or [name + ".py"],
        data = PROGRAMS + data,
        **kwargs
    )
