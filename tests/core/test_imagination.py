from functools import partial

import pytest
import torch
from fakes.point_task import STEP, PointTask

from mbrl_core.models.ensemble import Ensemble, EnsembleConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import roll_out
from mbrl_core.policies.gaussian_mlp import GaussianMlp


class KnownEnsemble(Ensemble):
    """Member m says that the position changes by (m + 1) * STEP * action, without noise."""

    def __init__(self) -> None:
        super().__init__(4, 2, seed=0)

    def predict(self, inputs):
        gain = torch.arange(1.0, 6.0)[:, None, None] * STEP
        return gain * inputs[..., 2:], torch.full((*inputs.shape[:2], 2), -40.0)


def imagined(task, ensemble, policy, parameters, *rest):
    with torch.no_grad():
        return roll_out(task, ensemble, partial(policy.distribution, parameters), *rest)


def rollouts(batch: int = 10, horizon: int = 3, generator=None, ensemble=None):
    policy = GaussianMlp(4, 2)
    parameters = policy.initial(torch.Generator().manual_seed(0))
    parameters["bias2"] = torch.tensor([0.5, -2.0])  # asks for 0.5 and for more than the limits let through
    parameters["weight2"] = torch.zeros_like(parameters["weight2"])
    norm = Normaliser(torch.zeros(4), torch.ones(4))
    starts, goals = torch.zeros(batch, 2), torch.tensor([[0.3, -0.2]]).repeat(batch, 1)
    ensemble = ensemble or KnownEnsemble()
    return imagined(PointTask(), ensemble, policy, parameters, norm, starts, goals, horizon, generator)


def test_every_member_is_imagined_with_equally_often():
    result = rollouts(batch=20, horizon=7)
    assert result.member.shape == (7, 20)
    assert result.member.flatten().bincount().tolist() == [4 * 7] * 5
    moved = result.obs[1:, :, 0] - result.obs[:-1, :, 0]
    who = torch.round(moved / (0.5 * STEP)).long() - 1  # as the moves tell, whatever is said
    assert torch.equal(who, result.member)
    assert result.steps == 140


def test_only_the_elites_are_imagined_with():
    class Elites(Ensemble):
        """Of five members the second and the fifth, which move by 2 and 5 STEP times the action."""

        def __init__(self):
            super().__init__(4, 2, EnsembleConfig(elites=2), seed=0)
            self.elite = torch.tensor([1, 4])

        def predict(self, inputs):
            assert inputs.shape == (2, 5, 4)
            gain = (self.elite + 1.0)[:, None, None] * STEP
            return gain * inputs[..., 2:], torch.full((2, 5, 2), -40.0)

    result = rollouts(ensemble=Elites())
    assert result.member[0].bincount().tolist() == [0, 5, 0, 0, 5]
    assert torch.allclose(result.last_states[:, 0] / (3 * STEP * 0.5), (result.member[0] + 1).float(), atol=1e-4)


def test_a_rollout_stays_in_one_member():
    result = rollouts()
    travelled = result.last_states[:, 0] / (3 * STEP * 0.5)
    assert (result.member == result.member[0]).all()
    assert torch.allclose(travelled, (result.member[0] + 1).float(), atol=1e-4)


def test_known_parts_are_computed_through_the_task():
    result, task = rollouts(), PointTask()
    assert torch.allclose(result.actions, torch.tensor([0.5, -2.0]).expand(3, 10, 2))
    first = result.last_states[0]  # member 0 in three steps: action 0.5 and, clipped by the task, -1
    assert torch.allclose(first, torch.tensor([0.15, -0.3]), atol=1e-5)
    assert result.rewards[-1, 0].item() == pytest.approx(
        task.reward(None, None, first, torch.tensor([0.3, -0.2])).item(), abs=1e-5
    )
    assert torch.allclose(result.obs[-1], task.observe(result.last_states, torch.tensor([[0.3, -0.2]]).repeat(10, 1)))


def test_generators_make_imagination_repeatable_and_noisy():
    first = rollouts(generator=torch.Generator().manual_seed(5))
    again = rollouts(generator=torch.Generator().manual_seed(5))
    assert torch.equal(first.obs, again.obs)
    assert first.actions.std() > 0.4


def test_a_rollout_that_terminates_takes_no_further_step():
    class Walled(PointTask):
        """Ends beyond x = 0.12: member m gets there in 3, 2, 1, 1, 1 steps of 0.05 (m + 1)."""

        def terminates(self, state, goal):
            return state[..., 0] > 0.12

    policy = GaussianMlp(4, 2)
    parameters = policy.initial(torch.Generator().manual_seed(0))
    parameters["bias2"] = torch.tensor([0.5, 0.0])
    parameters["weight2"] = torch.zeros_like(parameters["weight2"])
    norm, starts, goals = Normaliser(torch.zeros(4), torch.ones(4)), torch.zeros(5, 2), torch.zeros(5, 2)
    result = imagined(Walled(), KnownEnsemble(), policy, parameters, norm, starts, goals, 4, None)
    assert result.alive.sum(0).tolist() == [3, 2, 1, 1, 1]
    assert result.steps == 8
    assert [row.nonzero().flatten().tolist() for row in result.terminated.T] == [[2], [1], [0], [0], [0]]
    assert (result.rewards[~result.alive] == 0).all()
    assert torch.allclose(result.last_states[:, 0], torch.tensor([0.15, 0.2, 0.15, 0.2, 0.25]), atol=1e-5)


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(ValueError, match="starts: expected a multiple of 5 rows, got 11"):
        rollouts(batch=11)


def test_a_number_that_is_not_finite_stops_imagination():
    class Broken(KnownEnsemble):
        def predict(self, inputs):
            mean, log_var = super().predict(inputs)
            return mean * float("nan"), log_var

    with pytest.raises(FloatingPointError, match="imagination"):
        rollouts(ensemble=Broken())
