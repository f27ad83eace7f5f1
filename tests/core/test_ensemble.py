import math

import numpy as np
import pytest
import torch

from mbrl_core.models.ensemble import Ensemble, EnsembleConfig, least_squares, nats
from mbrl_core.models.ensemble_network import EnsembleNetwork

NOISE = 0.01


def linear_data(count: int, seed: int, noise: float = NOISE):
    """Targets = inputs @ W + noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator) * torch.tensor([1.0, 5.0, 0.1]) + 2.0
    weights = torch.tensor([[0.1, 0.0], [0.0, 0.02], [1.0, -1.0]])
    return inputs, inputs @ weights + noise * torch.randn(count, 2, generator=generator)


def fitted(seed: int = 0, count: int = 500, **settings) -> Ensemble:
    ensemble = Ensemble(3, 2, EnsembleConfig(hidden=(32, 32), **settings), seed=seed)
    ensemble.fit(*linear_data(count, 1), *linear_data(200, 2))
    return ensemble


def test_a_linear_system_is_learned_to_noise_level():
    inputs, targets = linear_data(1000, 3)
    mean, log_var = fitted().predict(inputs)
    error = (mean - targets).square().mean((1, 2)).sqrt()
    assert (error < 1.1 * NOISE).all()
    spread = torch.exp(0.5 * log_var).mean((1, 2))
    assert ((spread > 0.8 * NOISE) & (spread < 2 * NOISE)).all()


@pytest.mark.parametrize("settings", [{}, {"layer_norm": True, "activation": "relu"}])
def test_a_curved_system_is_learned_beyond_its_linear_part(settings):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(1500, 1, generator=generator) * 6 - 3
    targets = torch.sin(inputs)
    ensemble = Ensemble(1, 1, EnsembleConfig(hidden=(64, 64), max_steps=2000, patience=20, **settings), seed=0)
    fit = ensemble.fit(inputs[:1200], targets[:1200], inputs[1200:], targets[1200:])
    assert max(fit.holdout_error) < 0.01


def explained_of_a_contact(beta: float) -> float:
    """Share of the variance that members explain while a third thing moves, as it does where two others are near."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(6000, 3, generator=generator) * 2 - 1
    touching = (inputs[:, 0] - inputs[:, 1]).abs() < 0.1
    noise = 0.01 * torch.randn(6000, 1, generator=generator)
    targets = torch.where(touching[:, None], 3.0 * inputs[:, 2:], 0.0) + noise
    ensemble = Ensemble(3, 1, EnsembleConfig(members=2, hidden=(64, 64), beta=beta), seed=0)
    ensemble.fit(inputs[:4000], targets[:4000], inputs[4000:], targets[4000:])
    mean, _ = ensemble.predict(inputs[4000:])
    moved, error = targets[4000:], targets[4000:] - mean.mean(0)
    return float(1.0 - error[touching[4000:]].square().mean() / moved[touching[4000:]].var())


def test_a_contact_is_learned_where_the_likelihood_alone_calls_it_noise():
    assert explained_of_a_contact(0.0) < 0.25
    assert explained_of_a_contact(0.5) > 0.4


def test_least_squares_by_hand_and_each_member_by_its_own_counts():
    inputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.0], [4.0]])
    counts = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    solution = least_squares(inputs, targets, counts, 1e-9)  # first sees y = x; second (1 * 1 + 2 * 4) / (1 + 4)
    assert torch.allclose(solution.flatten(), torch.tensor([1.0, 1.8]))


def test_members_have_their_own_initialisation():
    first = Ensemble(3, 2, seed=0).weights[0]
    for one in range(5):
        for other in range(one):
            assert not torch.allclose(first[one], first[other])


def test_members_have_their_own_bootstrap_which_stays_as_data_grow():
    ensemble = Ensemble(3, 2, seed=0)
    few, many = ensemble.bootstrap(100), ensemble.bootstrap(150)
    assert torch.equal(few, many[:, :100])
    assert len({tuple(row.tolist()) for row in few}) == 5
    assert many.mean().item() == pytest.approx(1.0, abs=0.1)
    assert 0.25 < (many == 0).float().mean() < 0.5  # 1/e of the transitions are not seen


