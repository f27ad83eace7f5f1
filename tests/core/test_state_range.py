"""Imagined states stay near the real ones, whatever the models say."""

import pytest
import torch
from fakes.point_task import PointTask, point_replay

from mbrl_core.algorithms.dataset import dataset
from mbrl_core.algorithms.validation import Trial, score
from mbrl_core.algorithms.world import Imagined, World
from mbrl_core.models.ensemble import Ensemble
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.models.normaliser import Normaliser
from mbrl_core.models.roll_out import Rules, roll_out
from mbrl_core.models.state_range import StateRange
from mbrl_core.policies.gaussian_mlp import GaussianMlp

NORM = Normaliser(torch.zeros(4), torch.ones(4))
BOX = StateRange(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 3.0]))


class Unstable(Ensemble):
    """Every step takes the position ten times as far from 0."""

    def __init__(self):
        super().__init__(4, 2, seed=0)

    def predict(self, inputs):
        mean = (9 * inputs[..., :2]).expand(self.asked, -1, -1)
        return mean, torch.full_like(mean, -80.0)


def resting(obs):
    return torch.zeros(len(obs), 2), torch.full((2,), -20.0)


def imagined(rules, horizon):
    starts = torch.tensor([[0.5, 0.5]]).repeat(5, 1)
    return roll_out(PointTask(), Unstable(), resting, NORM, starts, torch.zeros(5, 2), horizon, None, rules)


def test_a_range_holds_every_state_and_can_be_widened():
    box = StateRange.of(torch.tensor([[0.0, 5.0], [-1.0, 5.0], [3.0, 5.0]]))
    assert (box.low.tolist(), box.high.tolist()) == ([-1.0, 5.0], [3.0, 5.0])
    wide = box.widened(0.5)
    assert (wide.low.tolist(), wide.high.tolist()) == ([-3.0, 5.0], [5.0, 5.0]), "what never varied stays what it is"


def test_the_nearest_state_is_the_state_itself_within_the_range():
    states = torch.tensor([[0.3, 2.9], [-2.0, 1.0], [0.0, 9.0]])
    assert BOX.nearest(states).tolist() == [states[0].tolist(), [-1.0, 1.0], [0.0, 3.0]]
    assert torch.isnan(BOX.nearest(torch.full((1, 2), torch.nan))).all()


def test_a_rollout_stops_at_the_edge_of_the_range():
    result = imagined(Rules(within=BOX), horizon=60)
    assert result.last_states.tolist() == [[1.0, 3.0]] * 5
    assert result.obs[1, :, :2].tolist() == [[1.0, 3.0]] * 5
    assert result.alive.all(), "it is not cut"


def test_without_a_range_an_unstable_model_overflows():
    assert imagined(Rules(), horizon=3).last_states[0].tolist() == pytest.approx([500.0, 500.0])
    with pytest.raises(FloatingPointError, match="imagination: expected finite"):
        imagined(Rules(), horizon=60)


def test_the_range_is_that_of_the_training_episodes_with_their_last_states():
    replay = point_replay()
    data = dataset(replay, PointTask(), "cpu")
    train = replay.transitions(holdout=False)
    states = torch.as_tensor(train.states, dtype=torch.float32), torch.as_tensor(train.next_states, dtype=torch.float32)
    assert torch.equal(data.state_range.low, torch.minimum(states[0].amin(0), states[1].amin(0)))
    assert torch.equal(data.state_range.high, torch.maximum(states[0].amax(0), states[1].amax(0)))


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_training_stays_within_the_margin_and_so_does_validation(margin):
    data = dataset(point_replay(), PointTask(), "cpu")
    generator = torch.Generator().manual_seed(0)
    world = World(PointTask(), Unstable(), NORM, data, lambda count: torch.zeros(count, 2), generator, Imagined())
    wide = data.state_range.widened(margin)
    result = world.imagine(resting, ImaginationConfig(rollouts=50, horizon=60, margin=margin))
    states = result.last_states
    assert ((states >= wide.low) & (states <= wide.high)).all()
    assert (states == wide.low).any() and (states == wide.high).any(), "models that diverge do get to the edge"

    policy, starts = GaussianMlp(4, 2), data.states[:10]
    trial = Trial(starts, torch.zeros_like(starts), wide, horizon=60)
    tried = score(PointTask(), Unstable(), policy, policy.initial(generator), NORM, trial)
    farthest = torch.maximum(wide.low.abs(), wide.high.abs()).norm()
    assert (tried.returns >= -60 * farthest).all()
    assert (tried.returns < -60 * 0.5 * farthest).all(), "and here, too, they get there"
