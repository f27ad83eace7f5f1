"""The control loop: nothing moves unless told to, freshly, finitely, within limits; every step is recorded."""

import threading
import time

import numpy as np
import pytest
from fakes.loop_rig import CONTROLLED, HOME, PROFILE, TASK, Rig, ones, zeros

from mbrl_core.control_config import Mode
from mbrl_core.robots.errors import Fault, NotConnected
from mbrl_core.types import StepFlag

pytestmark = pytest.mark.realtime


def test_nothing_is_sent_before_activation_and_nothing_moves_before_start():
    with Rig(ones) as rig:
        rig.wait_for(lambda: rig.loop.counters.cycles > 20)
        assert not rig.arm.sent
        rig.loop.activate()
        assert rig.arm.torque
        rig.wait_for(lambda: len(rig.arm.sent) > 20)
        assert np.allclose(rig.arm.sent, HOME)
        assert not rig.observations


def test_an_episode_records_what_was_sent():
    with Rig(ones, episodes=1) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.episodes)
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING)
    (episode,) = rig.episodes
    assert episode.steps == TASK.steps
    assert (episode.actions_asked == 1).all()
    assert (episode.policy_versions == 3).all()
    targets = episode.states[:, 2 * TASK.joints :]
    np.testing.assert_allclose(np.diff(targets, axis=0), PROFILE.action_scale_rad * episode.actions_sent, atol=1e-12)
    assert rig.observations[0].first
    assert not any(observation.first for observation in rig.observations[1:])
    assert rig.loop.counters.real_steps == TASK.steps


def test_no_command_breaks_a_limit_whatever_the_policy_asks():
    rng = np.random.default_rng(0)
    with Rig(lambda _: rng.uniform(-1, 1, TASK.action_dim), episodes=4) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: len(rig.episodes) == 4)
    sent = np.array(rig.arm.sent)
    velocity = np.diff(sent, axis=0) * PROFILE.bus_hz
    assert (np.abs(velocity) <= PROFILE.vector("velocity_rad_s") + 1e-9).all()
    assert (sent >= PROFILE.vector("lower_rad") - 1e-9).all()
    assert (sent <= PROFILE.vector("upper_rad") + 1e-9).all()
    tips = TASK.chain.tip(sent[:, CONTROLLED])
    assert (np.linalg.norm(np.diff(tips, axis=0), axis=1) * PROFILE.bus_hz <= PROFILE.tcp_speed_m_s + 1e-9).all()
    speeding_up = np.diff(np.abs(velocity), axis=0) * PROFILE.bus_hz
    assert (speeding_up <= PROFILE.vector("acceleration_rad_s2") + 1e-6).all()


def test_a_silent_policy_trips_the_watchdog_latches_and_only_rearm_releases():
    answered = []

    def falls_silent(observation):
        answered.append(observation.seq)
        return np.ones(TASK.action_dim) if len(answered) < 4 else None

    with Rig(falls_silent) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        rig.wait_for(lambda: not np.diff(rig.arm.sent[-5:], axis=0).any())
        held = rig.arm.sent[-1]
        with pytest.raises(ValueError, match="expected a holding arm, got 'latched: watchdog"):
            rig.loop.start()
        time.sleep(0.05)
        assert np.array_equal(rig.arm.sent[-1], held)
        assert "watchdog" in rig.episodes[0].end_reason
        assert not rig.episodes[0].success
        assert rig.episodes[0].flags[-1] & StepFlag.GAP
        rig.loop.rearm()
        assert rig.loop.mode is Mode.HOLDING
    assert rig.loop.counters.watchdog_trips == 1


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "not finite"), (np.inf, "not finite"), (150.0, "out of range")])
def test_actions_that_are_no_actions_are_as_silence(value, reason):
    with Rig(lambda _: np.full(TASK.action_dim, value)) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
    assert rig.loop.mailbox.refused[reason] >= 1
    assert np.allclose(rig.arm.sent, HOME)


def one_episode(policy, **said):
    with Rig(policy, said=said, episodes=1) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.episodes)
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING)
    return rig, rig.episodes[0]


def wiggles(observation):
    """A small move to and fro, which no limit touches: so what is sent is what was let through."""
    return np.full(TASK.action_dim, 0.2 if observation.seq % 2 else -0.2)


def test_a_draw_outside_the_limits_moves_the_arm_as_the_limit_does_and_is_recorded_as_drawn():
    wrist = np.arange(TASK.action_dim) == TASK.action_dim - 1  # rolls: the tip hardly moves
    rig, episode = one_episode(lambda _: np.where(wrist, 7.0, 0.0), exploring=True, inner_steps=2, member=1)
    assert (episode.actions_asked[:, -1] == 7.0).all()
    settled = episode.actions_sent[3:, -1]  # after it has sped up
    np.testing.assert_allclose(settled, 1.0, atol=0.05)
    assert not (episode.flags[3:] & (StepFlag.CLAMPED | StepFlag.SLOWED)).any()
    assert (episode.exploring, episode.inner_steps, episode.member) == (True, 2, 1)
    assert (rig.loop.counters.slowed, rig.loop.counters.held) == (0, 0)


