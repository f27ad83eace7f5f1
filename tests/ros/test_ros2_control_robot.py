"""The ros2_control robot against the stand-in: real topics in one process, each end spun by its own thread."""

import dataclasses
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")
pytest.importorskip("mujoco", reason="mujoco is not installed")

import rclpy  # noqa: E402
from fakes.spun_node import own_context, spun  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402

from mbrl_core.arm import load_profile  # noqa: E402
from mbrl_core.robots.errors import Fault, NotConnected, StaleState  # noqa: E402
from mbrl_ros import ros2_control_robot  # noqa: E402
from mbrl_ros.delivery import COMMAND  # noqa: E402
from mbrl_ros.ros2_control_robot import Ros2ControlRobot  # noqa: E402
from mbrl_ros.ros2_control_twin import Ros2ControlTwin  # noqa: E402
from mbrl_sim import profile_path  # noqa: E402

FORWARD = load_profile(profile_path("so101_ros2_control"))
TRAJECTORY = dataclasses.replace(
    FORWARD, bus=dataclasses.replace(FORWARD.bus, controller="arm_controller", controller_type="joint_trajectory")
)
BOTH = pytest.mark.parametrize("profile", [FORWARD, TRAJECTORY], ids=["forward_command", "joint_trajectory"])


@pytest.fixture
def context(unique_domain, monkeypatch):
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with own_context(unique_domain) as context:
        yield context


@pytest.fixture
def twin_node(context):
    """A node that is spun in the background."""
    with spun("twin", context) as node:
        yield node


@pytest.fixture
def stand_in(twin_node):
    """Starts stand-ins and closes them."""
    started = []

    def start(profile, **options):
        started.append(Ros2ControlTwin(twin_node, profile, **options))
        return started[-1]

    yield start
    for twin in started:
        twin.close()


@pytest.fixture
def robot(context):
    """Builds robots on a node that nobody spins, as while a lifecycle callback waits, and closes them."""
    node, built = rclpy.create_node("robot_interface", context=context), []

    def build(profile, **options):
        built.append(Ros2ControlRobot(node, profile, **options))
        return built[-1]

    yield build
    for one in built:
        one.close()


