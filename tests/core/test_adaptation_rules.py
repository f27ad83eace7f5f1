"""Inner steps one after the other, with an adapter whose steps are written down here."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from fakes.point_task import point_episode

from mbrl_core.adaptation_rules import JUDGED_EVERY, NOTHING_WON, Route, attempt
from mbrl_core.adapter import AdaptedStep, Adapter
from mbrl_core.bundle import AdaptationMetadata
from mbrl_core.imagined_config import ImaginedStepsConfig
from mbrl_core.routes import begin_steps

EPISODES = [dataclasses.replace(point_episode(np.random.default_rng(0)), episode=number) for number in (4, 7)]
THETA = np.zeros(3, dtype=np.float32)


def step(number: int, **changes) -> AdaptedStep:
    facts = {"loss": 1.0 - number, "loss_after": -float(number), "kl": 0.01 * number, "gradient_norm": 2.0}
    return AdaptedStep(**({"theta": THETA + number} | facts | changes))


class Written(Adapter):
    """Takes the steps of a list, and judges them by the rule of every adapter."""

    def __init__(self, *steps):
        self.metadata = AdaptationMetadata(form="lvc", discount=0.9, trace=0.9, max_kl=0.1, value_layers=1)
        self.steps, self.asked = list(steps), []

    def batch(self, episodes, thetas):
        assert all(theta is THETA for theta in thetas)
        return episodes

    def step(self, theta, batch):
        self.asked.append(theta[0])
        nxt = self.steps.pop(0)
        if isinstance(nxt, Exception):
            raise nxt
        return nxt


def tried(adapter, steps, **arguments):
    """What comes of steps on real episodes."""
    begin = partial(begin_steps, "real", None, adapter, THETA, EPISODES, ImaginedStepsConfig())
    return attempt(begin, adapter, THETA, EPISODES, steps, **arguments)


def test_every_step_begins_where_the_last_one_ended():
    adapter = Written(step(1), step(2), step(3))
    done = tried(adapter, 3, max_kl=0.1)
    assert adapter.asked == [0.0, 1.0, 2.0]
    assert (done.theta[0], done.taken, done.episodes, done.refusal) == (3.0, 3, (4, 7), "")
    assert (done.kl, done.surrogate, done.gradient_norm) == (0.03, 3.0, 2.0)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (step(2, kl=0.2), "KL of the step: expected at most 0.1 nats, got 0.2"),
        (step(2, kl=np.nan), "KL of the step: expected at most 0.1 nats, got nan"),
        (step(2, loss_after=-0.9), "loss after the step: expected at most -1, got -0.9"),
        (step(2, loss_after=np.nan), "loss after the step: expected at most -1, got nan"),
        (ValueError("batch: expected rows, got none"), "batch: expected rows, got none"),
    ],
)
def test_the_first_bad_step_ends_it_and_the_good_ones_before_stay(bad, complaint):
    done = tried(Written(step(1), bad, step(3)), 3, max_kl=0.0)
    assert (done.theta[0], done.taken, done.refusal) == (1.0, 1, complaint)


def test_steps_at_their_very_bounds_are_taken():
    for max_kl, taken in ((0.0, 1), (0.1, 1), (0.09, 0)):
        adapter = Written(step(1, kl=0.1, loss_after=0.0))
        assert tried(adapter, 1, max_kl=max_kl).taken == taken


def test_every_step_that_was_tried_is_told_of_also_the_one_that_is_refused():
    told, bad = [], step(2, kl=0.2)
    tried(Written(step(1), bad, step(3)), 3, max_kl=0.1, on_step=told.append)
    assert [one.kl for one in told] == [0.01, 0.2]


def test_where_no_step_can_begin_none_is_taken():
    def begin():
        raise ValueError("bundle.ensemble: expected a policy with an ensemble, got None")

    done = attempt(begin, Written(), THETA, EPISODES, 3, max_kl=0.1)
    assert (done.theta is THETA, done.taken, done.episodes) == (True, 0, (4, 7))
    assert done.refusal == "bundle.ensemble: expected a policy with an ensemble, got None"


def judged(returns, steps, bad=None):
    """What comes of steps after which theta is their number, judged by what is written under a theta's number."""
    asked = []

    def earned(theta):
        asked.append(int(theta[0]))
        return np.array(returns[int(theta[0])])

    def following(theta):
        number = int(theta[0]) + 1
        return step(number, kl=0.2 if number == bad else 0.01)

    route = Route(following, earned)
    return attempt(lambda: route, Written(), THETA, EPISODES, steps, max_kl=0.1), asked


def test_the_best_policy_on_the_way_stays():
    assert JUDGED_EVERY == 10
    done, asked = judged({0: [1, 1], 10: [2, 2], 20: [3, 3], 25: [2.5, 2.5]}, 25)
    assert asked == [0, 10, 20, 25], "before, every tenth step, and the end"
    assert (done.theta[0], done.taken, done.refusal) == (20.0, 20, "")


def test_where_none_is_better_the_policy_before_stays():
    done, _ = judged({0: [1, 1], 10: [1, 1], 20: [0, 1]}, 20)
    assert (done.theta is THETA, done.taken, done.refusal) == (True, 0, NOTHING_WON)


def test_a_better_mean_that_most_members_do_not_share_is_none():
    done, _ = judged({0: [1] * 10, 10: [2] * 6 + [1] * 4, 20: [2] * 7 + [1] * 3}, 20)
    assert done.taken == 20, "six of ten are not enough, seven are"


def test_what_came_before_a_refused_step_is_judged_too():
    done, asked = judged({0: [1, 1], 3: [2, 2]}, 20, bad=4)
    assert asked == [0, 3]
    assert (done.taken, done.refusal) == (3, "KL of the step: expected at most 0.1 nats, got 0.2")
    done, _ = judged({0: [1, 1], 3: [0, 0]}, 20, bad=4)
    assert (done.taken, done.refusal) == (0, "KL of the step: expected at most 0.1 nats, got 0.2")


def test_what_cannot_be_judged_ends_it_and_the_best_so_far_stays():
    def earned(theta):
        if theta[0] == 20:
            raise ValueError("imagination: expected finite rewards and states, got 'NaN or infinity'")
        return theta[:1]

    route = Route(lambda theta: step(int(theta[0]) + 1, kl=0.01), earned)
    done = attempt(lambda: route, Written(), THETA, EPISODES, 30, max_kl=0.1)
    assert (done.theta[0], done.taken) == (10.0, 10)
    assert done.refusal.startswith("imagination: expected finite")