def test_where_the_ensemble_disagrees_the_arm_moves_less_and_what_was_sent_is_recorded():
    rig, episode = one_episode(wiggles, disagreement=2.5, slow_above=1.0, hold_above=3.0)
    np.testing.assert_allclose(episode.actions_sent, 0.25 * episode.actions_asked, atol=1e-9)
    assert np.abs(episode.actions_asked).max() == 0.2
    assert (episode.flags & StepFlag.SLOWED).all()
    assert not (episode.flags & StepFlag.CLAMPED).any()
    assert (rig.loop.counters.slowed, rig.loop.counters.held) == (TASK.steps, 0)


def test_a_slowed_draw_is_cut_before_it_is_slowed():
    """Half of a drawn 3 would otherwise still be full speed."""
    wrist = np.arange(TASK.action_dim) == TASK.action_dim - 1
    _, episode = one_episode(lambda _: np.where(wrist, 3.0, 0.0), disagreement=1.5, slow_above=1.0, hold_above=2.0)
    assert np.abs(episode.actions_sent).max() < 0.5 + 0.05
    np.testing.assert_allclose(episode.actions_sent[3:, -1], 0.5, atol=0.05)


@pytest.mark.parametrize(
    "said",
    [
        {"disagreement": 3.0, "slow_above": 1.0, "hold_above": 3.0},
        {"disagreement": np.nan, "slow_above": 1.0, "hold_above": 3.0},
        {"disagreement": 0.0, "slow_above": 3.0, "hold_above": 1.0},
    ],
)
def test_an_arm_that_the_gate_holds_stands_still_and_is_not_taken_for_a_silent_policy(said):
    rig, episode = one_episode(ones, **said)
    assert episode.end_reason == "time limit"
    assert episode.steps == TASK.steps
    assert not episode.actions_sent.any()
    assert (episode.actions_asked == 1.0).all()
    assert (episode.flags & StepFlag.SLOWED).all()
    assert not (episode.flags & StepFlag.CLAMPED).any()
    assert np.array_equal(np.unique(rig.arm.sent, axis=0), [HOME])
    counters = rig.loop.counters
    assert (counters.slowed, counters.held, counters.watchdog_trips) == (TASK.steps, TASK.steps, 0)


def test_an_arm_that_the_gate_holds_says_why():
    with Rig(ones, said={"disagreement": 3.0, "slow_above": 1.0, "hold_above": 2.0}) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.held > 2)
        assert rig.loop.reason == "disagreement 3: slows above 1, holds from 2"
        rig.said = {}
        held = rig.loop.counters.held
        rig.wait_for(lambda: rig.loop.mode is Mode.MOVING and not rig.loop.reason)
        assert rig.loop.counters.held <= held + 1, "an action without disagreement moves the arm again"


def test_activation_refuses_an_arm_far_outside_its_limits():
    start = HOME.copy()
    start[1] = PROFILE.joints[1].lower_rad - 0.3
    with Rig(zeros, start=start) as rig:
        with pytest.raises(ValueError, match=r"shoulder_lift: expected .* rad at start, got"):
            rig.loop.activate()
        assert not rig.arm.sent
        assert not rig.arm.torque
        assert rig.loop.mode is Mode.INACTIVE


def test_the_step_budget_ends_collection_exactly():
    with Rig(zeros, max_steps=2 * TASK.steps + 3) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING and len(rig.episodes) == 3)
    assert [episode.steps for episode in rig.episodes] == [TASK.steps, TASK.steps, 3]
    assert rig.episodes[-1].end_reason == "step budget"
    assert not rig.episodes[-1].success


def test_a_bus_that_goes_silent_latches_and_holds():
    with Rig(ones) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 2)
        rig.arm.silent = True
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
    assert "servo 3" in rig.loop.reason
    assert rig.loop.counters.bus_errors >= 3


def test_one_missed_reading_is_flagged_and_not_fatal():
    with Rig(zeros, episodes=1, max_bus_errors=50) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 2)
        rig.arm.silent = True
        rig.wait_for(lambda: rig.loop.counters.bus_errors >= 1)
        rig.arm.silent = False
        rig.wait_for(lambda: rig.episodes)
    assert rig.episodes[0].end_reason == "time limit"
    assert (rig.episodes[0].flags & StepFlag.GAP).any()
    assert "servo 3" not in rig.loop.reason


def test_a_servo_that_lost_power_is_not_thrown_to_its_old_target():
    with Rig(ones, max_bus_errors=1000) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 2)
        rig.arm.silent = True
        rig.wait_for(lambda: rig.loop.counters.bus_errors >= 1)
        rig.arm.torque = False
        rig.arm.position -= 0.3
        written = len(rig.arm.sent)
        rig.arm.silent = False
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        time.sleep(0.05)
        assert len(rig.arm.sent) == written
        assert "torque: expected on" in rig.loop.reason
        fallen = rig.arm.position.copy()
        rig.loop.rearm()
        rig.wait_for(lambda: len(rig.arm.sent) > written + 3)
        np.testing.assert_allclose(rig.arm.sent[-1], fallen)