def test_a_member_never_trains_on_a_transition_outside_its_bootstrap():
    ensemble = Ensemble(3, 2, seed=0)
    counts = ensemble.bootstrap(60)
    rows = ensemble._batches(counts)
    assert rows.shape == (50, 5, 128)
    for member in range(5):
        assert (counts[member][rows[:, member]] > 0).all()


def test_the_best_weights_of_every_member_are_restored():
    held = linear_data(200, 2)
    ensemble = fitted()
    before = ensemble._error(ensemble.weights, ensemble.input_norm(held[0]), ensemble.target_norm(held[1]))
    spoiled = Ensemble(3, 2, EnsembleConfig(hidden=(32, 32), learning_rate=1.0, max_steps=300), seed=0)
    spoiled.weights = [weight.clone() for weight in ensemble.weights]
    spoiled.input_norm, spoiled.target_norm, spoiled._fitted = ensemble.input_norm, ensemble.target_norm, True
    fit = spoiled.fit(*linear_data(500, 1), *held)
    assert (torch.tensor(fit.holdout_error) <= before + 1e-6).all()


def test_held_out_loss_is_the_mean_of_nats_per_dimension():
    assert nats(torch.tensor(2.0), torch.tensor(math.log(4.0))).item() == pytest.approx(
        0.5 * (1 + math.log(4.0) + math.log(2 * math.pi))
    )


def test_the_log_variance_stays_within_its_bounds_wherever_it_is_asked():
    low, high = -6.0, 0.5  # soft: the two together let 0.002 nats more through
    ensemble = Ensemble(3, 2, EnsembleConfig(hidden=(32, 32), min_log_var=low, max_log_var=high), seed=0)
    ensemble.weights[-2] = 1000 * ensemble.weights[-2]
    inputs = 10 * torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    _, log_var = ensemble.predict(inputs)
    assert ((log_var >= low) & (log_var <= high + 0.002)).all()
    assert log_var.min() < low + 0.1, "both bounds are met"
    assert log_var.max() > high - 0.1


def test_variances_are_calibrated_to_held_out_errors():
    ensemble = fitted()
    inputs, targets = linear_data(2000, 5)
    mean, before = ensemble.predict(inputs)
    ensemble._calibrate(ensemble.input_norm(inputs), ensemble.target_norm(targets))
    usual = ensemble.predict(inputs)[1]
    standardised = (targets - mean) * torch.exp(-0.5 * usual)
    assert torch.allclose(standardised.square().mean(1), torch.ones(5, 2), atol=1e-3)
    assert not torch.allclose(usual, before)
    far = targets + 2 * (targets - mean[0])
    ensemble._calibrate(ensemble.input_norm(inputs), ensemble.target_norm(far))
    assert torch.allclose(ensemble.predict(inputs)[1][0] - usual[0], torch.tensor(2 * math.log(3.0)), atol=1e-3)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_new_normalisers_leave_the_networks_prediction_as_it_was(layer_norm):
    ensemble = fitted(layer_norm=layer_norm)
    ensemble._linear.zero_()
    inputs, _ = linear_data(50, 4)
    mean, _ = ensemble.predict(inputs)
    offset = ensemble.target_norm.mean
    ensemble._normalise(3 * inputs + 1, 7 * torch.randn(50, 2))
    after, _ = ensemble.predict(inputs)
    assert torch.allclose(mean - offset, after - ensemble.target_norm.mean, atol=1e-3)


def test_layer_norm_and_activation_by_hand():
    network = EnsembleNetwork((1, 2, 1), "relu", layer_norm=True)
    weights = network.initial(1, torch.Generator().manual_seed(0), 1.0)
    assert [tuple(weight.shape) for weight in weights] == [(1, 1, 2), *[(1, 1, 2)] * 3, (1, 2, 1), (1, 1, 1)]
    weights[0], weights[1] = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[1.0, 5.0]]])
    weights[2], weights[3] = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.5, 0.5]]])
    weights[4], weights[5] = torch.tensor([[[10.0], [1.0]]]), torch.tensor([[[0.25]]])
    # input 2: (3, 11), of mean 7 and spread 4, is (-1, 1); times a gain of (2, 3) plus 0.5 it is (-1.5, 3.5)
    assert network.forward(weights, torch.tensor([[[2.0]]])).item() == pytest.approx(0 * 10 + 3.5 * 1 + 0.25, abs=1e-4)
    other = EnsembleNetwork((1, 2, 1), "tanh", layer_norm=True)
    expected = 10 * math.tanh(-1.5) + math.tanh(3.5) + 0.25
    assert other.forward(weights, torch.tensor([[[2.0]]])).item() == pytest.approx(expected, abs=1e-4)


