"""A probabilistic ensemble of dynamics models, evaluated as one batched network.

Each member predicts N(mean, exp(log_var)) of a target given an input (Chua et al. 2018, arXiv 1805.12114, eq. 1; the
ensemble as in Kurutach et al. 2018, arXiv 1802.10592). Departures, each of which lowered the error on the arm's twin:
- mean = linear least squares + network: a few seconds of data give a good linear model, the network learns the rest;
- early stopping and best weights go by the held-out squared error, not by the likelihood, which rare outliers (a
  contact) rule; the variance is then calibrated on the held-out episodes;
- the log-variance has fixed soft bounds; fits are warm-started.
Members differ by initialisation and by a bootstrap that never changes for a transition once it is in. All of them are
trained; only the elites, those with the least held-out error, are asked (Janner et al. 2019, arXiv 1906.08253).

With `beta` above 0 each output's likelihood counts by its predicted variance to that power (Seitzer et al. 2022, arXiv
2203.09168): by the likelihood alone a member may explain what is hard, a contact, by a large variance, which then takes
the gradient from its mean (docs/learning.md says why it is not the default).
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from mbrl_core.config import refuse, setting
from mbrl_core.models.ensemble_network import ACTIVATIONS, EnsembleNetwork, renormalised
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.perturbation import PerturbationConfig


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Size and training of the ensemble."""

    members: int = setting(5, doc="number of models, E", low=1, high=64)
    elites: int = setting(
        0, doc="members, those of least held-out error, that alone are asked; 0 = all", low=0, high=64
    )
    hidden: tuple[int, ...] = setting((128, 128), doc="widths of the hidden layers", low=1)
    activation: str = setting("silu", doc="of the hidden layers", one_of=tuple(ACTIVATIONS))
    layer_norm: bool = setting(False, doc="LayerNorm before each hidden activation")
    learning_rate: float = setting(1e-3, doc="AdamW's step size", low=1e-6, high=1.0)
    weight_decay: float = setting(0.3, doc="AdamW's decay, times the step size", low=0.0, high=100.0)
    ridge: float = setting(1.0, doc="penalty on the linear part, in transitions; inputs are normalised", low=1e-6)
    initial_gain: float = setting(0.3, doc="size of the network's last layer at the start", low=0.0, high=1.0)
    beta: float = setting(
        0.0, doc="power of its variance by which an output's likelihood counts; 0 = likelihood alone", low=0.0, high=1.0
    )
    batch: int = setting(128, doc="transitions per member and gradient step", low=1)
    max_steps: int = setting(1000, doc="gradient steps of one fit at most", low=1)
    check_every: int = setting(50, doc="gradient steps between looks at the held-out episodes", low=1)
    patience: int = setting(6, doc="looks without an improvement in any member before a fit stops", low=1)
    min_log_var: float = setting(-6.0, doc="soft lower bound of the log-variance, normalised targets", unit="nats")
    max_log_var: float = setting(0.5, doc="soft upper bound of the log-variance, normalised targets", unit="nats")
    perturbation: PerturbationConfig = setting(PerturbationConfig(), doc="errors on purpose, for studies")

    @property
    def asked(self) -> int:
        """Number of members that predict, K: those that are imagined with, validated with and adapted to."""
        return self.elites or self.members


@dataclass(frozen=True)
class Fit:
    """What a fit did."""

    steps: int
    holdout_loss: tuple[float, ...]  # (E,) negative log-likelihood in nats per output dimension, normalised targets
    holdout_error: tuple[float, ...]  # (E,) mean squared error, normalised targets


def spread_of(mean: Tensor) -> Tensor:
    """How much members disagree: standard deviation over them of their means, mean over D: (K, B, D) to (B,)."""
    return mean.std(0, correction=0).mean(-1)


