import dataclasses

import numpy as np
import pytest
from fakes.point_task import point_episode

pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
from mbrl_msgs.msg import AdaptationStatus  # noqa: E402
from mbrl_ros.run_view import adaptation_line, episode_line  # noqa: E402


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "policy v0  (time is up)"),
        ({"inner_steps": 2}, "policy v0+2  (time is up)"),
        ({"exploring": True, "end_reason": "time limit"}, "policy v0 exploring"),
    ],
)
def test_an_episodes_line_says_how_often_its_policy_had_adapted_and_whether_it_explored(changes, end):
    episode = dataclasses.replace(point_episode(np.random.default_rng(0)), **changes)
    assert episode_line(episode, robot_time_s=1.0, real_steps=20, max_steps=0).endswith(end)


def test_adaptation_is_told_where_there_is_something_to_tell():
    assert adaptation_line(None) == adaptation_line(AdaptationStatus(phase="off")) == ""
    assert adaptation_line(AdaptationStatus(phase="exploring")) == "adaptation: exploring"
    refused = AdaptationStatus(phase="off", reason="refused: the bundle does not adapt")
    assert adaptation_line(refused) == "adaptation: off; refused: the bundle does not adapt"