def wait_for(condition, what, limit_s=10.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        time.sleep(0.01)


def read_some(arm, count):
    """Readings that came in time: a busy machine may miss some."""
    readings = []
    while len(readings) < count:
        try:
            readings.append(arm.read())
        except StaleState:
            continue
    return readings


@BOTH
def test_the_arm_is_read_in_the_profiles_order_and_goes_where_it_is_sent(stand_in, robot, profile):
    twin, arm = stand_in(profile), robot(profile)
    arm.connect()
    home = profile.vector("home_rad")
    assert arm.read().position == pytest.approx(home, abs=0.05)
    assert np.isnan(arm.read().voltage_v).all()
    assert arm.read_torque().all()
    arm.enable_torque()
    target = home + [0.1, 0.05, -0.1, 0.05, 0.2, 0.1]
    for share in np.linspace(0.0, 1.0, 100):
        arm.write(home + share * (target - home))
        read_some(arm, 1)
    assert arm.read_goal() == pytest.approx(target)
    wait_for(lambda: np.abs(twin.position - target).max() < 0.03, "the arm to arrive")
    time.sleep(0.3)
    assert twin.position == pytest.approx(target, abs=0.03), "the last command holds"


def test_every_reading_is_a_new_one_and_its_times_step_evenly(stand_in, robot):
    stand_in(FORWARD)
    arm = robot(FORWARD, deadline_s=0.5)
    arm.connect()
    stamps = np.array([reading.stamp_s for reading in read_some(arm, 60)])
    assert (np.diff(stamps) > 0.0).all()
    assert abs(arm.read().stamp_s - time.monotonic()) < 0.5


def test_a_clock_that_runs_faster_is_taken_from_a_twin_and_from_no_arm(stand_in, robot):
    stand_in(FORWARD, speed=3.0)
    robot(FORWARD, speed=3.0).connect()
    with pytest.raises(NotConnected, match=r"speed: expected stamps .* to run at 9 times the wall's clock"):
        robot(FORWARD, speed=9.0).connect()


def test_an_arm_in_real_time_is_not_driven_at_another_speed(stand_in, robot):
    stand_in(FORWARD)
    with pytest.raises(NotConnected, match=r"to run at 3 times the wall's clock, as a twin's do, got [01]\.\d\d times"):
        robot(FORWARD, speed=3.0).connect()


def test_when_joint_states_stop_reads_are_stale_within_the_deadline(stand_in, robot):  # case 19
    twin, arm = stand_in(FORWARD), robot(FORWARD, deadline_s=0.05)
    arm.connect()
    twin.close()
    time.sleep(0.1)
    with pytest.raises(StaleState):
        for _ in range(2):  # one may still be new
            arm.read()
    began_s = time.monotonic()
    with pytest.raises(
        StaleState, match=r"read: expected new joint states in 0.05 s, got none on /joint_states"
    ) as stale:
        arm.read()
    assert time.monotonic() - began_s < 0.5
    assert stale.value.missing_ids == (1, 2, 3, 4, 5, 6)


def test_nan_in_the_joint_states_makes_a_stale_reading_that_names_the_joint(twin_node, stand_in, robot):  # case 21
    twin, arm = stand_in(FORWARD), robot(FORWARD, deadline_s=0.2)
    arm.connect()
    twin.close()
    publisher = twin_node.create_publisher(JointState, "joint_states", COMMAND)
    wait_for(publisher.get_subscription_count, "the robot to listen")
    names = [joint.name for joint in FORWARD.joints]
    publisher.publish(JointState(name=names, position=[0.0, float("nan"), 0.0, 0.0, 0.0, 0.0]))
    time.sleep(0.1)
    with pytest.raises(
        StaleState, match=r"got joint_states: expected finite positions, got NaN at \['shoulder_lift'\]"
    ):
        for _ in range(2):
            arm.read()


def test_a_controller_deactivated_under_us_is_not_written_to_again(twin_node, stand_in, robot):  # case 57
    twin, arm = stand_in(FORWARD), robot(FORWARD)
    arm.connect()
    arm.enable_torque()
    home = FORWARD.vector("home_rad")
    arm.write(home)
    twin.set_active(False)
    wait_for(lambda: not arm.read_torque().any(), "word of the deactivation")
    with pytest.raises(Fault, match="controller forward_position_controller: expected active, got inactive"):
        arm.write(home)
    twin.set_active(True)
    wait_for(lambda: arm.read_torque().all(), "word of the activation")
    with pytest.raises(Fault, match="expected to be engaged, got released"):
        arm.write(home)  # nobody asked for it
    arm.enable_torque()
    assert arm.read_goal() == pytest.approx(twin.position, abs=0.05), "it holds where it is"
    arm.write(home)


def test_a_message_of_the_wrong_size_from_another_takes_the_controller_down_and_we_stop(twin_node, stand_in, robot):
    twin, arm = stand_in(FORWARD), robot(FORWARD)
    arm.connect()
    arm.enable_torque()
    other = twin_node.create_publisher(Float64MultiArray, "forward_position_controller/commands", COMMAND)
    wait_for(other.get_subscription_count, "the controller to listen")
    other.publish(Float64MultiArray(data=[0.0]))
    wait_for(lambda: not twin.active, "the controller to go down")
    wait_for(lambda: not arm.read_torque().any(), "word of it")
    with pytest.raises(Fault, match="got inactive"):
        arm.write(FORWARD.vector("home_rad"))


def test_a_controller_that_is_not_active_is_refused_with_what_to_do(stand_in, robot):  # case 56
    twin, arm = stand_in(FORWARD), robot(FORWARD)
    twin.refuses_switch = "resources are claimed by another controller"  # where it can be asked at all
    twin.set_active(False)
    arm.connect()
    wait_for(lambda: not arm.read_torque().any(), "word of the controller")
    with pytest.raises(Fault, match="ros2 control switch_controllers --activate forward_position_controller"):
        arm.enable_torque()
    with pytest.raises(Fault):
        arm.write(FORWARD.vector("home_rad"))


@pytest.mark.full_ros
def test_an_inactive_controller_is_asked_for_and_a_refusal_is_told(stand_in, robot):  # case 56
    pytest.importorskip("controller_manager_msgs", reason="it comes with a full ROS 2 installation")
    twin, arm = stand_in(FORWARD), robot(FORWARD)
    twin.set_active(False)
    arm.connect()
    wait_for(lambda: not arm.read_torque().any(), "word of the controller")
    twin.refuses_switch = "resources are claimed by another controller"
    with pytest.raises(Fault, match="expected to be switched to active, got resources are claimed by another"):
        arm.enable_torque()
    assert not twin.active
    twin.refuses_switch = ""
    arm.enable_torque()
    assert twin.active
    arm.write(FORWARD.vector("home_rad"))


def test_without_any_word_of_the_state_a_subscriber_counts_as_active(stand_in, robot, monkeypatch):
    monkeypatch.setattr(ros2_control_robot, "HEAR_S", 0.05)
    twin = stand_in(FORWARD)
    twin._tell_activity = lambda: None
    twin._node.destroy_publisher(twin._diagnostics)
    twin._diagnostics.publish = lambda message: None
    arm = robot(FORWARD)
    arm.connect()
    wait_for(lambda: arm.read_torque().all(), "the subscriber")
    arm.enable_torque()
    arm.write(FORWARD.vector("home_rad"))


@pytest.mark.parametrize("bad", [[0.0], [0.0, 0.0, 0.0, 0.0, 0.0, float("nan")]])
def test_what_a_controller_cannot_take_never_leaves(stand_in, robot, bad):  # cases 1, 3
    twin, arm = stand_in(FORWARD), robot(FORWARD)
    arm.connect()
    arm.enable_torque()
    with pytest.raises(ValueError, match=r"position.*: expected"):
        arm.write(bad)
    time.sleep(0.1)
    assert twin.active


def test_an_order_of_joints_that_is_not_the_profiles_is_refused(stand_in, robot):
    stand_in(FORWARD)
    swapped = dataclasses.replace(FORWARD, joints=(FORWARD.joints[1], FORWARD.joints[0], *FORWARD.joints[2:]))
    with pytest.raises(NotConnected, match="joints: expected .*shoulder_lift.*, in this order, got"):
        robot(swapped).connect()


def test_joints_that_are_not_there_and_a_controller_that_is_not_loaded_are_refused(stand_in, robot, monkeypatch):
    stand_in(FORWARD)
    monkeypatch.setattr(ros2_control_robot, "CONNECT_S", 0.5)
    renamed = dataclasses.replace(FORWARD.joints[0], name="waist")
    with pytest.raises(NotConnected, match=r"expected joint states of .*'waist'.*got none of \['waist'\]"):
        robot(dataclasses.replace(FORWARD, joints=(renamed, *FORWARD.joints[1:]))).connect()
    with pytest.raises(NotConnected, match="controller arm_controller: expected it to be loaded"):
        robot(TRAJECTORY).connect()


def test_torque_is_not_ours_to_switch_off(stand_in, robot):
    twin, arm = stand_in(FORWARD), robot(FORWARD)
    arm.connect()
    arm.enable_torque()
    with pytest.raises(Fault, match="ros2 control set_hardware_component_state"):
        arm.disable_torque()
    assert twin.active
    with pytest.raises(Fault, match="got released"):
        arm.write(FORWARD.vector("home_rad"))


def test_a_closed_robot_says_so_and_connects_again(stand_in, robot):
    stand_in(FORWARD)
    arm = robot(FORWARD)
    for call in (arm.read, arm.read_goal, arm.read_torque, arm.enable_torque):
        with pytest.raises(NotConnected, match="got closed"):
            call()
    for _ in range(2):
        arm.connect()
        read_some(arm, 1)
        arm.close()


def test_a_profile_of_servos_is_refused(robot):
    with pytest.raises(ValueError, match="bus.protocol: expected ros2_control, got 'feetech_sts'"):
        robot(load_profile(profile_path("so101")))