class Ensemble:
    """E models of input (I) to target (D), of which K are asked."""

    def __init__(
        self, input_dim: int, target_dim: int, config: EnsembleConfig | None = None, *, seed: int, device: str = "cpu"
    ) -> None:
        """Draw every member's own initial weights. Raises ValueError for settings that contradict each other."""
        self.config = config or EnsembleConfig()
        if not self.config.hidden:
            raise refuse("ensemble.hidden", "at least one layer", self.config.hidden)
        low, high = self.config.min_log_var, self.config.max_log_var
        if low >= high:
            raise refuse("ensemble.min_log_var", f"below max_log_var {high}", low)
        if self.config.elites > self.config.members:
            raise refuse("ensemble.elites", f"at most the {self.config.members} members", self.config.elites)
        self._seed, self._device = seed, device
        self._generator = torch.Generator(device).manual_seed(seed)
        sizes = (input_dim, *self.config.hidden, 2 * target_dim)
        self._network = EnsembleNetwork(sizes, self.config.activation, self.config.layer_norm)
        self.weights = self._initial()
        self._linear = torch.zeros(self.config.members, input_dim, target_dim, device=device)
        self._log_calibration = torch.zeros(self.config.members, 1, target_dim, device=device)
        self.input_norm = Normaliser(torch.zeros(input_dim, device=device), torch.ones(input_dim, device=device))
        self.target_norm = Normaliser(torch.zeros(target_dim, device=device), torch.ones(target_dim, device=device))
        self._fitted = False
        self.asked = self.config.asked
        self.elite = torch.arange(self.asked, device=device)  # (K,), which members those are, in ascending order

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the target under every member that is asked.

        Args:
          inputs: (B, I), given to all, or (K, B, I), each member its own; raw units.

        Returns:
          Mean and log-variance, (K, B, D) each, raw units.

        Raises:
          ValueError: a dimension differs from the model's.
        """
        width = self._network.sizes[0]
        if inputs.shape[-1] != width or inputs.ndim not in (2, 3):
            raise refuse("inputs", f"(B, {width}) or ({self.asked}, B, {width})", tuple(inputs.shape))
        tensors = self.asked_tensors()
        mean, log_var = self.standardised_by(tensors, self.input_norm(inputs))
        scale = self.target_norm.scale
        return mean * scale + self.target_norm.mean, log_var + 2 * torch.log(scale)

    def disagreement(self, inputs: Tensor) -> Tensor:
        """Standard deviation of the asked members' means over that of the data, mean over D: (B, I) to (B,)."""
        mean, _ = self.standardised_by(self.asked_tensors(), self.input_norm(inputs))
        return spread_of(mean)

    def asked_tensors(self) -> dict[str, Tensor]:
        """What the asked members' predictions depend on."""
        weights = {f"weight{index}": self._of_elite(weight) for index, weight in enumerate(self.weights)}
        norms = {"input": self.input_norm, "target": self.target_norm}
        parts = {f"{name}_{part}": getattr(norm, part) for name, norm in norms.items() for part in ("mean", "scale")}
        fitted = {"linear": self._linear, "log_calibration": self._log_calibration}
        return parts | {name: self._of_elite(tensor) for name, tensor in fitted.items()} | weights

    def standardised_by(self, tensors: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict as a pure function of `asked_tensors`, in standard deviations of the data.

        Args:
          tensors: of the members that are asked.
          x: normalised inputs (B, I), given to all, or (K, B, I), each member its own.

        Returns:
          Mean and calibrated log-variance, (K, B, D) each.
        """
        weights = [tensors[f"weight{index}"] for index in range(len(self.weights))]
        mean, log_var = self._forward(weights, tensors["linear"], x)
        return mean, log_var + tensors["log_calibration"]

    def fit(
        self,
        inputs: Tensor,
        targets: Tensor,
        held_inputs: Tensor,
        held_targets: Tensor,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Fit:
        """Train on from the present weights; each member ends with the best weights that it had.

        Args:
          inputs: (B, I) of training episodes, raw units.
          targets: (B, D).
          held_inputs: (B', I) of held-out episodes.
          held_targets: (B', D).
          should_stop: polled before every gradient step.

        Raises:
          FloatingPointError: a member never had a finite error.
        """
        self._normalise(inputs, targets)
        inputs, targets = self.input_norm(inputs), self.target_norm(targets)
        held = self.input_norm(held_inputs), self.target_norm(held_targets)
        counts = self.bootstrap(len(inputs))
        self._linear = least_squares(inputs, targets, counts, self.config.ridge)
        self._replace_broken()
        best, steps = _Best(self.weights, self._error(self.weights, *held)), 0
        weights = [weight.clone().requires_grad_() for weight in self.weights]
        optimiser = torch.optim.AdamW(
            weights, lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )
        while steps < self.config.max_steps and best.stale < self.config.patience and not should_stop():
            for rows in self._batches(counts):
                if should_stop():
                    break
                optimiser.zero_grad()
                self._loss(weights, inputs[rows], targets[rows]).sum().backward()
                optimiser.step()
                steps += 1
            best.offer(weights, self._error(weights, *held))
        if not torch.isfinite(best.error).all():
            raise FloatingPointError(f"ensemble: expected a finite held-out error, got {best.error.tolist()}")
        self.weights = best.weights
        self.elite = torch.argsort(best.error, stable=True)[: self.asked].sort().values
        return Fit(steps, tuple(self._calibrate(*held).tolist()), tuple(best.error.tolist()))

    def bootstrap(self, count: int) -> Tensor:
        """How often each member sees each transition, Poisson(1); what is drawn for a transition stays: (E, B)."""
        draws = [
            np.random.default_rng((self._seed, member)).poisson(1.0, count) for member in range(self.config.members)
        ]
        return torch.as_tensor(np.array(draws), dtype=torch.float32, device=self._device)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a fit depends on beside the settings, its generator included."""
        weights = {f"weight{index}": weight for index, weight in enumerate(self.weights)}
        norms = {"input": self.input_norm, "target": self.target_norm}
        parts = {f"{name}_{part}": getattr(norm, part) for name, norm in norms.items() for part in ("mean", "scale")}
        rest = {"linear": self._linear, "log_calibration": self._log_calibration}
        chance = {"seed": torch.tensor(self._seed), "generator": self._generator.get_state()}
        chosen = {"elite": self.elite} if self.config.elites else {}
        return weights | parts | rest | chance | chosen | {"fitted": torch.tensor(self._fitted)}

    def replace(self, tensors: dict[str, Tensor]) -> None:
        """Go on from what `tensors` gave.

        Raises:
          ValueError: a tensor has another shape, as under other settings.
        """
        for name, mine in self.tensors().items():
            if name not in tensors or tensors[name].shape != mine.shape:
                got = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise refuse(f"ensemble.{name}", tuple(mine.shape), got)
        self.weights = [tensors[f"weight{index}"] for index in range(len(self.weights))]
        self.input_norm = Normaliser(tensors["input_mean"], tensors["input_scale"])
        self.target_norm = Normaliser(tensors["target_mean"], tensors["target_scale"])
        self._linear, self._log_calibration = tensors["linear"], tensors["log_calibration"]
        self._generator.set_state(tensors["generator"].cpu())
        self._seed, self._fitted = int(tensors["seed"]), bool(tensors["fitted"])
        self.elite = tensors.get("elite", self.elite)

    def fingerprint(self) -> str:
        """16 hex digits that name the present weights."""
        digest = hashlib.sha256()
        for weight in self.weights:
            digest.update(weight.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _initial(self) -> list[Tensor]:
        return self._network.initial(self.config.members, self._generator, self.config.initial_gain)

    def _replace_broken(self) -> None:
        """A member whose weights are not finite starts afresh."""
        whole = torch.stack([torch.isfinite(weight).all(2).all(1) for weight in self.weights]).all(0)
        if not whole.all():
            self.weights = [
                torch.where(whole[:, None, None], old, new)
                for old, new in zip(self.weights, self._initial(), strict=True)
            ]

    def _of_elite(self, tensor: Tensor) -> Tensor:
        """The part of the members that are asked: (E, ...) to (K, ...)."""
        return tensor if self.asked == self.config.members else tensor[self.elite]

    def _forward(self, weights: list[Tensor], linear: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised inputs, shared (B, I) or each member's own, to mean and log-variance, normalised targets."""
        if x.ndim == 2:
            x = x.expand(len(linear), *x.shape)
        mean, log_var = self._network.forward(weights, x).chunk(2, dim=-1)
        low, high = self.config.min_log_var, self.config.max_log_var
        log_var = high - softplus(high - log_var)
        return torch.bmm(x, linear) + mean, low + softplus(log_var - low)

    def _loss(self, weights: list[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over outputs of the negative log-likelihood in nats, weighted, without calibration: (E,)."""
        mean, log_var = self._forward(weights, self._linear, inputs)
        weight = torch.exp(self.config.beta * log_var.detach())
        return (weight * nats(targets - mean, log_var)).mean((1, 2))

    @torch.no_grad()
    def _error(self, weights: list[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error: (E,)."""
        mean, _ = self._forward(weights, self._linear, inputs)
        return ((targets - mean) ** 2).mean((1, 2))

    @torch.no_grad()
    def _calibrate(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Scale each member's variances so that held-out errors have the spread they should; return its loss: (E,)."""
        mean, log_var = self._forward(self.weights, self._linear, inputs)
        square = (targets - mean) ** 2 * torch.exp(-log_var)
        self._log_calibration = torch.log(square.mean(1, keepdim=True).clamp(1e-2, 1e4))
        return nats(targets - mean, log_var + self._log_calibration).mean((1, 2))

    def _batches(self, counts: Tensor) -> Tensor:
        """Each member's own rows for the steps until the next look: (check_every, E, batch)."""
        steps, batch = self.config.check_every, self.config.batch
        rows = torch.multinomial(counts, steps * batch, replacement=True, generator=self._generator)
        return rows.reshape(len(counts), steps, batch).transpose(0, 1)

    def _normalise(self, inputs: Tensor, targets: Tensor) -> None:
        """Take the normalisers from training data; the networks' part of the mean stays, the rest is fitted anew."""
        old_in, old_out = self.input_norm, self.target_norm
        self.input_norm, self.target_norm = Normaliser.of(inputs, 1e-4), Normaliser.of(targets, 1e-6)
        if self._fitted:
            self.weights = renormalised(self.weights, old_in, self.input_norm, old_out, self.target_norm)
        self._fitted = True


def nats(error: Tensor, log_var: Tensor) -> Tensor:
    """Negative log-density of an error under N(0, exp(log_var)), elementwise."""
    return 0.5 * (error * error * torch.exp(-log_var) + log_var + math.log(math.tau))


def least_squares(inputs: Tensor, targets: Tensor, counts: Tensor, ridge: float) -> Tensor:
    """Each member's ridge regression on its own bootstrap.

    Args:
      inputs: (B, I).
      targets: (B, D).
      counts: (E, B), how often a member sees a row.
      ridge: penalty on the squared weights.

    Returns:
      (E, I, D), minimising sum_b counts_b |target_b - input_b W|^2 + ridge |W|^2.
    """
    weighted = counts[:, :, None] * inputs
    gram = weighted.transpose(1, 2) @ inputs
    penalty = ridge * torch.eye(inputs.shape[1], dtype=inputs.dtype, device=inputs.device)
    solution: Tensor = torch.linalg.solve(gram + penalty, weighted.transpose(1, 2) @ targets)
    return solution


class _Best:
    """The best weights that each member has had, by held-out error."""

    def __init__(self, weights: list[Tensor], error: Tensor) -> None:
        self.weights = [weight.detach().clone() for weight in weights]
        self.error = torch.where(torch.isfinite(error), error, torch.inf)
        self.stale = 0

    def offer(self, weights: list[Tensor], error: Tensor) -> None:
        """Keep the weights of those members that improved."""
        better = error < self.error
        self.stale = 0 if better.any() else self.stale + 1
        self.error = torch.where(better, error, self.error)
        for kept, weight in zip(self.weights, weights, strict=True):
            kept[better] = weight.detach()[better]