def test_what_did_not_reach_the_wire_is_not_recorded_as_sent():
    with Rig(ones) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 2)
        rig.arm.deaf = True
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert np.array_equal(rig.loop._arm.sent.position, rig.arm.sent[-1])
    assert "write: expected torque enabled" in rig.loop.reason


def test_a_latch_outlives_deactivation_and_an_inactive_arm_cannot_be_rearmed():
    with Rig(lambda _: None) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        rig.loop.deactivate()
        assert rig.loop.mode is Mode.INACTIVE
        written = len(rig.arm.sent)
        with pytest.raises(ValueError, match="rearm: expected a latched arm, got 'inactive'"):
            rig.loop.rearm()
        time.sleep(0.02)
        assert len(rig.arm.sent) == written
        rig.loop.activate()
        assert rig.loop.mode is Mode.LATCHED


def test_sag_does_not_add_up_over_activations():
    with Rig(zeros) as rig:
        rig.arm.sag = 0.02
        rig.loop.activate()
        first = rig.loop._arm.sent.position.copy()
        for _ in range(5):
            rig.loop.deactivate()
            rig.loop.activate()
        np.testing.assert_allclose(rig.loop._arm.sent.position, first)


def test_deactivation_comes_to_rest_before_it_falls_silent():
    with Rig(ones) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 4)
        rig.loop.deactivate()
        assert rig.loop.mode is Mode.INACTIVE
        assert not rig.loop._arm.sent.velocity.any()


def test_start_asked_again_changes_nothing_on_the_way_home_and_in_an_episode():
    with Rig(ones, episodes=1) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 2)
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING)
    assert [episode.steps for episode in rig.episodes] == [TASK.steps]


def test_start_is_refused_on_the_way_home_of_a_reset():
    with Rig(ones, settle_s=5.0) as rig:
        rig.loop.activate()
        rig.loop.reset()
        with pytest.raises(ValueError, match="start: expected a holding arm, got 'resetting: "):
            rig.loop.start()


def test_a_spent_budget_refuses_another_start():
    with Rig(zeros, max_steps=3) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING)
        with pytest.raises(ValueError, match="start: expected budget left"):
            rig.loop.start()
        rig.loop.reset()
    assert rig.loop.counters.real_steps == 3


def test_an_unexpected_error_brakes_latches_and_is_raised():
    def breaks_down(observation):
        if observation.seq == 6:
            raise RuntimeError("policy side broke")
        return ones(observation)

    rig, raised = Rig(breaks_down), []

    def run():
        try:
            rig.loop.run()
        except RuntimeError as error:
            raised.append(error)

    rig.thread = threading.Thread(target=run, daemon=True)
    with rig:
        rig.loop.activate()
        rig.loop.start()
        rig.thread.join(20)
        assert raised
        assert rig.loop.mode is Mode.LATCHED
        assert not rig.loop._arm.sent.velocity.any()
        assert len(rig.episodes) == 1


def test_a_request_that_timed_out_is_not_carried_out_later(monkeypatch):
    monkeypatch.setattr("mbrl_core.call_queue.ANSWER_S", 0.05)
    rig = Rig(ones)
    rig.loop.mode = Mode.HOLDING
    with pytest.raises(NotConnected, match="expected an answer"):
        rig.loop.start()
    with rig:
        rig.wait_for(lambda: rig.loop.counters.cycles > 5)
        assert rig.loop.mode is Mode.HOLDING


def test_stop_ends_the_episode_and_brakes():
    with Rig(ones) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.counters.real_steps > 2)
        rig.loop.stop()
        assert rig.episodes[0].end_reason == "stopped"
        rig.wait_for(lambda: not np.diff(rig.arm.sent[-5:], axis=0).any())
        assert rig.loop.mode is Mode.HOLDING


def test_goals_follow_from_the_seed():
    def goals(seed):
        with Rig(zeros, episodes=2, seed=seed) as rig:
            rig.loop.activate()
            rig.loop.start()
            rig.wait_for(lambda: len(rig.episodes) == 2)
        return np.array([episode.goal for episode in rig.episodes])

    assert np.array_equal(goals(1), goals(1))
    assert not np.array_equal(goals(1), goals(2))


def test_a_servo_that_suffers_ends_the_episode_latches_and_is_re_armed_only_when_well():
    """Faults 40 and 43."""
    with Rig(ones) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.MOVING)
        rig.arm.changed = {"status": np.array([0, 0, 32, 0, 0, 0], dtype=np.uint8)}
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert "elbow_flex: expected a servo without faults" in rig.loop.reason
        rig.wait_for(lambda: np.abs(np.diff(rig.arm.sent[-2:], axis=0)).max() == 0.0)
        with pytest.raises(Fault, match="elbow_flex"):
            rig.loop.rearm()
        assert rig.loop.mode is Mode.LATCHED
        rig.arm.changed = {}
        rig.loop.rearm()
        assert rig.loop.mode is Mode.HOLDING
