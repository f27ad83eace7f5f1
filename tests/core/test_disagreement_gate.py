"""The disagreement gate never asks for more, lets all through where the ensemble agrees, and holds when in doubt."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbrl_core.disagreement_gate import share_allowed

anything = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
positive = st.floats(min_value=0.0, allow_infinity=False)
actions = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=6).map(np.array)
bounds = st.tuples(positive, positive).map(sorted).filter(lambda pair: pair[1] > 0.0)


@given(actions, anything, anything, anything)
def test_no_joint_is_ever_asked_for_more_or_the_other_way(asked, disagreement, slow_above, hold_above):
    gated = share_allowed(disagreement, slow_above, hold_above) * asked
    assert (np.abs(gated) <= np.abs(asked)).all()
    assert (gated * asked >= 0.0).all()


@given(actions, bounds, st.floats(min_value=0.0, max_value=1.0))
def test_up_to_the_lower_bound_an_action_is_what_it_was(asked, pair, part):
    slow_above, hold_above = pair
    disagreement = part * slow_above
    if disagreement < hold_above:
        assert (share_allowed(disagreement, slow_above, hold_above) * asked == asked).all()


@given(actions, bounds, positive)
def test_from_the_upper_bound_on_nothing_is_asked(asked, pair, more):
    slow_above, hold_above = pair
    disagreement = max(hold_above, more)
    assert not (share_allowed(disagreement, slow_above, hold_above) * asked).any()


@given(bounds, positive, positive)
def test_more_disagreement_never_allows_more(pair, one, other):
    low, high = sorted((one, other))
    assert share_allowed(high, *pair) <= share_allowed(low, *pair)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
@given(disagreement=positive, pair=bounds)
def test_a_number_that_is_not_finite_holds_wherever_it_stands(bad, place, disagreement, pair):
    numbers = [disagreement, *pair]
    numbers[place] = bad
    assert share_allowed(*numbers) == 0.0


@given(positive, positive)
def test_without_a_bound_to_hold_at_there_is_no_gate(disagreement, slow_above):
    assert share_allowed(disagreement, slow_above, 0.0) == 1.0


@pytest.mark.parametrize(
    ("disagreement", "slow_above", "hold_above"),
    [(0.0, 2.0, 1.0), (0.0, -1.0, 1.0), (0.0, 0.0, -1.0), (0.0, -2.0, -1.0), (-0.1, 1.0, 2.0)],
)
def test_bounds_that_make_no_sense_hold(disagreement, slow_above, hold_above):
    assert share_allowed(disagreement, slow_above, hold_above) == 0.0


@pytest.mark.parametrize(
    ("disagreement", "share"), [(0.0, 1.0), (1.0, 1.0), (1.5, 0.75), (2.0, 0.5), (2.5, 0.25), (3.0, 0.0), (9.0, 0.0)]
)
def test_between_the_bounds_it_falls_in_a_straight_line(disagreement, share):
    assert share_allowed(disagreement, 1.0, 3.0) == pytest.approx(share)


def test_equal_bounds_are_a_switch():
    assert share_allowed(0.99, 1.0, 1.0) == 1.0
    assert share_allowed(1.0, 1.0, 1.0) == 0.0
