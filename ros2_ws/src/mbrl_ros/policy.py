"""The policy node: an observation in, an action out, by ONNX Runtime; no torch.

| transition | what it does |
|---|---|
| configure | reads the bundle; refuses a bundle that is damaged or made for another arm |
| activate | answers observations |
| deactivate | answers none: the robot interface's watchdog then holds the arm |
| error | as deactivate |

A published policy is checked in a thread of its own and swapped in between two steps; one that has adapted
(`mbrl_core/robot_adaptation.py`), only before the first step of an episode, so that every episode has one policy.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from mbrl_core.actor import RandomActor, ZeroActor
from mbrl_core.adaptation_config import AdaptationConfig
from mbrl_core.arm import load_profile
from mbrl_core.bundle import Bundle
from mbrl_core.learned_policy import LearnedPolicy, UnlearnedPolicy
from mbrl_core.tasks.reach import ReachTask
from mbrl_core.types import Observation
from mbrl_msgs import msg
from mbrl_ros.adaptation_topics import AdaptationTopics
from mbrl_ros.conversions import from_observation_msg, from_policy_update_msg, to_action_msg
from mbrl_ros.delivery import LATCHED, NEWEST
from mbrl_ros.node_configs import PolicyConfig
from mbrl_ros.parameters import read_parameters
from mbrl_ros.process import explain, run_node
from mbrl_sim import profile_path


class PolicyNode(LifecycleNode):
    """Acts by the newest good policy."""

    def __init__(self) -> None:
        """Read parameters and profile. Raises ValueError for a bad one."""
        super().__init__("policy", automatically_declare_parameters_from_overrides=True)
        self._config, groups = read_parameters(self, PolicyConfig, adaptation=AdaptationConfig)
        self._settings: AdaptationConfig = groups["adaptation"]
        self._task = ReachTask(load_profile(profile_path(self._config.profile)))
        self._rng = np.random.default_rng(self._config.seed)
        self._checker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy-check")
        self._checked: Future[LearnedPolicy] | None = None
        self._policy: LearnedPolicy | UnlearnedPolicy
        self._adaptation = AdaptationTopics(self)
        self._active = False
        self._actions = self.create_publisher(msg.Action, "action", NEWEST)
        self.create_subscription(msg.Observation, "observation", self._answer, NEWEST)
        self.create_subscription(msg.PolicyUpdate, "policy_update", self._receive, LATCHED)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the bundle, where there is one."""
        try:
            first = ZeroActor if self._config.actor == "zero" else RandomActor
            self._policy = UnlearnedPolicy(first(self._task.action_dim))
            if self._config.actor == "learned" and self._config.bundle:
                self._install(self._prepared(Bundle.load(Path(self._config.bundle))))
        except Exception as error:
            self.get_logger().error(explain(error))
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to answer."""
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer no more."""
        self._active = False
        return super().on_deactivate(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer no more."""
        self._active = False
        return super().on_error(state)

    def shut_down(self) -> None:
        """Answer no more; called before the process ends."""
        self._active = False
        self._checker.shutdown(wait=False, cancel_futures=True)
        self._adaptation.close()

    def _prepared(self, bundle: Bundle) -> LearnedPolicy:
        """Check a bundle. Raises ValueError where it does not fit, or does not run."""
        path = Path(self._config.adapted) if self._config.adapted else None
        how = {"deterministic": self._config.deterministic, "gate": self._config.gate}
        return LearnedPolicy(bundle, self._task, self._settings, **how, path=path)

    def _install(self, policy: LearnedPolicy) -> None:
        self._policy = policy
        self._adaptation.install(policy.adaptation)

    def _answer(self, message: msg.Observation) -> None:
        if not self._active:
            return
        self._swap()
        observation = from_observation_msg(message)
        if not self._is_sound(observation):
            return
        if observation.first:
            self._begin(observation.episode)
        try:
            action = self._policy.answer(observation, self._rng)
        except ValueError as error:  # not finite: no answer, so that the arm holds
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        self._actions.publish(to_action_msg(action, self.get_clock().now().to_msg()))

    def _is_sound(self, observation: Observation) -> bool:
        """Whether an observation can be acted on; silence makes the robot interface hold."""
        for name, width in (("state", self._task.state_dim), ("goal", self._task.goal_dim)):
            values = getattr(observation, name)
            if values.shape != (width,) or not np.isfinite(values).all():
                expected = f"observation.{name}: expected {width} finite numbers, got {values.tolist()}"
                self.get_logger().error(expected, throttle_duration_sec=1.0)
                return False
        return True

    def _begin(self, episode: int) -> None:
        """Let those parameters act that adaptation wants, from the first step of an episode on."""
        turn = self._adaptation.begin(episode)
        if turn is None or not isinstance(self._policy, LearnedPolicy):
            return
        try:
            self._policy.begin(turn)
        except ValueError as error:
            self.get_logger().error(f"adapted policy refused, the one before goes on: {error}")

    def _receive(self, message: msg.PolicyUpdate) -> None:
        if self._config.actor == "learned":
            self._checked = self._checker.submit(self._check, message)

    def _check(self, message: msg.PolicyUpdate) -> LearnedPolicy:
        return self._prepared(Bundle.from_bytes(from_policy_update_msg(message)))

    def _swap(self) -> None:
        """Take over a policy that passed its check; one that did not is reported and the present one goes on."""
        if self._checked is None or not self._checked.done():
            return
        checked, self._checked = self._checked, None
        try:
            self._install(checked.result())
        except Exception as error:  # a bad policy must never end the node
            self.get_logger().error(f"policy refused, version {self._policy.version} goes on: {error}")
            return
        self.get_logger().info(f"policy version {self._policy.version} in use")


def main() -> None:
    """Entry point."""
    run_node(PolicyNode, realtime_priority=40)


if __name__ == "__main__":
    main()
