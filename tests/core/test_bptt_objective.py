import math

import pytest
import torch
from fakes.known_ensemble import BendingEnsemble
from fakes.point_task import PointTask

from mbrl_core.algorithms.bptt_objective import bptt_objective, clipped_gradient
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import Rollouts, roll_out
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig

POLICY, VALUE, HORIZON = GaussianMlp(4, 2, PolicyConfig(hidden=(6,), outside_cost=1.0)), ValueMlp((4, 5, 1)), 4


def double(parameters: dict) -> dict:
    return {name: part.double() for name, part in parameters.items()}


def policy_parameters() -> dict:
    return double(POLICY.initial(torch.Generator().manual_seed(0)) | {"log_std": torch.full((2,), -1.5)})


def objective(parameters: dict, spread: float = 0.05, discount: float = 0.9, seed: int = 1) -> torch.Tensor:
    """Of the point task, with noise that the seed fixes: a pure function of the parameters."""
    value = double(VALUE.initial(torch.Generator().manual_seed(2)) | {"scale": torch.tensor(3.0)})
    norm = Normaliser(torch.zeros(4).double(), torch.full((4,), 0.5).double())
    starts, goals = torch.linspace(-0.2, 0.2, 20).double().reshape(10, 2), torch.tensor([[0.4, -0.3]]).double()
    rollouts = roll_out(
        PointTask(),
        BendingEnsemble(spread),
        lambda obs: POLICY.distribution(parameters, obs),
        norm,
        starts,
        goals.repeat(10, 1),
        HORIZON,
        torch.Generator().manual_seed(seed),
    )
    return bptt_objective(rollouts, VALUE.value(value, rollouts.obs[-1]), discount)


def test_objective_by_hand():
    rewards = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    never, always = torch.zeros(2, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool)
    none = torch.zeros(0)
    rollouts = Rollouts(none, none, none, rewards, never, never, always, none, none)
    value = bptt_objective(rollouts, torch.tensor([16.0, 32.0]), 0.5)
    assert value.item() == ((1 + 2 + 4) + (2 + 4 + 8)) / 2
    assert bptt_objective(rollouts, torch.tensor([16.0, 32.0]), 0.0).item() == 1.5
    ends = torch.tensor([[False, False], [True, False]])
    rollouts = Rollouts(none, none, none, rewards, ends, never, always, none, none)
    value = bptt_objective(rollouts, torch.tensor([16.0, 32.0]), 0.5)
    assert value.item() == ((1 + 2) + (2 + 4 + 8)) / 2  # no value follows an end


def test_a_cut_rollout_ends_in_the_value_of_where_it_was_cut():
    none, never = torch.zeros(0), torch.zeros(2, 2, dtype=torch.bool)
    cut, alive = torch.tensor([[True, False], [False, False]]), torch.tensor([[True, True], [False, True]])
    rewards = torch.tensor([[1.0, 2.0], [0.0, 8.0]])
    rollouts = Rollouts(none, none, none, rewards, never, cut, alive, none, none)
    value = bptt_objective(rollouts, torch.tensor([16.0, 32.0]), 0.5)
    assert value.item() == ((1 + 8) + (2 + 4 + 8)) / 2


def test_a_mean_that_has_left_the_interval_is_led_back_where_the_return_has_no_gradient():
    parameters = policy_parameters() | {"bias1": torch.tensor([3.0, -3.0]).double()}
    gradient = clipped_gradient(objective, parameters, math.inf)
    assert gradient.slope["bias1"].abs().max() < 1e-3, "nothing comes through the cut"

    def led_back(theta):
        return objective(theta) - POLICY.outside(theta, torch.zeros(10, 4).double()).mean()

    slope = clipped_gradient(led_back, parameters, math.inf).slope["bias1"]
    assert slope[0] < -1.0 and slope[1] > 1.0


def test_gradient_through_the_model_against_finite_differences():
    parameters = policy_parameters()

    def function(*tensors):
        return objective(dict(zip(parameters, tensors, strict=True)))

    assert torch.autograd.gradcheck(function, [part.requires_grad_() for part in parameters.values()])


def test_gradient_reaches_the_spread_through_the_noise():
    gradient = clipped_gradient(objective, policy_parameters(), math.inf)
    assert gradient.slope["log_std"].abs().min() > 0


def test_a_step_along_the_gradient_raises_the_return_under_other_noise():
    parameters = policy_parameters()
    before = objective(parameters, seed=7)
    for _ in range(20):
        slope = clipped_gradient(objective, parameters, 1.0).slope
        parameters = {name: part + 0.1 * slope[name] for name, part in parameters.items()}
    assert objective(parameters, seed=7) > before + 0.1


def test_a_long_gradient_is_scaled_down_and_a_short_one_is_not():
    free = clipped_gradient(objective, policy_parameters(), math.inf)
    bounded = clipped_gradient(objective, policy_parameters(), free.norm / 4)
    assert bounded.norm == free.norm and bounded.value == free.value
    for name, slope in free.slope.items():
        assert torch.allclose(bounded.slope[name], slope / 4)
    loose = clipped_gradient(objective, policy_parameters(), 2 * free.norm)
    assert torch.equal(loose.slope["weight0"], free.slope["weight0"])


def test_a_gradient_that_is_not_finite_is_refused_where_it_arises():
    parameters = policy_parameters()
    with pytest.raises(FloatingPointError, match="gradient through the model"):
        clipped_gradient(lambda theta: theta["bias0"].sum() * math.nan, parameters, 1.0)
    with pytest.raises(FloatingPointError, match="gradient through the model"):
        clipped_gradient(lambda theta: torch.sqrt(0 * theta["bias0"]).sum(), parameters, 1.0)
