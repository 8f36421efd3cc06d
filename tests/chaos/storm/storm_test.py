"""The storm in a short form; `./dev chaos` runs the long one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).absolute().parent))

import storm  # noqa: E402


@pytest.fixture
def rage(pytestconfig):
    """Runs a storm that loses nothing; returns its last line as numbers."""
    def run(*words):
        said = []
        if pytestconfig.getoption("backend") == "envd":
            words += ("--envd",)
        options = storm.options(words, lambda text: (said.append(text), print(text, flush=True)))
        assert storm.Storm(options).run(), "\n".join(said)
        return {key: int(value) for key, value in (field.split("=") for field in said[-1].split())}
    return run


def test_nothing_is_lost_in_a_storm(rage):
    end = rage("--commands=40", "--lines=27000", "--seconds=30", "--every=0.3")
    assert end["faults"] >= 20 and end["lines"] == 40 * 36_000


def test_what_overflows_is_counted_in_a_storm(rage):
    end = rage("--overflow", "--commands=4", "--lines=300000", "--seconds=20", "--every=0.3")
    assert end["faults"] >= 10 and end["dropped"]
