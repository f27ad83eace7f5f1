"""A bundle at work: its policy acts and adapts between episodes, its ensemble says how much it disagrees. No torch."""

from pathlib import Path

import numpy as np

from mbrl_core.actor import Actor, RandomActor, ZeroActor
from mbrl_core.adaptation_config import AdaptationConfig, Turn
from mbrl_core.adapter import Adapter
from mbrl_core.bundle import Bundle, check_fits
from mbrl_core.disagreement import Disagreement
from mbrl_core.robot_adaptation import RobotAdaptation
from mbrl_core.tasks.task import Task
from mbrl_core.types import Action, Observation


class LearnedPolicy:
    """Answers observations. `adaptation` decides who acts, in whatever thread; `begin` takes that over."""

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        config: AdaptationConfig,
        *,
        deterministic: bool,
        gate: bool = False,
        path: Path | None = None,
    ) -> None:
        """Load and try every graph that the bundle has.

        Args:
          bundle: the policy as it was published.
          task: what it is for.
          config: when and how far it adapts.
          deterministic: act by the mean where no adaptation is under way.
          gate: tell with every action how much the ensemble disagrees, where the bundle has one.
          path: where adapted parameters are kept; None = nowhere.

        Raises:
          ValueError: the bundle does not fit task or arm, or one of its graphs does not run.
        """
        check_fits(bundle, task.profile, task)
        self._task = task
        adapter = Adapter(bundle, task) if bundle.adapt_onnx else None
        self._disagreement = Disagreement(bundle, task) if gate and bundle.ensemble_onnx else None
        self.adaptation = RobotAdaptation(bundle, adapter, config, deterministic=deterministic, path=path)
        self._turn = self.adaptation.turn
        self._actor = Actor(self._turn.bundle)
        self.version = bundle.version

    def begin(self, turn: Turn) -> None:
        """Let others act from now on: before the first step of an episode.

        Raises:
          ValueError: they cannot; who acted goes on.
        """
        if turn.bundle is not self._turn.bundle:
            self._actor.update(turn.bundle)
        self._turn = turn

    def answer(self, observation: Observation, rng: np.random.Generator) -> Action:
        """Act on an observation of the task's widths.

        Raises:
          ValueError: something is not finite.
        """
        turn = self._turn
        obs = np.asarray(self._task.observe(observation.state, observation.goal))
        drawn = self._actor.draw(obs, rng if turn.exploring else None)
        gate: dict[str, float] = {}
        if self._disagreement is not None:
            gate = {
                "disagreement": self._disagreement(observation.state, drawn),
                "slow_above": self._disagreement.slow_above,
                "hold_above": self._disagreement.hold_above,
            }
        return Action(
            seq=observation.seq,
            episode=observation.episode,
            action=drawn,
            policy_version=self.version,
            inner_steps=turn.inner_steps,
            exploring=turn.exploring,
            **gate,  # type: ignore[arg-type]
        )


class UnlearnedPolicy:
    """Answers observations likewise, at random or not at all: before there is a policy, and as a baseline."""

    version = 0

    def __init__(self, actor: RandomActor | ZeroActor) -> None:
        """Take who acts."""
        self._actor = actor

    def answer(self, observation: Observation, rng: np.random.Generator) -> Action:
        """Act, whatever is observed."""
        values = self._actor.draw(observation.state, rng)
        exploring = isinstance(self._actor, RandomActor)
        return Action(seq=observation.seq, episode=observation.episode, action=values, exploring=exploring)
