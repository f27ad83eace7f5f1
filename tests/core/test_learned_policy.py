"""A bundle at work, as a learner makes it: policy, inner step and ensemble."""

import dataclasses

import numpy as np
import pytest
from fakes.point_task import PointTask, point_episode

from mbrl_core.actor import Actor, RandomActor, ZeroActor
from mbrl_core.adaptation_config import AdaptationConfig, Turn
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.disagreement import Disagreement
from mbrl_core.learned_policy import LearnedPolicy, UnlearnedPolicy
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.replay import Replay
from mbrl_core.types import Observation

TASK = PointTask()
SEEN = Observation(seq=5, episode=2, state=np.array([0.1, -0.2]), goal=np.array([0.3, 0.4]), first=False)


@pytest.fixture(scope="module")
def bundle():
    config = MbMpoConfig(
        iterations=1,
        ensemble=EnsembleConfig(hidden=(8,), max_steps=20),
        imagination=ImaginationConfig(rollouts=25, horizon=5),
        validation=ValidationConfig(ratio=0.0),
    )
    learner, replay = mb_mpo(TASK, config, seed=0), Replay()
    for index in range(3):
        replay.add(point_episode(np.random.default_rng(index), index=index))
    learner.round(replay)
    return learner.bundle()


def learned(bundle, **arguments):
    return LearnedPolicy(bundle, TASK, AdaptationConfig(), **({"deterministic": True} | arguments))


def test_an_answer_says_what_is_asked_who_acted_and_how(bundle):
    answer = learned(bundle).answer(SEEN, np.random.default_rng(0))
    assert np.array_equal(answer.action, Actor(bundle).draw(TASK.observe(SEEN.state, SEEN.goal)))
    assert (answer.seq, answer.episode, answer.policy_version) == (5, 2, 1)
    assert (answer.inner_steps, answer.exploring) == (0, False)


def test_where_the_turn_is_to_explore_actions_are_drawn(bundle):
    answer = learned(bundle, deterministic=False).answer(SEEN, np.random.default_rng(0))
    expected = Actor(bundle).draw(TASK.observe(SEEN.state, SEEN.goal), np.random.default_rng(0))
    assert np.array_equal(answer.action, expected)
    assert answer.exploring


def test_where_it_is_asked_for_an_answer_tells_the_ensembles_disagreement_and_its_bounds(bundle):
    answer = learned(bundle, gate=True).answer(SEEN, np.random.default_rng(0))
    assert answer.disagreement == Disagreement(bundle, TASK)(SEEN.state, answer.action)
    assert answer.disagreement > 0
    bounds = bundle.metadata.disagreement
    assert (answer.slow_above, answer.hold_above) == (bounds.slow_above, bounds.hold_above)
    metadata = dataclasses.replace(bundle.metadata, disagreement=None)
    alone = learned(dataclasses.replace(bundle, metadata=metadata, ensemble_onnx=b""), gate=True)
    for policy in (alone, learned(bundle)):
        answer = policy.answer(SEEN, np.random.default_rng(0))
        assert (answer.disagreement, answer.slow_above, answer.hold_above) == (0.0, 0.0, 0.0), "no gate"


def test_others_act_from_begin_on_and_not_before(bundle):
    policy, rng = learned(bundle), np.random.default_rng(0)
    other = dataclasses.replace(bundle, theta=bundle.theta + np.float32(0.5))
    before = policy.answer(SEEN, rng).action
    policy.begin(Turn(bundle=other, inner_steps=2, exploring=False))
    answer = policy.answer(SEEN, rng)
    assert np.array_equal(answer.action, Actor(other).draw(TASK.observe(SEEN.state, SEEN.goal)))
    assert not np.array_equal(answer.action, before)
    assert answer.inner_steps == 2


def test_a_bundle_of_another_task_is_refused(bundle):
    metadata = dataclasses.replace(bundle.metadata, task="other")
    with pytest.raises(ValueError, match=r"bundle.task: expected point, got 'other'"):
        learned(dataclasses.replace(bundle, metadata=metadata))


def test_nobody_learned_acts_by_chance_or_not_at_all():
    rng = np.random.default_rng(0)
    drawn = UnlearnedPolicy(RandomActor(2)).answer(SEEN, rng)
    still = UnlearnedPolicy(ZeroActor(2)).answer(SEEN, rng)
    assert (drawn.policy_version, drawn.exploring, drawn.seq, drawn.episode) == (0, True, 5, 2)
    assert drawn.action.any()
    assert (still.exploring, still.action.tolist()) == (False, [0.0, 0.0])
