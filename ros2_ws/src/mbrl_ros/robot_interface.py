"""The robot interface: control loop, safety, episodes and resets behind ROS topics; no torch.

| transition | what it does |
|---|---|
| configure | opens the port, checks profile and every servo, reads; torque stays as it is |
| activate | start-up guard, emergency stop, torque on, holds; moves only after `start` |
| deactivate | ends the episode; then as `on_shutdown` says: brakes and holds, or parks first, or lets go there |
| cleanup, shutdown | deactivates, closes the port; a second signal cuts parking short |
| error | as cleanup |
"""

import threading

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from mbrl_core.action_mailbox import Sender
from mbrl_core.calibration import load_fitted
from mbrl_core.control_config import ControlConfig
from mbrl_core.control_loop import ControlLoop
from mbrl_core.emergency_stop import EmergencyStop
from mbrl_core.health import Tolerances
from mbrl_core.robots.errors import RobotError
from mbrl_core.robots.reading import ArmReading
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Action, Episode, Observation
from mbrl_msgs import msg
from mbrl_ros.action_topic import ActionTopic
from mbrl_ros.conversions import to_episode_msg, to_observation_msg, to_safety_status_msg
from mbrl_ros.delivery import NEWEST, STATUS, WHOLE
from mbrl_ros.emergency_stop_topic import EmergencyStopTopic
from mbrl_ros.open_robot import is_behind_controllers, open_robot
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import explain, run_node
from mbrl_ros.robot_diagnostics import joint_statuses, loop_status
from mbrl_sim import profile_path
from mbrl_sim.self_collision import SelfCollision

LAST_WORD = Duration(seconds=0.5)  # that the last status gets to arrive in
BUTTON_S = 2.0  # that an emergency stop which must be heard gets to be discovered in


class RobotInterfaceNode(LifecycleNode):
    """Converts between topics and the control loop, which runs in a thread of its own."""

    def __init__(self) -> None:
        """Read parameters and offer topics and services. Raises ValueError for a bad parameter."""
        super().__init__("robot_interface", automatically_declare_parameters_from_overrides=True)
        self._config, _ = read_parameters(self, ControlConfig)
        self.failed, self.hurry, self._ending = threading.Event(), threading.Event(), threading.Lock()
        self._loop: ControlLoop | None = None
        self._reading: ArmReading | None = None
        self._stop = EmergencyStop(self._config.estop_timeout_s)
        self._stop_topic = EmergencyStopTopic(self, self._stop)
        self._observations = self.create_publisher(msg.Observation, "observation", NEWEST)
        self._episodes = self.create_publisher(msg.Episode, "episode", WHOLE)
        self._joint_states = self.create_publisher(JointState, "joint_states", NEWEST)
        self._status = self.create_publisher(msg.SafetyStatus, "safety_status", STATUS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", STATUS)
        self._actions = ActionTopic(self, self._config.speed, self._receive_action)
        for verb in ("start", "stop", "rearm", "reset", "park"):
            self.create_service(Trigger, verb, lambda _, answer, verb=verb: self._serve(verb, answer))
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.1, self._tell_status, clock=wall)
        self.create_timer(1.0, self._tell_diagnostics, clock=wall)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Connect and read."""
        try:
            task = ReachTask(load_fitted(profile_path(self._config.profile), self._config.calibration))
            self._names = [joint.name for joint in task.profile.joints]
            self._tolerances = Tolerances.of(task.profile)
            self._arm = open_robot(self, task.profile, self._config)
            self._tells_joints = not is_behind_controllers(task.profile)
            clear = SelfCollision(task.profile)
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
            on_reading=self._note_reading,
            emergency_stop=self._stop,
            clear=clear,
        )
        self._thread = threading.Thread(target=self._run_loop, args=(self._loop,), name="control", daemon=True)
        self._thread.start()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold where the arm is; from now on `start` may move it."""
        try:
            if self._config.estop_timeout_s:
                self._stop.wait_until_clear(BUTTON_S)
            self._connected().activate()
        except Exception as error:
            self.get_logger().error(explain(error))
            return TransitionCallbackReturn.FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End as `on_shutdown` says."""
        try:
            self._connected().deactivate(self.hurry)
        except RobotError as error:
            self.get_logger().error(f"deactivate: {error}")
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the port; the servos go on holding."""
        self._let_go()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleanup."""
        self._let_go()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Safe stop."""
        self._let_go()
        return super().on_error(state)

    def shut_down(self) -> None:
        """Let go of the arm, then of the button; called before the process ends."""
        self._let_go()
        self._stop_topic.close()

    def _let_go(self) -> None:
        """End as `on_shutdown` says, close the port; `hurry` cuts parking short."""
        with self._ending:
            if self._loop is not None:
                self._end(self._loop)
            self._loop = None

    def _end(self, loop: ControlLoop) -> None:
        try:
            if self._thread.is_alive():
                loop.deactivate(self.hurry)
        except (ValueError, RobotError) as error:
            self.get_logger().error(f"while stopping: {error}")
        loop.close()
        self._thread.join(timeout=2.0)
        self._publish_status(loop)
        self._status.wait_for_all_acked(LAST_WORD)
        self._arm.close()

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
            if verb == "start":
                self._actions.refuse_several()
            getattr(self._connected(), verb)()
        except (ValueError, RuntimeError, RobotError) as error:
            answer.success, answer.message = False, str(error)
            return answer
        answer.success, answer.message = True, verb
        return answer

    def _receive_action(self, action: Action, sender: Sender, age_s: float) -> None:
        if self._loop is not None:
            self._loop.mailbox.offer(action, sender=sender, age_s=age_s)

    def _publish_observation(self, observation: Observation) -> None:
        self._observations.publish(to_observation_msg(observation, self.get_clock().now().to_msg()))

    def _publish_episode(self, episode: Episode) -> None:
        self._episodes.publish(to_episode_msg(episode, self._names, self.get_clock().now().to_msg()))

    def _note_reading(self, reading: ArmReading) -> None:
        self._reading = reading
        if not self._tells_joints:
            return
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
        name = self.get_fully_qualified_name()
        statuses = [loop_status(name, self._loop), *joint_statuses(name, self._reading, self._tolerances)]
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Entry point."""
    run_node(RobotInterfaceNode, realtime_priority=50)


if __name__ == "__main__":
    main()