def test_layer_norm_is_every_members_own_and_is_learned():
    ensemble = fitted(layer_norm=True)
    gain = ensemble.weights[2]
    assert gain.shape == (5, 1, 32)
    assert gain.abs().min(-1).values.max() > 0
    assert not torch.allclose(gain[0], gain[1])


def test_the_elites_are_the_members_with_the_least_held_out_error():
    ensemble = Ensemble(3, 2, EnsembleConfig(hidden=(8,), max_steps=50, elites=2), seed=0)
    fit = ensemble.fit(*linear_data(100, 1), *linear_data(200, 2))
    assert len(fit.holdout_error) == 5
    assert ensemble.elite.tolist() == sorted(sorted(range(5), key=lambda member: fit.holdout_error[member])[:2])


def test_elites_predict_what_they_do_among_all():
    ensemble, (inputs, _) = fitted(elites=2), linear_data(6, 6)
    everybody = fitted()
    assert ensemble.fingerprint() == everybody.fingerprint(), "all members are trained"
    for got, expected in zip(ensemble.predict(inputs), everybody.predict(inputs), strict=True):
        assert torch.allclose(got, expected[ensemble.elite], atol=1e-6)
    mean = (everybody.predict(inputs)[0][ensemble.elite] - everybody.target_norm.mean) / everybody.target_norm.scale
    assert torch.allclose(ensemble.disagreement(inputs), mean.std(0, correction=0).mean(-1), atol=1e-6)
    own = torch.stack([inputs, inputs + 1])
    assert torch.allclose(ensemble.predict(own)[0][1], everybody.predict(inputs + 1)[0][ensemble.elite[1]], atol=1e-6)


def test_the_choice_of_elites_is_part_of_what_is_saved():
    ensemble = fitted(elites=2)
    ensemble.elite = torch.tensor([1, 4])
    fresh = Ensemble(3, 2, ensemble.config, seed=9)
    fresh.replace(ensemble.tensors())
    assert fresh.elite.tolist() == [1, 4]
    assert torch.equal(fresh.predict(linear_data(5, 6)[0])[0], ensemble.predict(linear_data(5, 6)[0])[0])


def test_more_elites_than_members_are_refused():
    with pytest.raises(ValueError, match="ensemble.elites: expected at most the 5 members, got 6"):
        Ensemble(3, 2, EnsembleConfig(elites=6), seed=0)


def test_members_disagree_more_far_from_the_data():
    ensemble = fitted()
    inputs, _ = linear_data(200, 5)
    assert ensemble.disagreement(30 * inputs).mean() > 5 * ensemble.disagreement(inputs).mean()


def test_inputs_of_each_members_own_give_what_shared_inputs_give():
    ensemble, (inputs, _) = fitted(), linear_data(6, 6)
    shared, _ = ensemble.predict(inputs)
    own, _ = ensemble.predict(inputs.expand(5, -1, -1))
    assert torch.allclose(shared, own)


def test_same_seed_same_weights():
    assert fitted(seed=3).fingerprint() == fitted(seed=3).fingerprint() != fitted(seed=4).fingerprint()


def test_a_fit_can_be_stopped():
    ensemble, calls = Ensemble(3, 2, seed=0), []

    def stop() -> bool:
        calls.append(1)
        return len(calls) > 10

    assert ensemble.fit(*linear_data(500, 1), *linear_data(200, 2), stop).steps <= 10


def test_nan_in_the_data_is_reported_where_it_arises():
    inputs, targets = linear_data(100, 1)
    targets[3] = np.nan
    with pytest.raises((FloatingPointError, RuntimeError)):
        Ensemble(3, 2, seed=0).fit(inputs, targets, *linear_data(50, 2))


def test_a_wrong_input_width_is_refused():
    with pytest.raises(ValueError, match="inputs: expected"):
        Ensemble(3, 2, seed=0).predict(torch.zeros(4, 5))
