"""The mailbox: only the answer to the open observation, whole and finite, once."""

import dataclasses

import numpy as np
import pytest

from mbrl_core.action_mailbox import ActionMailbox, Sender
from mbrl_core.types import Action


def answer(seq=1, episode=0, values=(0.1, 0.2)):
    return Action(seq=seq, episode=episode, action=np.array(values, dtype=float))


@pytest.fixture
def mailbox():
    box = ActionMailbox(2)
    box.expect(1, 0, restart=True)
    return box


def test_the_answer_to_the_open_observation_is_taken_once(mailbox):
    assert mailbox.offer(answer())
    assert np.array_equal(mailbox.take().action, [0.1, 0.2])
    assert mailbox.take() is None
    assert not mailbox.offer(answer())


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (answer(seq=0), "stale"),
        (answer(seq=2), "stale"),
        (answer(episode=1), "stale"),
        (answer(values=(0.1,)), "wrong length"),
        (answer(values=(0.1, np.nan)), "not finite"),
        (answer(values=(np.inf, 0.0)), "not finite"),
        (answer(values=(0.0, -100.1)), "out of range"),
        (answer(values=(1e300, 0.0)), "out of range"),
    ],
)
def test_everything_else_is_dropped_whole_and_counted(mailbox, action, reason):
    assert not mailbox.offer(action)
    assert mailbox.take() is None
    assert mailbox.refused == {reason: 1}


@pytest.mark.parametrize("values", [(1.0, -1.0), (3.7, -0.2), (-100.0, 100.0)])
def test_an_action_is_taken_as_it_was_drawn(mailbox, values):
    assert mailbox.offer(answer(values=values))
    assert np.array_equal(mailbox.take().action, values)
    assert not mailbox.refused


def test_a_disagreement_that_is_not_finite_is_no_reason_to_refuse(mailbox):
    """The arm must hold then, which is the gate's work; a refused action would trip the watchdog and latch."""
    assert mailbox.offer(dataclasses.replace(answer(), disagreement=np.nan, hold_above=1.0))


def test_a_second_answer_does_not_replace_the_first(mailbox):
    mailbox.offer(answer())
    assert not mailbox.offer(answer(values=(0.9, 0.9)))
    assert mailbox.take().action[0] == 0.1


def test_refused_actions_do_not_feed_the_watchdog(mailbox):
    before = mailbox.silent_s()
    mailbox.offer(answer(seq=7))
    assert mailbox.silent_s() >= before


ONE, OTHER = Sender(b"1", "/policy"), Sender(b"2", "/other")


def test_who_answers_first_acts_in_the_episode_and_a_second_sender_is_refused_and_named(mailbox):
    """Fault 12."""
    assert mailbox.offer(answer(), sender=ONE)
    assert mailbox.fight() == ""
    mailbox.take()
    mailbox.expect(2, 0, restart=False)
    assert not mailbox.offer(answer(seq=2), sender=OTHER)
    assert mailbox.refused == {"second publisher": 1}
    assert mailbox.fight() == "actions: expected one publisher, /policy, got a second one, /other"
    assert mailbox.offer(answer(seq=2), sender=ONE)


def test_a_new_episode_may_have_another_sender(mailbox):
    mailbox.offer(answer(), sender=ONE)
    mailbox.offer(answer(), sender=OTHER)
    mailbox.expect(2, 1, restart=True)
    assert mailbox.fight() == ""
    assert mailbox.offer(answer(seq=2, episode=1), sender=OTHER)
    assert mailbox.fight() == ""


@pytest.mark.parametrize(
    ("age_s", "reason"),
    [(0.16, "stale stamp"), (3600.0, "stale stamp"), (np.nan, "stale stamp"), (-0.11, "future stamp")],
)
def test_stamps_far_from_now_are_refused_although_the_number_fits(age_s, reason):
    """Faults 10 and 11."""
    mailbox = ActionMailbox(2, oldest_s=0.15, ahead_s=0.1)
    mailbox.expect(1, 0, restart=True)
    assert not mailbox.offer(answer(), age_s=age_s)
    assert mailbox.refused == {reason: 1}
    for good in (0.14, -0.09):
        mailbox.expect(1, 0, restart=True)
        assert mailbox.offer(answer(), age_s=good)
