"""What the tests of nodes and commands share: a ROS domain of one's own on this machine, a run that has ended."""

import pytest

from mbrl_ros import cli
from mbrl_ros.ros_domain import free_domain


@pytest.fixture
def unique_domain():
    """A ROS_DOMAIN_ID as text that nobody on this machine uses."""
    return str(free_domain())


SMALL = (
    "--me-ppo.ensemble.hidden 8 --me-ppo.ensemble.max-steps 50 --me-ppo.imagination.rollouts 10 --me-ppo.iterations 5 "
    "--me-ppo.validation.ratio 0 --schedule.random-steps 50 --schedule.round-steps 50 --schedule.holdout-block 5 "
    "--schedule.eval-episodes 2 --schedule.curve-episodes 1"
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Folder of a small run of `mbrl train` on Pendulum, of two rounds; to be read only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert cli.run(f"train --env Pendulum-v1 --steps 100 --episode-steps 50 --out {out} {SMALL}".split()) == 0
    return out
