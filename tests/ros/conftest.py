"""Every test that starts nodes has a ROS domain of its own, on this machine only."""

import itertools
import os

import pytest

_count = itertools.count(os.getpid())


@pytest.fixture
def unique_domain():
    """A ROS_DOMAIN_ID as text; those up to 101 are safe on every system."""
    return str(1 + next(_count) % 101)
