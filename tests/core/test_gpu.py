"""On a GPU every method learns, resumes exactly and gives a bundle that runs without one."""

import dataclasses

import pytest
import torch
from fakes.point_task import PointTask, point_replay
from fakes.small_methods import BRIEF, METHODS, everything, success

from mbrl_core.checkpoint import read_checkpoint, write_checkpoint

if not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)


@pytest.fixture(params=METHODS)
def make(request):
    method, config = METHODS[request.param]
    return lambda seed=0, **changes: method(
        PointTask(), dataclasses.replace(config, **changes), seed=seed, device="cuda"
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
