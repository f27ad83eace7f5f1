"""Adapting on the robot: which episodes explore and which evaluate, when a step is taken, and whether it stays.

One adaptation, begun by itself (`after_episodes`) or when asked: evaluate the present policy by its mean, explore with
drawn actions, take inner steps on these exploring episodes, evaluate the adapted policy, compare. Decisions:
- Exploring episodes draw their actions, because a policy gradient needs them; evaluating ones act by the mean, which is
  what the robot does from then on. Both are counted, and each belongs to the parameters that acted in it.
- Steps are taken on rollouts that are imagined in the bundle's ensemble, set right by the exploring episodes
  (`imagined_steps.py`), or on these alone (`routes.py`).
- They use whole exploring episodes of the present parameters only, as in training, where every inner step has fresh
  rollouts. Importance weights would allow older ones, at the price of their variance; five episodes cost half a minute.
- Interrupted episodes count for nothing: one that the operator or the watchdog ended says little on the policy.
- A step stays only if it is finite, moves the policy no further than `max_kl` and makes the surrogate no worse. The
  bound is for each step: k steps in one direction may move it k^2 times as far. The first step that does not stay
  ends the adaptation, and the last good parameters go on.
- What stays is compared by the real returns of evaluating episodes (`return_comparison.py`) and falls back by itself,
  to the parameters before it. It then waits to be asked again: the same noise would lead it astray again and again.

Not thread-safe: any thread may read `turn`, everything else is for one.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from mbrl_core.adaptation_config import MOST_EXPLORED, AdaptationConfig, Outcome, Turn, route_and_steps
from mbrl_core.adaptation_rules import Attempt, attempt, episode_objection
from mbrl_core.adapted_file import Adapted, Provenance, hashes_of, load_adapted, remove_adapted, save_adapted
from mbrl_core.adapter import Adapter
from mbrl_core.bundle import Bundle, File
from mbrl_core.config import check, refuse
from mbrl_core.return_comparison import LOOKS, Comparison
from mbrl_core.routes import begin_steps
from mbrl_core.types import Episode


class _Candidate:
    """Parameters that act or may act again, and the episodes that are theirs."""

    def __init__(self, bundle: Bundle, origin: Attempt, inner_steps: int, returns: Iterable[float], most: int) -> None:
        self.bundle = dataclasses.replace(bundle, theta=origin.theta)
        self.origin, self.inner_steps = origin, inner_steps
        self.returns = deque(returns, maxlen=most)  # of the latest evaluating episodes
        self.explored: deque[Episode] = deque(maxlen=MOST_EXPLORED)


class RobotAdaptation:
    """The adaptation of one bundle's policy."""

    def __init__(
        self,
        bundle: Bundle,
        adapter: Adapter | None,
        config: AdaptationConfig,
        *,
        deterministic: bool = True,
        path: Path | None = None,
    ) -> None:
        """Go on from adapted parameters that were saved, or begin with the meta-policy.

        Args:
          bundle: the meta-policy.
          adapter: takes the steps; None where the bundle does not adapt.
          config: settings.
          deterministic: act by the mean where no adaptation is under way.
          path: where adapted parameters are kept; None = nowhere.

        Raises:
          ValueError: a setting is out of bounds. A saved file that does not fit is no error: `outcome` tells of it.
        """
        self.bundle, self._adapter, self._config = bundle, adapter, check(config)
        self._deterministic, self._path = deterministic, path
        self._route, self._most = route_and_steps(bundle, config.route, config.inner_steps)
        self._attempt = Attempt(bundle.theta, 0, ())  # the last one
        self._meta = self._candidate(self._attempt, 0)
        self._now = self._before = self._meta
        self._live: Comparison | None = None
        self._shown: Comparison | None = None  # the last one, also when it is over
        self._wanted = self._needed = 0  # inner steps to take, exploring episodes to take them on
        self._explorations = self._evaluations = 0
        self._accepted = self._fallen_back = False
        self._reason = self._unsaved = ""
        self._files: tuple[File, ...] = ()  # hashes of the bundle's members, once they are needed
        restored = self._restore()
        if adapter is not None and config.after_episodes and not self._now.inner_steps:
            self._wanted, self._needed = self._most, config.after_episodes
        self._tell(restored)

    # ---- what may be asked

    def add(self, episode: Episode, turn: Turn | None) -> Outcome:
        """Count an episode for who acted in it, and do what is then due.

        Args:
          episode: what happened.
          turn: the `turn` that it began with; None where nobody saw it begin.
        """
        objection = episode_objection(episode, turn, self.bundle.version)
        if objection or turn is None:
            return self._tell(f"episode {episode.episode} does not count: {objection}")
        is_present = turn.bundle is self._now.bundle
        self._explorations += turn.exploring
        self._evaluations += not turn.exploring
        if is_present and turn.exploring:
            self._now.explored.append(episode)
        elif is_present and self._is_worse_with(episode.episode_return):
            return self._fall_back()
        return self._advance() or self._tell()

    def adapt(self, steps: int) -> Outcome:
        """Take inner steps on the exploring episodes there are, or begin to collect what they need; 0 = the most."""
        if self._adapter is None:
            return self._tell("refused: the bundle does not adapt", granted=False)
        if not 0 <= steps <= self._most:
            expected = f"1 to {self._most} (adaptation.inner_steps), or 0 for as many"
            return self._tell(f"refused: {refuse('inner_steps', expected, steps)}", granted=False)
        self._wanted, self._needed = steps or self._most, len(self._now.explored) or self._config.explore_episodes
        evaluating = max(0, self._config.evaluate_episodes - len(self._now.returns))
        exploring = self._needed - len(self._now.explored)
        begun = f"begun: {_count(self._wanted)} after {evaluating} evaluating and {exploring} exploring episodes"
        return self._advance() or self._tell(begun)

    def rollback(self) -> Outcome:
        """Act with the meta-policy again, and forget what was adapted."""
        steps = self._now.inner_steps
        self._go_back_to(self._meta)
        self._accepted = self._fallen_back = False
        self._save()
        return self._tell(f"rolled back from inner step {steps} to the meta-policy")

    # ---- who acts

    @property
    def _phase(self) -> str:
        if self._adapter is None:
            return "off"
        if not self._wanted and (self._fallen_back or self._now.inner_steps):
            return "fallen_back" if self._fallen_back else "adapted"
        return "exploring" if self._explores() else "evaluating"

    def _explores(self) -> bool:
        """Whether the next episode draws its actions."""
        if self._wanted:
            return len(self._now.returns) >= self._config.evaluate_episodes
        if self._live is not None and self._live.is_open:
            return False
        return not self._deterministic

    # ---- steps

    def _advance(self) -> Outcome | None:
        """Take the wanted inner steps once the episodes for them are there.

        The exploring episodes are then left behind, whatever came of them: on the same ones a refused step would only
        be refused again.
        """
        is_due = self._wanted and self._explores() and len(self._now.explored) >= self._needed
        if self._adapter is None or not is_due:
            return None
        theta, episodes = self._now.origin.theta, tuple(self._now.explored)
        begin = partial(begin_steps, self._route, self.bundle, self._adapter, theta, episodes, self._config.imagined)
        tried = attempt(begin, self._adapter, theta, episodes, self._wanted, max_kl=self._config.max_kl)
        self._now.explored.clear()
        self._attempt, self._wanted, self._accepted = tried, 0, tried.taken > 0
        if not tried.taken:
            return self._tell(f"refused: {tried.refusal}; {self._who_acts()}", granted=False)
        self._before = self._now
        self._now = self._candidate(tried, self._before.inner_steps + tried.taken)
        self._live = self._shown = self._compare(self._before.returns)
        self._fallen_back = False
        self._save()
        rest = f"; the next was refused: {tried.refusal}" if tried.refusal else ""
        return self._tell(f"accepted: {_count(tried.taken)} on {len(tried.episodes)} episodes{rest}")

    # ---- comparison

    def _is_worse_with(self, episode_return: float) -> bool:
        """Count an evaluating episode of the present parameters; whether they are now to be taken back."""
        self._now.returns.append(episode_return)
        if self._live is None or self._live.is_over:
            return False
        worse = self._live.add(episode_return)
        if not worse:
            self._save()
        return worse

    def _fall_back(self) -> Outcome:
        before, after = self._mean_returns()
        self._go_back_to(self._before)
        self._accepted, self._fallen_back = False, True
        self._save()
        fell = f"the mean return fell significantly, from {before:.4g} to {after:.4g}"
        return self._tell(f"taken back: {fell}; {self._who_acts()}")

    def _go_back_to(self, candidate: _Candidate) -> None:
        self._now, self._before = candidate, self._meta
        self._live, self._wanted = None, 0

    def _compare(self, before: Iterable[float], after: Iterable[float] = ()) -> Comparison:
        config = self._config
        return Comparison(tuple(before), tuple(after), block=config.evaluate_episodes, level=config.significance)

    def _candidate(self, origin: Attempt, inner_steps: int, returns: Iterable[float] = ()) -> _Candidate:
        return _Candidate(self.bundle, origin, inner_steps, returns, self._config.evaluate_episodes * LOOKS[-1])

    # ---- on disk

    def _restore(self) -> str:
        """Go on from the saved file where it fits; returns what there is to say of it."""
        if self._path is None or not self._path.exists():
            return ""
        try:
            saved = load_adapted(self._path, self.bundle)
        except (ValueError, OSError) as error:
            return f"the meta-policy acts, saved parameters are refused: {error}"
        facts = saved.provenance
        if facts.inner_steps_before:
            self._before = self._candidate(Attempt(saved.theta_before, 0, ()), facts.inner_steps_before)
        self._before.returns.extend(facts.returns_before)
        origin = Attempt(saved.theta, 0, facts.episodes, "", facts.kl, facts.surrogate, facts.gradient_norm)
        self._now = self._candidate(origin, facts.inner_steps, facts.returns_after)
        self._attempt, self._accepted = origin, True
        if facts.returns_before:
            self._live = self._shown = self._compare(facts.returns_before, facts.returns_after)
        return f"inner step {facts.inner_steps} acts, saved at {facts.saved_at}"

    def _save(self) -> None:
        """Make the file say what acts; that it could not be written is told with every outcome until it can."""
        if self._path is None:
            return
        self._unsaved = ""
        try:
            if self._now is self._meta:
                remove_adapted(self._path)
            else:
                save_adapted(self._path, self._adapted())
        except OSError as error:
            self._unsaved = f"; {self._path.name} could not be written: {error.strerror}"

    def _adapted(self) -> Adapted:
        self._files = self._files or hashes_of(self.bundle)
        metadata, live, origin = self.bundle.metadata, self._live, self._now.origin
        provenance = Provenance(
            bundle_files=self._files,
            policy_version=metadata.policy_version,
            arm=metadata.arm,
            task=metadata.task,
            inner_steps=self._now.inner_steps,
            inner_steps_before=self._before.inner_steps,
            episodes=origin.episodes,
            kl=origin.kl,
            surrogate=origin.surrogate,
            gradient_norm=origin.gradient_norm,
            returns_before=live.before if live else (),
            returns_after=live.after if live else tuple(self._now.returns),
            saved_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        return Adapted(theta=self._now.origin.theta, theta_before=self._before.origin.theta, provenance=provenance)

    # ---- what there is to tell

    def _tell(self, reason: str = "", *, granted: bool = True) -> Outcome:
        """Settle who acts next, and say how things stand; without a new reason the last one still holds."""
        self._reason = reason or self._reason
        self.turn = Turn(bundle=self._now.bundle, inner_steps=self._now.inner_steps, exploring=self._explores())
        before, after = self._mean_returns()
        self.outcome = Outcome(
            phase=self._phase,
            policy_version=self.bundle.version,
            inner_steps=self._now.inner_steps,
            exploration_episodes=self._explorations,
            evaluation_episodes=self._evaluations,
            episodes_used=len(self._attempt.episodes),
            kl=self._attempt.kl,
            surrogate=self._attempt.surrogate,
            gradient_norm=self._attempt.gradient_norm,
            return_before=before,
            return_after=after,
            accepted=self._accepted,
            reason=self._reason + self._unsaved,
            granted=granted,
        )
        return self.outcome

    def _mean_returns(self) -> tuple[float, float]:
        """Before and after the last step; NaN where there was no evaluating episode."""
        before = self._shown.before if self._shown else self._now.returns
        after = self._shown.after if self._shown else ()
        return float(np.mean(before)) if before else np.nan, float(np.mean(after)) if after else np.nan

    def _who_acts(self) -> str:
        steps = self._now.inner_steps
        return f"inner step {steps} acts" if steps else "the meta-policy acts"


def _count(steps: int) -> str:
    return f"{steps} inner step" + ("s" if steps > 1 else "")
