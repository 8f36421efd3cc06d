"""The storm in a short form; `./dev chaos` runs the long one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parent))

import storm  # noqa: E402


def test_nothing_is_lost_in_a_storm():
    said = []
    options = storm.options(
        ["--commands=40", "--lines=27000", "--seconds=30", "--every=0.3"],
        lambda text: (said.append(text), print(text, flush=True)))
    assert storm.Storm(options).run(), "\n".join(said)
    faults, lines = (int(field.split("=")[1]) for field in said[-1].split()[:2])
    assert faults >= 20 and lines == 40 * 36_000
