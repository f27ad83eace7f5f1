"""The stand-in controllers take, refuse and hold as those of ros2_controllers do."""

import math
import re

import numpy as np
import pytest

from mbrl_sim.stand_in_controllers import ControllerError, ForwardCommand, JointTrajectory, Point

NAMES = ("a", "b")
HERE = np.array([0.5, -0.5])
PERIOD_S = 0.01


@pytest.fixture
def forward():
    controller = ForwardCommand(2)
    controller.start(HERE)
    return controller


@pytest.fixture
def trajectory():
    controller = JointTrajectory(NAMES, PERIOD_S)
    controller.start(HERE)
    return controller


def test_a_forwarded_command_holds_for_ever(forward):
    assert forward.update(0.0, HERE) is None
    assert forward.receive([1.0, 2.0]) == ""
    for time_s in (0.0, 1e6):
        assert forward.update(time_s, HERE).tolist() == [1.0, 2.0]


def test_a_forwarded_message_that_is_not_finite_is_dropped_whole(forward):  # cases 1, 2
    forward.receive([1.0, 2.0])
    for bad in (math.nan, math.inf):
        assert "Non-finite" in forward.receive([0.0, bad])
    assert forward.update(0.0, HERE).tolist() == [1.0, 2.0]


def test_a_forwarded_message_of_the_wrong_size_takes_the_controller_down(forward):  # case 3
    assert forward.receive([1.0]) == ""
    with pytest.raises(ControllerError, match=r"command size \(1\) does not match number of interfaces \(2\)"):
        forward.update(0.0, HERE)
    forward.start(HERE)
    assert forward.update(0.0, HERE) is None, "activation forgets"


def test_a_trajectory_controller_holds_where_it_was_activated(trajectory):
    assert trajectory.update(3.0, HERE + 1.0).tolist() == HERE.tolist()


def test_joints_of_a_trajectory_are_found_by_name(trajectory):
    assert trajectory.receive(["b", "a"], [Point(PERIOD_S, [2.0, 1.0])], 0.0, 0.0) == ""
    assert trajectory.update(0.0, HERE).tolist() == [1.0, 2.0], "one period ahead is the end of this one"
    assert trajectory.update(9.0, HERE).tolist() == [1.0, 2.0], "the end is held"


def test_positions_alone_make_straight_lines(trajectory):
    trajectory.receive(NAMES, [Point(0.1, [1.5, -0.5]), Point(0.2, [1.5, 1.5])], 0.0, 0.0)
    trajectory.update(4.0, HERE)
    assert trajectory.update(4.0 + 0.04, HERE) == pytest.approx([1.0, -0.5])
    assert trajectory.update(4.0 + 0.14, HERE) == pytest.approx([1.5, 0.5])


def test_velocities_make_cubic_curves(trajectory):
    trajectory.receive(NAMES, [Point(1.0, [1.5, -0.5], [0.0, 0.0])], 0.0, 0.0)
    trajectory.update(0.0, HERE)
    share = 0.25
    expected = 0.5 + 3 * share**2 - 2 * share**3  # from rest to rest
    assert trajectory.update(share - PERIOD_S, HERE) == pytest.approx([expected, -0.5])


def test_a_new_trajectory_begins_where_the_joints_are(trajectory):
    trajectory.receive(NAMES, [Point(1.0, [9.0, 9.0])], 0.0, 0.0)
    trajectory.update(0.0, HERE)
    trajectory.receive(NAMES, [Point(0.1, [1.0, 1.0])], 0.0, 0.0)
    assert trajectory.update(0.5, np.zeros(2)) == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("names", "points", "stamp_s", "complaint"),
    [
        (("a", "c"), [Point(0.1, [1.0, 1.0])], 0.0, r"don't match the controller joints: \['c'\]"),  # case 4
        (("a",), [Point(0.1, [1.0])], 0.0, "don't match the controller joints"),
        (NAMES, [], 0.0, "Empty trajectory"),
        (NAMES, [Point(0.2, [1.0, 1.0]), Point(0.2, [1.0, 1.0])], 0.0, "not strictly increasing"),
        (NAMES, [Point(0.1, [1.0])], 0.0, "Mismatch"),
        (NAMES, [Point(0.1, [1.0, 1.0], [0.1])], 0.0, "Mismatch"),
        (NAMES, [Point(0.1, [1.0, 1.0], [0.0, 0.1])], 0.0, "not zero"),
        (NAMES, [Point(0.1, [1.0, 1.0])], 1.0, "ends in the past"),
    ],
)
def test_a_bad_trajectory_is_refused_and_the_joints_hold(trajectory, names, points, stamp_s, complaint):
    assert re.search(complaint, trajectory.receive(names, points, stamp_s, 5.0))
    assert trajectory.update(5.0, HERE + 1.0).tolist() == HERE.tolist()
