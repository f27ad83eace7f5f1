import math

import pytest
import torch

from mbrl_core.algorithms.ppo import PpoConfig, PpoUpdate, Samples, clipped_loss, kl_estimate
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.policies.gaussian_mlp import GaussianMlp, PolicyConfig


def test_clip_by_hand():
    ratio = torch.tensor([0.5, 1.0, 1.5, 0.5, 1.5])
    advantages = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0])
    # min(r A, clip(r) A) with eps 0.2: 0.5, 1, 1.2, -0.8, -1.5
    assert clipped_loss(ratio, advantages, 0.2) == pytest.approx(-(0.5 + 1.0 + 1.2 - 0.8 - 1.5) / 5)


def test_no_gradient_beyond_the_clip_where_it_would_help_further():
    ratio = torch.tensor([1.5, 0.5], requires_grad=True)
    clipped_loss(ratio, torch.tensor([1.0, -1.0]), 0.2).backward()
    assert ratio.grad.tolist() == [0.0, 0.0]


def test_kl_estimate_agrees_with_the_closed_form():
    torch.manual_seed(0)
    actions = torch.randn(400_000, dtype=torch.float64)  # old N(0, 1), new N(0.1, 1): KL = 0.005
    log_ratio = -0.5 * (actions - 0.1) ** 2 + 0.5 * actions**2
    assert kl_estimate(log_ratio).item() == pytest.approx(0.005, rel=0.02)


def test_loss_gradient_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    policy = GaussianMlp(3, 2, PolicyConfig(hidden=(4,)))
    theta = policy.flatten(policy.initial(generator)).double()
    obs, actions = torch.randn(7, 3, generator=generator).double(), torch.randn(7, 2, generator=generator).double()
    advantages = torch.randn(7, generator=generator).double()
    old = policy.log_prob(policy.unflatten(theta), obs, actions)

    def loss(flat: torch.Tensor) -> torch.Tensor:
        log_ratio = policy.log_prob(policy.unflatten(flat), obs, actions) - old
        return clipped_loss(torch.exp(log_ratio), advantages, 0.2)

    shifted = (theta + 0.01).requires_grad_()
    assert torch.autograd.gradcheck(loss, (shifted,))


def updater(seed: int = 0, **settings) -> PpoUpdate:
    generator = torch.Generator().manual_seed(seed)
    return PpoUpdate(GaussianMlp(2, 1), ValueMlp((2, 8, 1)), PpoConfig(**settings), generator)


def samples(update: PpoUpdate, policy: GaussianMlp, count: int = 500) -> Samples:
    """Reward the action for being large."""
    generator = torch.Generator().manual_seed(1)
    obs, actions = torch.randn(count, 2, generator=generator), 0.5 * torch.randn(count, 1, generator=generator)
    with torch.no_grad():
        log_prob = policy.log_prob(update.policy_parameters, obs, actions)
    return Samples(obs, actions, log_prob, actions[:, 0] / actions.std(), torch.full((count,), 3.0))


def test_update_moves_the_policy_towards_better_actions_and_the_value_towards_the_returns():
    update, policy = updater(max_kl=10.0, epochs=5, minibatch=100, learning_rate=1e-2), GaussianMlp(2, 1)
    data = samples(update, policy)
    before, _ = policy.distribution(update.policy_parameters, data.obs)
    update.step(data)
    after, _ = policy.distribution(update.policy_parameters, data.obs)
    assert (after - before).mean() > 0.05
    value = ValueMlp((2, 8, 1)).value(update.value_parameters, data.obs)
    assert value.mean() > 0.3


def narrow() -> tuple[PpoUpdate, GaussianMlp]:
    """A policy on its smallest spread, and its update."""
    policy = GaussianMlp(2, 1, PolicyConfig(initial_std=0.1, min_std=0.1))
    settings = PpoConfig(max_kl=10.0, minibatch=100, learning_rate=1e-2)
    return PpoUpdate(policy, ValueMlp((2, 8, 1)), settings, torch.Generator().manual_seed(0)), policy


def rewarding(update: PpoUpdate, policy: GaussianMlp, sign: float) -> Samples:
    """Actions far from the mean are good (1) or bad (-1)."""
    generator = torch.Generator().manual_seed(1)
    obs, noise = torch.randn(500, 2, generator=generator), torch.randn(500, 1, generator=generator)
    with torch.no_grad():
        actions = policy.distribution(update.policy_parameters, obs)[0] + 0.1 * noise
        log_prob = policy.log_prob(update.policy_parameters, obs, actions)
    return Samples(obs, actions, log_prob, sign * (noise[:, 0] ** 2 - 1), torch.zeros(500))


def test_a_policy_on_its_smallest_spread_widens_when_that_pays():
    update, policy = narrow()
    update.step(rewarding(update, policy, -1.0))  # less spread would pay: it stays where it is
    assert update.policy_parameters["log_std"].item() == pytest.approx(math.log(0.1))
    for _ in range(3):
        update.step(rewarding(update, policy, 1.0))
    assert update.policy_parameters["log_std"].item() > math.log(0.1) + 0.01


def test_every_member_of_the_value_moves_towards_the_returns():
    value, policy = ValueMlp((2, 8, 1), members=3), GaussianMlp(2, 1)
    settings = PpoConfig(max_kl=10.0, epochs=5, minibatch=100, learning_rate=1e-2)
    update = PpoUpdate(policy, value, settings, torch.Generator().manual_seed(0))
    data = samples(update, policy)
    update.step(data)
    each = value.normalised(update.value_parameters, data.obs.expand(3, *data.obs.shape))
    assert (each.mean(1) > 0.3).all()
    assert each.std(0).mean() > 0.01


def test_update_stops_when_the_policy_has_moved_too_far():
    update, policy = updater(max_kl=1e-3, minibatch=100, learning_rate=1e-3, epochs=50), GaussianMlp(2, 1)
    data = samples(update, policy)
    update.step(data)
    with torch.no_grad():
        log_ratio = policy.log_prob(update.policy_parameters, data.obs, data.actions) - data.log_prob
    assert kl_estimate(log_ratio) < 3e-3


def test_a_gradient_that_is_not_finite_is_refused_where_it_arises():
    update, policy = updater(), GaussianMlp(2, 1)
    data = samples(update, policy)
    data.advantages[3] = math.nan
    with pytest.raises(FloatingPointError, match="policy gradient"):
        update.step(data)
    assert all(torch.isfinite(tensor).all() for tensor in update.policy_parameters.values())


def test_rescaling_keeps_the_value():
    generator = torch.Generator().manual_seed(0)
    value, obs = ValueMlp((3, 8, 1)), torch.randn(20, 3, generator=generator)
    parameters = value.initial(generator)
    rescaled = value.rescaled(parameters, 100 + 30 * torch.randn(50, generator=generator))
    assert rescaled["scale"] > 20
    assert torch.allclose(value.value(parameters, obs), value.value(rescaled, obs), atol=1e-4)
