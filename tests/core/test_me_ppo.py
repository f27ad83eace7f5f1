import dataclasses

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_episode
from fakes.point_task import point_replay as replay

from mbrl_core.actor import Actor
from mbrl_core.algorithms.dataset import dataset
from mbrl_core.algorithms.learner import Learner
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.validation import Score, ValidationConfig, improved_share
from mbrl_core.bundle import check_fits
from mbrl_core.checkpoint import read_checkpoint, write_checkpoint
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.replay import Replay

SMALL = MePpoConfig(
    iterations=15,
    ensemble=EnsembleConfig(hidden=(16, 16), max_steps=100),
    imagination=ImaginationConfig(rollouts=100, horizon=10),
    ppo=PpoConfig(minibatch=250, learning_rate=3e-3),
)


def learner(seed: int = 0, **changes) -> Learner:
    return me_ppo(PointTask(), dataclasses.replace(SMALL, **changes), seed=seed)


def theta(learning: Learner) -> torch.Tensor:
    return learning.method.policy.flatten(learning.method.trained.policy).detach().clone()


def test_it_learns_to_reach_fresh_goals():
    learning, buffer, rng = learner(), replay(), np.random.default_rng(1)
    reports = [learning.round(buffer) for _ in range(4)]
    assert reports[-1].imagined_return > reports[0].imagined_return
    assert reports[-1].policy_version == learning.version > 0
    bundle = learning.bundle()
    check_fits(bundle, PointTask().profile, PointTask())
    actor = Actor(bundle)
    goals = PointTask().sample_goal(rng, 20)
    assert np.mean([point_episode(rng, actor.act, goal=goal).success for goal in goals]) >= 0.9


def test_report_says_what_happened():
    learning, phases = learner(), []
    report = learning.round(replay(), on_phase=phases.append)
    assert phases == ["fitting"] + ["validating", "improving"] * 3 + ["validating"]
    assert report.real_steps == 80
    assert report.episodes == 4
    assert 0 < report.fit_steps <= 100
    assert report.imagined_steps == 15 * 100 * 10
    assert len(report.holdout_loss) == 5
    assert report.disagreement > 0
    assert report.updates_accepted + report.updates_rejected == 3
    assert report.busy_s > 0
    assert not report.problem


def test_same_seed_same_curve():
    one, other, different = learner(3), learner(3), learner(4)
    for _ in range(2):
        first, second = one.round(replay()), other.round(replay())
        assert first.imagined_return == second.imagined_return
        assert first.holdout_loss == second.holdout_loss
    different.round(replay())
    different.round(replay())
    assert torch.equal(theta(one), theta(other))
    assert not torch.equal(theta(one), theta(different))


def test_a_restored_learner_goes_on_exactly(tmp_path):
    straight, stopped = learner(3), learner(3)
    straight.round(replay())
    stopped.round(replay())
    write_checkpoint(tmp_path / "one", stopped.checkpoint())
    resumed = learner(99)
    resumed.restore(read_checkpoint(tmp_path / "one"))
    assert resumed.bundle().to_bytes() == straight.bundle().to_bytes()
    for _ in range(2):
        first, second = straight.round(replay(6)), resumed.round(replay(6))
        assert first.imagined_return == second.imagined_return
        assert first.holdout_loss == second.holdout_loss
        assert (first.updates_accepted, first.updates_rejected) == (second.updates_accepted, second.updates_rejected)
    assert torch.equal(theta(straight), theta(resumed))
    assert straight.ensemble.fingerprint() == resumed.ensemble.fingerprint()


def test_a_policy_is_improved_in_another_learners_ensemble_which_stays_as_it_is():
    one, other = learner(3), learner(4)
    one.round(replay())
    fresh = theta(other)
    other.adopt_ensemble(one.checkpoint())
    assert torch.equal(theta(other), fresh)
    known, phases = one.ensemble.fingerprint(), []
    report = other.round(replay(), fit=False, on_phase=phases.append)
    assert other.ensemble.fingerprint() == known
    assert "fitting" not in phases
    assert (report.fit_steps, report.holdout_loss, report.imagined_steps) == (0, (), 15 * 100 * 10)


def test_an_ensemble_of_other_settings_is_not_adopted():
    other = learner(ensemble=EnsembleConfig(hidden=(8, 8), max_steps=100))
    with pytest.raises(ValueError, match=r"ensemble.weight0: expected \(5, 4, 8\), got \(5, 4, 16\)"):
        other.adopt_ensemble(learner().checkpoint())


def test_a_checkpoint_of_other_settings_is_refused():
    other = learner(ensemble=EnsembleConfig(hidden=(8, 8), max_steps=100))
    with pytest.raises(ValueError, match=r"ensemble.weight0: expected \(5, 4, 8\), got \(5, 4, 16\)"):
        other.restore(learner().checkpoint())


