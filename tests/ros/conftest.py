"""Every test that starts nodes has a ROS domain of its own, on this machine only."""

import pytest

from mbrl_ros.ros_domain import free_domain


@pytest.fixture
def unique_domain():
    """A ROS_DOMAIN_ID as text that nobody on this machine uses."""
    return str(free_domain())
