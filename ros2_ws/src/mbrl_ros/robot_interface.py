"""The robot interface: control loop, safety, episodes and resets behind ROS topics; no torch, no MuJoCo.

| transition | what it does |
|---|---|
| configure | opens the port, checks every servo, reads; torque stays as it is |
| activate | start-up guard, torque on, holds; moves only after `start` |
| deactivate | ends the episode, brakes, leaves the servos holding |
| cleanup, shutdown | deactivates, closes the port; the servos go on holding: an arm must not fall |
| error | as cleanup |
"""

import os
import threading

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from mbrl_core.arm import ArmProfile
from mbrl_core.calibration import load_fitted
from mbrl_core.config import refuse
from mbrl_core.control_config import ControlConfig
from mbrl_core.control_loop import ControlLoop
from mbrl_core.robots.errors import RobotError
from mbrl_core.robots.reading import ArmReading
from mbrl_core.robots.robot import Robot
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Episode, Observation
from mbrl_msgs import msg
from mbrl_ros.conversions import from_action_msg, to_episode_msg, to_observation_msg, to_safety_status_msg
from mbrl_ros.delivery import NEWEST, STATUS, WHOLE
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import explain, run_node
from mbrl_ros.ros2_control_robot import Ros2ControlRobot
from mbrl_sim import profile_path


class RobotInterfaceNode(LifecycleNode):
    """Converts between topics and the control loop, which runs in a thread of its own."""

    def __init__(self) -> None:
        """Read parameters and offer topics and services. Raises ValueError for a bad parameter."""
        super().__init__("robot_interface", automatically_declare_parameters_from_overrides=True)
        self._config, _ = read_parameters(self, ControlConfig)
        self.failed = threading.Event()
        self._loop: ControlLoop | None = None
        self._observations = self.create_publisher(msg.Observation, "observation", NEWEST)
        self._episodes = self.create_publisher(msg.Episode, "episode", WHOLE)
        self._joint_states = self.create_publisher(JointState, "joint_states", NEWEST)
        self._status = self.create_publisher(msg.SafetyStatus, "safety_status", STATUS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", STATUS)
        self.create_subscription(msg.Action, "action", self._receive_action, NEWEST)
        for verb in ("start", "stop", "rearm", "reset"):
            self.create_service(Trigger, verb, lambda _, answer, verb=verb: self._serve(verb, answer))
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._tell_status, clock=wall)
        self.create_timer(1.0, self._tell_diagnostics, clock=wall)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Connect and read."""
        try:
            task = ReachTask(load_fitted(profile_path(self._config.profile), self._config.calibration))
            self._names = [joint.name for joint in task.profile.joints]
            self._arm = self._open_arm(task.profile)
            self._arm.connect()
        except Exception as error:
            self.get_logger().error(explain(error))
            return TransitionCallbackReturn.FAILURE
        self._loop = ControlLoop(
            self._arm,
            task,
            self._config,
            on_observation=self._publish_observation,
            on_episode=self._publish_episode,
            on_reading=self._publish_joint_states if self._tells_joints else lambda reading: None,
        )
        self._thread = threading.Thread(target=self._run_loop, args=(self._loop,), name="control", daemon=True)
        self._thread.start()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold where the arm is; from now on `start` may move it."""
        try:
            self._connected().activate()
        except Exception as error:
            self.get_logger().error(explain(error))
            return TransitionCallbackReturn.FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Brake and hold."""
        try:
            self._connected().deactivate()
        except RobotError as error:
            self.get_logger().error(f"deactivate: {error}")
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the port; the servos go on holding."""
        self.shut_down()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleanup."""
        self.shut_down()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Safe stop."""
        self.shut_down()
        return super().on_error(state)

    def shut_down(self) -> None:
        """Brake, hold, close the port."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            if self._thread.is_alive():
                loop.deactivate()
        except (ValueError, RobotError) as error:
            self.get_logger().error(f"while stopping: {error}")
        loop.close()
        self._thread.join(timeout=2.0)
        self._publish_status(loop)
        self._arm.close()

    def _open_arm(self, profile: ArmProfile) -> Robot:
        """Build the profile's arm; behind ros2_control the joint states are another's to publish."""
        self._tells_joints = profile.bus.protocol != "ros2_control"
        if not self._tells_joints:
            return Ros2ControlRobot(self, profile, speed=self._config.speed)
        _refuse_fast_arm(self._config)
        return ServoArm(profile, self._config.port)

    def _connected(self) -> ControlLoop:
        if self._loop is None:
            raise RuntimeError("robot_interface: expected to be configured")
        return self._loop

    def _run_loop(self, loop: ControlLoop) -> None:
        try:
            loop.run()
        except Exception as error:  # the thread that holds the arm must never die unseen
            self.get_logger().fatal(f"control loop: {type(error).__name__}: {error}; the servos hold their last target")
            self.failed.set()
            raise

    def _serve(self, verb: str, answer: Trigger.Response) -> Trigger.Response:
        try:
            getattr(self._connected(), verb)()
        except (ValueError, RuntimeError, RobotError) as error:
            answer.success, answer.message = False, str(error)
            return answer
        answer.success, answer.message = True, verb
        return answer

    def _receive_action(self, message: msg.Action) -> None:
        if self._loop is not None:
            self._loop.mailbox.offer(from_action_msg(message))

    def _publish_observation(self, observation: Observation) -> None:
        self._observations.publish(to_observation_msg(observation, self.get_clock().now().to_msg()))

    def _publish_episode(self, episode: Episode) -> None:
        self._episodes.publish(to_episode_msg(episode, self._names, self.get_clock().now().to_msg()))

    def _publish_joint_states(self, reading: ArmReading) -> None:
        message = JointState(name=self._names, position=reading.position, velocity=reading.velocity)
        message.header.stamp = self.get_clock().now().to_msg()
        self._joint_states.publish(message)

    def _tell_status(self) -> None:
        if self._loop is not None:
            self._publish_status(self._loop)

    def _publish_status(self, loop: ControlLoop) -> None:
        stamp = self.get_clock().now().to_msg()
        self._status.publish(to_safety_status_msg(loop.mode.value, loop.reason, loop.counters, stamp))

    def _tell_diagnostics(self) -> None:
        if self._loop is None:
            return
        loop, refused = self._loop, dict(self._loop.mailbox.refused)
        level = DiagnosticStatus.ERROR if loop.mode.value == "latched" else DiagnosticStatus.OK
        values = {**vars(loop.counters), **{f"actions refused: {why}": count for why, count in refused.items()}}
        status = DiagnosticStatus(level=level, name=self.get_fully_qualified_name(), message=loop.reason)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _refuse_fast_arm(config: ControlConfig) -> None:
    """Only a pseudo-terminal, which is a twin, may be run at another speed than real time."""
    port = os.path.realpath(config.port)
    if config.speed != 1.0 and not port.startswith("/dev/pts/"):
        raise refuse("robot_interface.speed", f"1.0 on an arm ({port} is no twin)", config.speed)


def main() -> None:
    """Entry point."""
    run_node(RobotInterfaceNode, realtime_priority=50)


if __name__ == "__main__":
    main()
