import dataclasses

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_episode

from mbrl_core.algorithms.advantage import gae, standardised_advantages
from mbrl_core.algorithms.value import ValueMlp
from mbrl_core.critic import critic
from mbrl_core.mlp import mlp
from mbrl_core.real_batch import observations, real_batch
from mbrl_core.types import StepFlag


def short_episode(rewards, *, terminated=False, flags=None):
    """The point stays at (0.3, 0); the goal is (0.5, 0.5)."""
    steps = len(rewards)
    return dataclasses.replace(
        point_episode(np.random.default_rng(0)),
        states=np.tile([0.3, 0.0], (steps + 1, 1)),
        goal=np.array([0.5, 0.5]),
        actions_asked=np.full((steps, 2), 3.0),
        actions_sent=np.ones((steps, 2)),
        rewards=np.array(rewards),
        stamps_s=np.arange(steps + 1) * 0.05,
        flags=np.zeros(steps, dtype=np.uint8) if flags is None else np.array(flags, dtype=np.uint8),
        policy_versions=np.ones(steps, dtype=np.uint32),
        terminated=terminated,
        truncated=not terminated,
    )


def batch_of(*episodes, value=lambda obs: np.zeros(len(obs))):
    log_probs = [-np.arange(float(episode.steps)) for episode in episodes]
    return real_batch(PointTask(), episodes, log_probs, value, discount=0.5, trace=1.0)


def test_steps_lie_one_after_the_other_as_they_were_seen_and_drawn():
    batch = batch_of(short_episode([1.0, 2.0]), short_episode([4.0]))
    assert [part.shape for part in batch] == [(3, 4), (3, 2), (3,), (3,), (3,)]
    assert {part.dtype for part in batch} == {np.dtype(np.float32)}
    assert batch.obs[0] == pytest.approx([0.3, 0.0, 0.2, 0.5])
    assert (batch.actions == 3.0).all()
    assert batch.log_prob.tolist() == [0.0, -1.0, 0.0]
    assert observations(PointTask(), short_episode([1.0, 2.0])).shape == (3, 4)


def test_a_step_with_a_gap_weighs_nothing_and_the_rest_has_mean_0_and_spread_1():
    """Value 0, discount 1/2: advantages (1 + 2/2, 2) and (4), of which the gap's is left out."""
    batch = batch_of(short_episode([1.0, 2.0], flags=[0, StepFlag.GAP | StepFlag.CLAMPED]), short_episode([4.0]))
    assert batch.weights.tolist() == [1.0, 0.0, 1.0]
    assert batch.advantages.tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize(("terminated", "bootstrap"), [(True, 0.0), (False, 5.0)])
def test_a_value_follows_where_time_ran_out_and_none_where_the_episode_ended(terminated, bootstrap):
    """Value 10, discount 1/2: delta = r + 5 - 10; the last step's is r + bootstrap - 10, of (1, 4)."""
    first = 1.0 - 5.0 + (4.0 + bootstrap - 10.0) / 2
    last = 4.0 + bootstrap - 10.0
    batch = batch_of(short_episode([1.0, 4.0], terminated=terminated), value=lambda obs: np.full(len(obs), 10.0))
    assert batch.advantages.tolist() == ([-1.0, 1.0] if first < last else [1.0, -1.0])


def test_what_does_not_fit_the_task_or_does_not_count_is_refused():
    with pytest.raises(ValueError, match="episodes: expected at least one step without a gap, got '0 episodes'"):
        batch_of()
    with pytest.raises(ValueError, match="episodes: expected at least one step without a gap, got '1 episodes'"):
        batch_of(short_episode([1.0], flags=[StepFlag.GAP]))
    with pytest.raises(ValueError, match=r"episode.states: expected width 2, got \(2, 3\)"):
        batch_of(dataclasses.replace(short_episode([1.0]), states=np.zeros((2, 3))))
    with pytest.raises(ValueError, match=r"episode.actions_asked: expected width 2, got \(1, 1\)"):
        batch_of(dataclasses.replace(short_episode([1.0]), actions_asked=np.zeros((1, 1))))


@pytest.mark.parametrize("members", [1, 3])
def test_the_critic_computes_what_the_value_function_does(members):
    generator = torch.Generator().manual_seed(0)
    value, obs = ValueMlp((4, 8, 6, 1), members=members), torch.randn(5, 4, generator=generator)
    parameters = value.initial(generator) | {"mean": torch.tensor(3.0), "scale": torch.tensor(7.0)}
    arrays = {name: tensor.numpy() for name, tensor in parameters.items()}
    assert np.allclose(critic(arrays, obs.numpy()), value.value(parameters, obs), rtol=1e-6)


def test_numpy_and_torch_share_their_code():
    rng = np.random.default_rng(0)
    rewards, values, ends = rng.standard_normal((6, 3)), rng.standard_normal((7, 3)), rng.random((6, 3)) < 0.3
    arrays = gae(rewards, values, 0.9, 0.8, ends, ~ends)
    tensors = gae(
        *(torch.as_tensor(part) for part in (rewards, values)), 0.9, 0.8, *map(torch.as_tensor, (ends, ~ends))
    )
    assert np.allclose(arrays, np.array(tensors), atol=1e-12)
    weights = ends.astype(float)
    one = standardised_advantages(rewards, weights, (-2, -1))
    assert np.allclose(one, standardised_advantages(*map(torch.as_tensor, (rewards, weights)), (-2, -1)), atol=1e-12)
    network = {
        "weight0": rng.standard_normal((3, 2)),
        "bias0": np.ones(2),
        "weight1": np.ones((2, 1)),
        "bias1": np.ones(1),
    }
    same = mlp({name: torch.as_tensor(array) for name, array in network.items()}, torch.as_tensor(rewards), 2)
    assert np.allclose(mlp(network, rewards, 2), same, atol=1e-12)
