"""Fixtures: two pods that share a world, and sandboxctl in front of them."""

import fake_sandboxd
import pytest
from command_line import Sandboxctl


@pytest.fixture
def world():
    return fake_sandboxd.World()


@pytest.fixture
def pods(world):
    made = [fake_sandboxd.Pod(world), fake_sandboxd.Pod(world)]
    yield made
    for pod in made:
        pod.stop()


@pytest.fixture
def sandboxctl(pods):
    return Sandboxctl(pods)
