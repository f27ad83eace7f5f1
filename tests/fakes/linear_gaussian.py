"""A control problem whose expected return is known in closed form: linear dynamics, Gaussian noise, quadratic reward.

x' = F x + G u + noise, u = K x + b + sigma noise, reward = -(x^T Q x + rho (u - offset)^2), all in float64.
With z = [x, 1] and the closed loop z' = Phi z + noise, the value is V_t = z^T M_t z + c_t (Riccati's recursion for a
given policy). A GaussianMlp without hidden layers is the policy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mbrl_core.algorithms.inner_step import StepBatch
from mbrl_core.policies.gaussian_mlp import GaussianMlp, Parameters, PolicyConfig

POLICY = GaussianMlp(2, 1, PolicyConfig(hidden=(), min_std=1e-3))


def tensor(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def linear_policy() -> Parameters:
    """K, b and log sigma, away from the optimum."""
    return {"weight0": tensor([-0.3], [-0.2]), "bias0": tensor(0.1), "log_std": tensor(-0.7)}


@dataclass(frozen=True)
class LinearGaussian:
    """The problem; `gain` scales what an action does, so that it makes tasks to adapt to."""

    horizon: int = 5
    gain: float = 1.0
    offset: float = 0.5  # the cheapest action
    noise: float = 0.1
    cost: float = 1.0

    transition = tensor([0.5, 0.2], [0.0, 0.4])
    push = tensor(0.1, 0.3)
    penalty = tensor([1.0, 0.0], [0.0, 0.1])
    first_mean = tensor(1.0, 0.0)
    first_std = 0.3

    def expected_return(self, parameters: Parameters) -> Tensor:
        """Exact and differentiable: ()."""
        value, constant = self._values(parameters)[0]
        mean = torch.cat([self.first_mean, tensor(1.0)])
        return mean @ value @ mean + self.first_std**2 * value[:2, :2].trace() + constant

    def sample(self, parameters: Parameters, rollouts: int, generator: torch.Generator) -> StepBatch:
        """Roll out; advantages are rewards to go less the exact value: (H, rollouts)."""
        mean_of, noise = POLICY.distribution, lambda *shape: torch.randn(*shape, generator=generator).double()
        parameters = {name: part.detach() for name, part in parameters.items()}
        x, columns = self.first_mean + self.first_std * noise(rollouts, 2), []
        for value, constant in self._values(parameters)[:-1]:
            mean, log_std = mean_of(parameters, x)
            u = mean + torch.exp(log_std) * noise(rollouts, 1)
            reward = -((x @ self.penalty) * x).sum(-1) - self.cost * ((u - self.offset) ** 2).sum(-1)
            z = torch.cat([x, torch.ones(rollouts, 1).double()], -1)
            columns.append((x, u, POLICY.log_prob(parameters, x, u), reward, ((z @ value) * z).sum(-1) + constant))
            x = x @ self.transition.T + self.gain * u * self.push + self.noise * noise(rollouts, 2)
        obs, actions, log_prob, rewards, values = (torch.stack(column) for column in zip(*columns, strict=True))
        to_go = rewards.flip(0).cumsum(0).flip(0)
        return StepBatch(obs, actions, log_prob, to_go - values, torch.ones_like(values))

    def _values(self, parameters: Parameters) -> list[tuple[Tensor, Tensor]]:
        """M_t and c_t for t = 0, ..., H."""
        feedback = torch.cat([parameters["weight0"][:, 0], parameters["bias0"]])
        variance = torch.exp(2 * parameters["log_std"][0])
        push = self.gain * torch.cat([self.push, tensor(0.0)])
        drift = torch.block_diag(self.transition, torch.eye(1).double()) + torch.outer(push, feedback)
        miss = feedback - torch.cat([torch.zeros(2).double(), tensor(self.offset)])
        step_cost = torch.block_diag(self.penalty, torch.zeros(1, 1).double()) + self.cost * torch.outer(miss, miss)
        spread = variance * torch.outer(push, push)
        spread = spread + self.noise**2 * torch.diag(tensor(1.0, 1.0, 0.0))
        values = [(torch.zeros(3, 3).double(), torch.zeros(()).double())]
        for _ in range(self.horizon):
            value, constant = values[0]
            constant = constant - self.cost * variance + (value * spread).sum()
            values.insert(0, (drift.T @ value @ drift - step_cost, constant))
        return values
