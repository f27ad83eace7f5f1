"""On a GPU every method learns, adapts, resumes exactly and gives a bundle that runs without one."""

import dataclasses

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_episode, point_replay
from fakes.small_methods import BRIEF, METHODS, everything, success

from mbrl_core.actor import Actor
from mbrl_core.checkpoint import read_checkpoint, write_checkpoint

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)


@pytest.fixture(params=METHODS)
def make(request):
    method, config = METHODS[request.param]
    return lambda seed=0, device="cuda", **changes: method(
        PointTask(), dataclasses.replace(config, **changes), seed=seed, device=device
    )


def test_it_learns_to_reach_fresh_goals_within_eight_rounds(make):
    learner, buffer, rounds = make(), point_replay(), 0
    while success(learner) < 0.9:
        rounds += 1
        assert rounds <= 8, success(learner)
        assert not learner.round(buffer).problem
    assert all(tensor.is_cuda for tensor in everything(learner).values())


def test_a_resumed_learner_goes_on_as_the_one_that_was_not_stopped(make, tmp_path):
    first, buffer = make(**BRIEF), point_replay()
    first.round(buffer)
    assert first.version > 0
    write_checkpoint(tmp_path / "checkpoint", first.checkpoint())
    second = make(seed=9, **BRIEF)
    second.restore(read_checkpoint(tmp_path / "checkpoint"))
    assert second.bundle().to_bytes() == first.bundle().to_bytes()
    for _ in range(2):
        assert all(torch.equal(tensor, everything(second)[name]) for name, tensor in everything(first).items())
        first.round(buffer)
        second.round(buffer)


@pytest.mark.parametrize("there", ["cpu", "cuda"])
def test_an_ensemble_crosses_to_another_device(make, there):
    here = "cuda" if there == "cpu" else "cpu"
    first, second = make(device=there, **BRIEF), make(seed=9, device=here, **BRIEF)
    first.round(point_replay())
    second.adopt_ensemble(first.checkpoint())
    assert second.ensemble.fingerprint() == first.ensemble.fingerprint()
    assert not second.round(point_replay(), fit=False).problem


def test_mb_mpo_adapts_to_real_episodes():
    method, config = METHODS["mb-mpo"]
    learner = method(PointTask(), dataclasses.replace(config, **BRIEF), seed=0, device="cuda")
    learner.round(point_replay())
    actor, rng = Actor(learner.bundle()), np.random.default_rng(0)
    episodes = [point_episode(rng, lambda obs: actor.draw(obs, rng), index=index) for index in range(3)]
    played = [
        dataclasses.replace(episode, policy_versions=np.full(episode.steps, learner.version, dtype=np.uint32))
        for episode in episodes
    ]
    assert learner.adapt(played).kl > 0
