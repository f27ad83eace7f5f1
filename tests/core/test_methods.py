"""Every method, through the same loop: it learns the toy task, keeps NaN out, and resumes exactly, on a GPU too."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from fakes.gpu import NEEDS_GPU
from fakes.point_task import PointTask, point_episode
from fakes.point_task import point_replay as replay

from mbrl_core.actor import Actor
from mbrl_core.algorithms.bptt import BpttConfig, bptt
from mbrl_core.algorithms.inner_step import FORMS, InnerStepConfig
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, OuterStepConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.me_trpo import MeTrpoConfig, me_trpo
from mbrl_core.algorithms.ppo import PpoConfig
from mbrl_core.algorithms.trpo import TrpoConfig
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.algorithms.value_fit import ValueConfig
from mbrl_core.algorithms.vanilla import vanilla
from mbrl_core.checkpoint import read_checkpoint, write_checkpoint
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.policies.gaussian_mlp import PolicyConfig

SMALL = {
    "iterations": 15,
    "ensemble": EnsembleConfig(hidden=(16, 16), max_steps=100),
    "imagination": ImaginationConfig(rollouts=100, horizon=10),
}
# A policy soon, good or not: for what does not depend on how well it has learned.
BRIEF = {"iterations": 3, "validation": ValidationConfig(ratio=0.0)}
PPO = PpoConfig(minibatch=250, learning_rate=3e-3)
VALUE = ValueConfig(minibatch=250, learning_rate=3e-3)
METHODS = {
    "me-ppo": (me_ppo, MePpoConfig(**SMALL, ppo=PPO)),
    "vanilla": (vanilla, MePpoConfig(**SMALL, ppo=PPO)),
    "me-trpo": (me_trpo, MeTrpoConfig(**SMALL, value=VALUE, trpo=TrpoConfig(max_kl=0.05))),
    "bptt": (bptt, BpttConfig(**SMALL, value=VALUE, learning_rate=1e-2)),
    "mb-mpo": (mb_mpo, MbMpoConfig(**SMALL, value=VALUE, outer=OuterStepConfig(learning_rate=3e-3))),
    "mb-mpo, trpo": (
        mb_mpo,
        MbMpoConfig(**SMALL, value=VALUE, outer=OuterStepConfig(method="trpo", trpo=TrpoConfig(max_kl=0.05))),
    ),
}


@pytest.fixture(params=METHODS)
def make(request):
    method, config = METHODS[request.param]
    return lambda seed=0, device="cpu", **changes: method(
        PointTask(), dataclasses.replace(config, **changes), seed=seed, device=device
    )


def theta(learner):
    return learner.method.policy.flatten(learner.method.trained.policy).detach().clone()


def success(learner):
    if learner.version == 0:
        return 0.0
    actor, rng = Actor(learner.bundle()), np.random.default_rng(1)
    goals = PointTask().sample_goal(rng, 20)
    return np.mean([point_episode(rng, actor.act, goal=goal).success for goal in goals])


def everything(learner):
    parts = (part.items() for part in learner._good.trained)
    return {(index, name): tensor for index, part in enumerate(parts) for name, tensor in part}


def test_it_learns_to_reach_fresh_goals_within_eight_rounds(make, device):
    learner, buffer, rounds = make(device=device), replay(), 0
    while success(learner) < 0.9:
        rounds += 1
        assert rounds <= 8, success(learner)
        assert not learner.round(buffer).problem
    assert all(tensor.device.type == device for tensor in everything(learner).values())


def test_same_seed_same_policy_and_another_seed_another(make):
    learners = [make(seed, **BRIEF) for seed in (3, 3, 4)]
    for learner in learners:
        learner.round(replay())
    assert torch.equal(theta(learners[0]), theta(learners[1]))
    assert not torch.equal(theta(learners[0]), theta(learners[2]))


def asked(learner):
    """Mean of mean actions over observations of all kinds."""
    policy = learner.method.policy
    obs = torch.randn(100, policy.sizes[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return policy.distribution(learner.method.trained.policy, obs)[0].mean().item()


@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_means_that_have_left_the_interval_come_back_because_they_cost_something(make, cost):
    learner, worlds = make(**BRIEF, policy=PolicyConfig(outside_cost=cost)), []
    iterate = learner.method.iterate
    learner.method.iterate = lambda world: worlds.append(world) or iterate(world)
    learner.round(replay())
    gone = learner.method.trained.copied()
    gone.policy["bias2"] += 6.0  # 15 times the spread: whatever is drawn is cut to 1
    learner.method.replace(gone)
    before = asked(learner)
    for _ in range(10):
        iterate(worlds[-1])
    assert (asked(learner) < before - 0.1) == (cost > 0)


def test_a_resumed_learner_goes_on_as_the_one_that_was_not_stopped(make, device, tmp_path):
    first, buffer = make(device=device, **BRIEF), replay()
    first.round(buffer)
    assert first.version > 0
    write_checkpoint(tmp_path / "checkpoint", first.checkpoint())
    second = make(seed=9, device=device, **BRIEF)
    second.restore(read_checkpoint(tmp_path / "checkpoint"))
    assert second.bundle().to_bytes() == first.bundle().to_bytes()
    for member in range(first.adapted_policies):
        assert second.bundle(member).to_bytes() == first.bundle(member).to_bytes()
    for _ in range(2):
        assert all(torch.equal(tensor, everything(second)[name]) for name, tensor in everything(first).items())
        first.round(buffer)
        second.round(buffer)


def test_the_ensemble_of_a_run_on_another_device_is_adopted_and_all_the_rest_of_it_refused(make):
    first, second = make(**BRIEF), make(seed=9, **BRIEF)
    first.round(replay())
    saved = first.checkpoint()
    other = {name: np.zeros(16, dtype=np.uint8) for name in saved.arrays if name.endswith("generator")}
    saved = dataclasses.replace(saved, arrays=saved.arrays | other)  # a GPU's generator has 16 bytes
    second.adopt_ensemble(saved)
    assert second.ensemble.fingerprint() == first.ensemble.fingerprint()
    with pytest.raises(ValueError, match="device: expected the kind that the run was begun on"):
        second.restore(saved)


@NEEDS_GPU
@pytest.mark.parametrize(("there", "here"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_an_ensemble_crosses_to_another_device(make, there, here):
    first, second = make(device=there, **BRIEF), make(seed=9, device=here, **BRIEF)
    first.round(replay())
    second.adopt_ensemble(first.checkpoint())
    assert second.ensemble.fingerprint() == first.ensemble.fingerprint()
    assert not second.round(replay(), fit=False).problem


def test_a_checkpoint_of_another_method_is_refused():
    (ppo, ppo_config), (meta, meta_config) = METHODS["me-ppo"], METHODS["mb-mpo"]
    saved = meta(PointTask(), meta_config, seed=0).checkpoint()
    with pytest.raises(ValueError, match=r"checkpoint\.adapted\.bias0: expected nothing, got 'an array'"):
        ppo(PointTask(), ppo_config, seed=0).restore(saved)


def test_a_model_of_nan_leaves_the_last_good_policy(make):
    learner, buffer = make(**BRIEF), replay()
    learner.round(buffer)
    before, iterate = learner.bundle().to_bytes(), learner.method.iterate

    def spoil(world):
        learner.ensemble.weights[0] = learner.ensemble.weights[0] * np.nan
        return iterate(world)

    learner.method.iterate = spoil
    report = learner.round(buffer)
    assert report.problem
    assert learner.bundle().to_bytes() == before


def test_mb_mpo_adapts_and_learns_its_step_sizes():
    learner, inner_kl = mb_mpo(PointTask(), METHODS["mb-mpo"][1], seed=0), []
    terms = learner.method._terms
    learner.method._terms = lambda *given: inner_kl.append(terms(*given)) or inner_kl[-1]
    learner.round(replay())
    assert inner_kl[0].inner_kl.item() == 0.0
    assert inner_kl[1].inner_kl.item() > 0.0, "the penalty sees the meta-policy move"
    assert learner.adapted_policies == 5
    meta = theta(learner)
    adapted = learner.method.trained.adapted
    for member in range(5):
        own = learner.method.policy.flatten({name: part[member] for name, part in adapted.items()})
        assert not torch.equal(own, meta)
    sizes = torch.cat([size.reshape(-1) for size in learner.method.trained.step_sizes.values()]).detach()
    assert sizes.std() > 0
    assert (sizes >= 0).all()


@pytest.mark.parametrize(("name", "adapted"), [("me-ppo", 0), ("mb-mpo", 2)])
def test_it_learns_with_the_elites_alone_and_resumes_exactly(name, adapted):
    method, config = METHODS[name]
    elites = dataclasses.replace(config.ensemble, members=4, elites=2)
    config = dataclasses.replace(config, ensemble=elites, iterations=5)
    first, second = (method(PointTask(), config, seed=seed) for seed in (0, 9))
    report = first.round(replay())
    assert not report.problem
    assert len(report.holdout_loss) == 4
    assert first.adapted_policies == adapted
    second.restore(first.checkpoint())
    assert torch.equal(second.ensemble.elite, first.ensemble.elite)
    for learner in (first, second):
        learner.round(replay(5))
    one, other = first.checkpoint(), second.checkpoint()
    assert one.facts == other.facts
    assert set(one.arrays) == set(other.arrays)
    assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def test_vanilla_has_one_model_and_accepts_every_update():
    learner = vanilla(PointTask(), METHODS["vanilla"][1], seed=0)
    report = learner.round(replay())
    assert len(report.holdout_loss) == 1
    assert report.updates_rejected == 0


@pytest.mark.parametrize("form", FORMS)
def test_mb_mpo_learns_by_every_form_of_the_inner_loss(form):
    config = dataclasses.replace(METHODS["mb-mpo"][1], inner=InnerStepConfig(form=form), iterations=5)
    learner = mb_mpo(PointTask(), config, seed=0)
    assert learner.method._config.inner.form == form
    report = learner.round(replay())
    assert not report.problem
    assert report.inner_kl > 0


def test_the_forms_of_the_inner_loss_lead_to_different_meta_policies():
    found = []
    for form in FORMS:
        config = dataclasses.replace(METHODS["mb-mpo"][1], inner=InnerStepConfig(form=form), **BRIEF)
        learner = mb_mpo(PointTask(), config, seed=0)
        learner.round(replay())
        found.append(theta(learner))
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(found, 2))


@pytest.mark.parametrize("adapt_spread", [False, True])
def test_every_outer_step_of_trpo_keeps_the_bound_on_the_policies_that_are_kept(adapt_spread):
    bound, found, large = 0.01, [], InnerStepConfig(step_size=0.01, adapt_spread=adapt_spread)
    outer = OuterStepConfig(method="trpo", trpo=TrpoConfig(max_kl=bound))
    learner = mb_mpo(PointTask(), MbMpoConfig(**SMALL, value=VALUE, inner=large, outer=outer), seed=0)
    method = learner.method
    improve = method._improve

    def measured(batch):
        before = {name: size.detach().clone() for name, size in method.trained.step_sizes.items()}
        improve(batch)
        now = method.trained
        with torch.no_grad():
            kl = method._terms(now.policy, now.step_sizes, batch).outer_kl
        at_bound = any(bool((size == 0).any()) for name, size in now.step_sizes.items() if name != "log_std")
        moved = any(not torch.equal(size, before[name]) for name, size in now.step_sizes.items())
        found.append((float(kl), at_bound, moved))

    method._improve = measured
    for rounds in range(3):
        assert not learner.round(replay(4 + rounds)).problem
    kls, at_bound, moved = zip(*found, strict=True)
    assert len(kls) == 45
    assert max(kls) <= bound
    assert any(at_bound), "step sizes that would be below 0 are what made the difference"
    assert any(moved)


@pytest.mark.parametrize("outer", ["ppo", "trpo"])
@pytest.mark.parametrize("adapt_spread", [False, True])
def test_the_inner_step_moves_the_spread_only_where_it_may(outer, adapt_spread):
    config = MbMpoConfig(
        iterations=3,
        ensemble=EnsembleConfig(hidden=(16,), max_steps=50),
        imagination=ImaginationConfig(rollouts=25, horizon=5),
        inner=InnerStepConfig(adapt_spread=adapt_spread, step_size=0.1),
        outer=OuterStepConfig(method=outer, minibatches=1),
        validation=ValidationConfig(ratio=0.0),
    )
    learner = mb_mpo(PointTask(), config, seed=0)
    learner.round(replay())
    trained = learner.method.trained
    moved = [not torch.equal(adapted, trained.adapted["log_std"][0]) for adapted in trained.adapted["log_std"][1:]]
    assert all(moved) == adapt_spread
    assert bool(trained.step_sizes["log_std"].any()) == adapt_spread
    assert (trained.step_sizes["weight1"] != 0.1).any()
    assert not torch.equal(trained.adapted["weight1"][0], trained.adapted["weight1"][1])