def test_seventy_percent_rule():
    old = Score(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.full((5,), 10.0), torch.zeros(5))
    new = Score(torch.tensor([2.0, 3.0, 4.0, 5.0, 4.0]), torch.full((5,), 10.0), torch.zeros(5))
    assert improved_share(old, new) == pytest.approx(0.8)
    assert improved_share(new, old) == pytest.approx(0.2)
    assert improved_share(old, old) == 0.0
    assert improved_share(old, old, tolerance=0.01) == 1.0, "as good is good enough"
    assert improved_share(old, new, tolerance=0.09) == pytest.approx(0.8), "the last loses 1, which is more than 0.9"
    assert improved_share(old, new, tolerance=0.11) == 1.0


@pytest.mark.parametrize(("better", "members"), [(7, 10), (14, 20), (21, 30)])
def test_seventy_percent_are_seventy_percent_of_any_number_of_members(better, members):
    old = Score(torch.zeros(members), torch.zeros(members), torch.zeros(members))
    enough, one_less = (torch.arange(members) < count for count in (better, better - 1))
    assert improved_share(old, dataclasses.replace(old, returns=enough.to(torch.float32))) >= 0.7
    assert improved_share(old, dataclasses.replace(old, returns=one_less.to(torch.float32))) < 0.7


def test_nothing_that_is_held_out_is_learned_from_or_imagined_from():
    buffer = Replay(holdout_block=10)
    rng = np.random.default_rng(0)
    for index in range(8):
        buffer.add(point_episode(rng, index=index))
    held = buffer.transitions(holdout=True)
    data = dataset(buffer, PointTask(), "cpu")
    assert len(held.states) > 0
    assert len(data.states) + len(held.states) == 8 * 20

    def rows(tensor):
        return {tuple(row) for row in tensor.numpy().round(6).tolist()}

    task = PointTask()
    inputs = torch.as_tensor(task.model_input(held.states, held.actions), dtype=torch.float32)
    assert rows(data.held_inputs) == rows(inputs)
    assert not rows(data.inputs) & rows(inputs)
    starts = {row for row in rows(torch.as_tensor(held.states, dtype=torch.float32)) if any(row)}
    assert not rows(data.states) & starts, "but for the origin, where every episode begins"


def test_a_policy_that_fails_validation_is_replaced_by_the_last_good_one():
    learning, buffer = learner(), replay()
    while learning.version == 0:
        learning.round(buffer)
    version, before = learning.version, learning.method.policy.flatten(learning._good.trained.policy)
    learning.method.iterate = lambda world: int(learning.method.trained.policy["bias2"].data.fill_(3.0).sum() * 0)
    report = learning.round(buffer)
    assert not report.accepted
    assert report.updates_rejected >= 3
    assert report.validation_ratio == 0.0
    assert learning.version == version
    assert torch.equal(theta(learning), before)


def test_a_round_ends_after_too_many_failed_validations():
    learning = learner(iterations=100, validation=ValidationConfig(every=2, patience=3))
    calls = []
    learning.method.iterate = lambda world: calls.append(1) or 0  # changes nothing: nothing can improve
    learning.round(replay())
    assert len(calls) == 6


@pytest.mark.parametrize("part", ["policy", "ensemble"])
def test_nan_keeps_the_last_good_policy_and_is_reported(part):
    learning, buffer = learner(), replay()
    while learning.version == 0:
        learning.round(buffer)
    before, iterate = learning.bundle(), learning.method.iterate

    def spoil(world):
        if part == "policy":
            learning.method.trained.policy["bias0"].data.fill_(np.nan)
        else:
            learning.ensemble.weights[0] = learning.ensemble.weights[0] * np.nan
        return iterate(world)

    learning.method.iterate = spoil
    report = learning.round(buffer)
    assert "NaN" in report.problem or "finite" in report.problem
    assert not report.accepted
    assert learning.bundle().to_bytes() == before.to_bytes()
    learning.method.iterate = iterate
    healed = learning.round(buffer)
    assert not healed.problem
    assert np.isfinite(healed.holdout_loss).all()


def test_stop_is_obeyed_within_a_round():
    learning, calls = learner(), []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 30

    report = learning.round(replay(), should_stop=stop)
    assert report.stopped
    assert report.fit_steps < 100
    assert report.imagined_steps == 0


def test_no_bundle_before_a_policy_is_accepted():
    with pytest.raises(ValueError, match="policy_version: expected at least 1"):
        learner().bundle()


def test_too_little_data_is_refused():
    with pytest.raises(ValueError, match="replay.episodes: expected at least 2, got 1"):
        learner().round(replay(1))


def test_rollouts_that_members_cannot_share_are_refused():
    with pytest.raises(ValueError, match="rollouts: expected a multiple of 5 members, got 101"):
        learner(imagination=ImaginationConfig(rollouts=101))


def test_a_setting_out_of_bounds_is_refused_by_name():
    with pytest.raises(ValueError, match="PpoConfig.discount: expected at most 1.0, got 1.5"):
        learner(ppo=PpoConfig(discount=1.5))
