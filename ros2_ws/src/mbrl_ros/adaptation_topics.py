"""The policy node's end of adaptation: episodes in, the services `adapt` and `rollback`, and `adaptation_status` out.

What takes time (a step, a flush to the disk) runs in a thread of its own, so that it never delays an action.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from mbrl_core.adaptation_config import Outcome, Turn
from mbrl_core.robot_adaptation import RobotAdaptation
from mbrl_msgs import msg, srv
from mbrl_ros.conversions import from_episode_msg, to_adaptation_status_msg
from mbrl_ros.delivery import FROM_NOW_ON, LATCHED

MOST_TURNS = 8  # episodes whose beginning is remembered; one is enough unless messages pile up

Call = Callable[[RobotAdaptation], Outcome]


class AdaptationTopics:
    """Without an adaptation installed it refuses every request and counts nothing."""

    def __init__(self, node: Node) -> None:
        """Offer topics and services."""
        self._node = node
        self._adaptation: RobotAdaptation | None = None
        self._turns: dict[int, Turn] = {}
        self._told = ""
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="adaptation")
        self._statuses = node.create_publisher(msg.AdaptationStatus, "adaptation_status", LATCHED)
        node.create_subscription(msg.Episode, "episode", self._hear, FROM_NOW_ON)
        apart = ReentrantCallbackGroup()  # a request that waits for its answer must not hold back observations
        node.create_service(srv.Adapt, "adapt", self._adapt, callback_group=apart)
        node.create_service(srv.Rollback, "rollback", self._roll_back, callback_group=apart)

    def install(self, adaptation: RobotAdaptation) -> None:
        """Begin anew with another policy."""
        self._adaptation = adaptation
        self._publish(adaptation, adaptation.outcome)

    def begin(self, episode: int) -> Turn | None:
        """Say who acts in an episode whose first step is due; None where no policy is installed."""
        if self._adaptation is None:
            return None
        turn = self._adaptation.turn
        self._turns = dict(list(self._turns.items())[1 - MOST_TURNS :]) | {episode: turn}
        return turn

    def close(self) -> None:
        """Finish what is under way and take nothing more."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _hear(self, message: msg.Episode) -> None:
        if self._adaptation is None:
            return
        try:
            episode = from_episode_msg(message)
        except ValueError as error:
            self._node.get_logger().error(f"episode refused: {error}")
            return
        turn = self._turns.pop(episode.episode, None)
        self._submit(lambda adaptation: adaptation.add(episode, turn))

    async def _adapt(self, request: srv.Adapt.Request, answer: srv.Adapt.Response) -> srv.Adapt.Response:
        return await self._ask(lambda adaptation: adaptation.adapt(request.inner_steps), answer)

    async def _roll_back(self, request: srv.Rollback.Request, answer: srv.Rollback.Response) -> srv.Rollback.Response:
        return await self._ask(lambda adaptation: adaptation.rollback(), answer)

    async def _ask(self, call: Call, answer):  # type: ignore[no-untyped-def]
        if self._adaptation is None:
            answer.success, answer.message = False, "refused: no learned policy acts"
            return answer
        outcome = await self._submit(call)
        answer.success = outcome is not None and outcome.granted
        answer.message = "failed: see the policy node's log" if outcome is None else outcome.reason
        return answer

    def _submit(self, call: Call) -> Future:
        """Have the thread carry out a call; the answer is None where it failed."""
        done = Future(executor=self._node.executor)
        self._worker.submit(self._carry_out, call, self._adaptation, done)
        return done

    def _carry_out(self, call: Call, adaptation: RobotAdaptation, done: Future) -> None:
        outcome = None
        try:
            outcome = call(adaptation)
            self._publish(adaptation, outcome)
        except Exception as error:  # the thread must not fail unseen
            self._node.get_logger().error(f"adaptation: {type(error).__name__}: {error}")
        if self._node.executor is not None:  # set there, because that also wakes an executor that waits for messages
            self._node.executor.create_task(done.set_result, outcome)

    def _publish(self, adaptation: RobotAdaptation, outcome: Outcome) -> None:
        if adaptation is not self._adaptation:  # another policy was installed meanwhile
            return
        self._statuses.publish(to_adaptation_status_msg(outcome, self._node.get_clock().now().to_msg()))
        if outcome.reason != self._told:
            self._told = outcome.reason
            self._node.get_logger().info(f"adaptation, {outcome.phase}: {outcome.reason}")
