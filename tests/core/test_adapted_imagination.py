import pytest
import torch
from fakes.known_ensemble import BendingEnsemble
from fakes.point_task import PointTask

from mbrl_core.algorithms.meta_objective import for_tasks
from mbrl_core.models.adapted_imagination import by_member
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import roll_out
from mbrl_core.policies.gaussian_mlp import GaussianMlp

POLICY, MEMBERS, ROWS = GaussianMlp(4, 2), 5, 3
NORM = Normaliser(torch.zeros(4), torch.ones(4))


def meta_policy() -> dict:
    parameters = POLICY.initial(torch.Generator().manual_seed(0))
    return parameters | {"weight2": parameters["weight2"] * 50}


def five_policies() -> dict:
    generator = torch.Generator().manual_seed(1)
    shared = for_tasks(meta_policy(), MEMBERS)
    return {name: part + 0.1 * torch.randn(part.shape, generator=generator) for name, part in shared.items()}


def alone(parameters: dict, member: int) -> dict:
    return {name: part[member] for name, part in parameters.items()}


def rolled(act, generator=None, horizon: int = 4, starts=None):
    starts = torch.linspace(-0.2, 0.2, 2 * MEMBERS * ROWS).reshape(-1, 2) if starts is None else starts
    goals = torch.tensor([[0.3, -0.2]]).repeat(len(starts), 1)
    with torch.no_grad():
        return roll_out(PointTask(), BendingEnsemble(0.01), act, NORM, starts, goals, horizon, generator)


def test_every_row_is_acted_in_by_its_own_members_policy():
    parameters, obs = five_policies(), torch.randn(MEMBERS * ROWS, 4, generator=torch.Generator().manual_seed(2))
    mean, log_std = by_member(POLICY, parameters)(obs)
    assert mean.shape == log_std.shape == (MEMBERS * ROWS, 2)
    for row in range(MEMBERS * ROWS):
        expected = POLICY.distribution(alone(parameters, row // ROWS), obs[row])
        assert torch.allclose(mean[row], expected[0], atol=1e-6)
        assert torch.allclose(log_std[row], expected[1])


def test_equal_policies_imagine_what_one_policy_does():
    parameters = meta_policy()
    shared = rolled(lambda obs: POLICY.distribution(parameters, obs), torch.Generator().manual_seed(3))
    each = rolled(by_member(POLICY, for_tasks(parameters, MEMBERS)), torch.Generator().manual_seed(3))
    assert torch.allclose(shared.obs, each.obs, atol=1e-6)
    assert torch.allclose(shared.log_prob, each.log_prob, atol=1e-5)


def test_changing_one_members_policy_changes_its_rollouts_only():
    parameters = five_policies()
    before = rolled(by_member(POLICY, parameters))
    parameters["bias2"][3] += 0.3
    after = rolled(by_member(POLICY, parameters))
    moved = (after.last_states != before.last_states).any(-1)
    assert torch.equal(moved, before.member[0] == 3)


def test_recorded_densities_are_those_of_the_policies_that_acted():
    parameters = five_policies()
    result = rolled(by_member(POLICY, parameters), torch.Generator().manual_seed(4))
    for member in range(MEMBERS):
        mine = result.member[0] == member
        expected = POLICY.log_prob(alone(parameters, member), result.obs[:-1, mine], result.actions[:, mine])
        assert torch.allclose(result.log_prob[:, mine], expected, atol=1e-5)


def test_parameters_and_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"parameters.weight0: expected \(2, 4, 64\), got \(4, 64\)"):
        by_member(POLICY, meta_policy())
    act = by_member(POLICY, five_policies())
    with pytest.raises(ValueError, match="obs: expected a multiple of 5 rows, got 7"):
        act(torch.zeros(7, 4))
    with pytest.raises(ValueError, match="starts: expected a multiple of 5 rows, got 7"):
        rolled(act, starts=torch.zeros(7, 2))
