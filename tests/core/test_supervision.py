"""What stops or parks the arm although nobody asked its loop to: each latches, and only re-arming releases."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from fakes.loop_rig import HOME, PROFILE, TASK, Rig, ones, zeros

from mbrl_core.action_mailbox import Sender
from mbrl_core.control_config import Mode
from mbrl_core.emergency_stop import EmergencyStop
from mbrl_core.robots.errors import Fault
from mbrl_core.types import StepFlag

pytestmark = pytest.mark.realtime
REST = {"shoulder_lift": -1.5, "elbow_flex": 1.4}
RESTING = dataclasses.replace(
    PROFILE, joints=tuple(dataclasses.replace(joint, park_rad=REST.get(joint.name)) for joint in PROFILE.joints)
)
HOT = {"temperature_c": np.full(6, 66.0)}


def moving(rig):
    rig.loop.activate()
    rig.loop.start()
    rig.wait_for(lambda: rig.loop.counters.real_steps > 2)


def assert_at_rest(rig):
    rig.wait_for(lambda: len(rig.arm.sent) > 6 and not np.diff(rig.arm.sent[-5:], axis=0).any())


def assert_limits_held(rig):
    velocity = np.diff(np.array(rig.arm.sent), axis=0) * PROFILE.bus_hz
    assert (np.abs(velocity) <= PROFILE.vector("velocity_rad_s") + 1e-9).all()
    speeding_up = np.diff(np.abs(velocity), axis=0) * PROFILE.bus_hz
    assert (speeding_up <= PROFILE.vector("acceleration_rad_s2") + 1e-6).all()


def test_a_pressed_emergency_stop_brakes_latches_and_refuses_everything_until_it_is_released():
    button = EmergencyStop()
    with Rig(ones, emergency_stop=button) as rig:
        moving(rig)
        button.hear(True)
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert rig.loop.reason == "emergency stop: pressed"
        assert rig.episodes[0].end_reason == "emergency stop: pressed"
        assert_at_rest(rig)
        with pytest.raises(ValueError, match="rearm: expected a released emergency stop, got .emergency stop: pressed"):
            rig.loop.rearm()
        button.hear(False)
        rig.wait_for(lambda: rig.loop.counters.cycles > 50)
        assert rig.loop.mode is Mode.LATCHED, "a release alone re-arms nothing"
        rig.loop.rearm()
        rig.loop.start()
    assert_limits_held(rig)


def test_a_press_stops_the_arm_however_soon_another_button_says_that_it_is_released():
    button = EmergencyStop()
    with Rig(ones, emergency_stop=button) as rig:
        moving(rig)
        button.hear(True)
        button.hear(False)
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert rig.loop.reason == "emergency stop: pressed"
        assert_at_rest(rig)
        rig.loop.rearm()


def test_rearm_is_refused_at_once_while_the_supply_is_out_of_range():
    with Rig(ones) as rig:
        moving(rig)
        rig.arm.changed = {"voltage_v": np.full(6, 3.0)}
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert_at_rest(rig)
        with pytest.raises(Fault, match=r"shoulder_pan: expected .* V, got 3: check the supply"):
            rig.loop.rearm()
        rig.arm.changed = {}
        rig.loop.rearm()


def test_a_button_that_falls_silent_counts_as_pressed():
    """Fault 59."""
    now_s = [0.0]
    button = EmergencyStop(0.5, lambda: now_s[0])
    with Rig(ones, emergency_stop=button) as rig:
        with pytest.raises(ValueError, match="activate: expected a released emergency stop, got .* none yet"):
            rig.loop.activate()
        assert not rig.arm.torque
        button.hear(False)
        moving(rig)
        now_s[0] = 0.6
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert rig.loop.reason.endswith("got silence")
        assert_at_rest(rig)


@pytest.mark.parametrize("verb", ["start", "reset", "park"])
def test_an_arm_that_holds_latches_under_a_pressed_stop_so_no_verb_moves_it(verb):
    button = EmergencyStop()
    with Rig(zeros, emergency_stop=button) as rig:
        rig.loop.activate()
        button.hear(True)
        with pytest.raises(ValueError, match="expected"):
            getattr(rig.loop, verb)()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
    assert np.allclose(rig.arm.sent, HOME)


def test_two_policies_that_answer_latch_the_arm_and_are_named():
    """Fault 12."""
    one, other = Sender(b"1", "/policy"), Sender(b"2", "/other")

    def joined(observation):
        if len(rig.observations) == 5:
            rig.sender = other
        return ones(observation)

    rig = Rig(joined)
    rig.sender = one
    with rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert rig.loop.reason == "actions: expected one publisher, /policy, got a second one, /other"
        assert rig.loop.mailbox.refused["second publisher"] == 1
        assert rig.loop.counters.watchdog_trips == 0
        assert_at_rest(rig)


def test_a_hot_arm_parks_slowly_then_latches_and_stays_latched_until_it_has_cooled():
    """Fault 39."""
    with Rig(ones, profile=RESTING) as rig:
        moving(rig)
        rig.arm.changed = HOT
        rig.wait_for(lambda: rig.loop.mode is Mode.PARKING)
        begun = len(rig.arm.sent)
        assert "let it cool" in rig.episodes[0].end_reason
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert "expected below 65 degC, got 66: let it cool" in rig.loop.reason
        np.testing.assert_allclose(rig.arm.sent[-1], RESTING.park_rad, atol=1e-5)
        velocity = np.abs(np.diff(np.array(rig.arm.sent[begun + 50 :]), axis=0)) * PROFILE.bus_hz
        assert velocity.max() <= 0.25 * PROFILE.vector("velocity_rad_s").max() + 1e-9
        with pytest.raises(Fault, match="let it cool"):
            rig.loop.rearm()
        rig.arm.changed = {}
        rig.loop.rearm()
        assert rig.loop.mode is Mode.HOLDING
    assert_limits_held(rig)


def test_a_hot_arm_with_a_fault_does_not_park():
    with Rig(ones, profile=RESTING) as rig:
        moving(rig)
        rig.arm.changed = HOT | {"status": np.array([0, 0, 32, 0, 0, 0], dtype=np.uint8)}
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert "a servo without faults" in rig.loop.reason
        assert not np.allclose(rig.arm.sent[-1], RESTING.park_rad, atol=0.05)


def test_a_fault_on_the_way_to_park_stops_the_arm_where_it_is():
    with Rig(ones, profile=RESTING) as rig:
        moving(rig)
        rig.arm.changed = HOT
        rig.wait_for(lambda: rig.loop.mode is Mode.PARKING)
        rig.arm.changed = HOT | {"status": np.array([0, 0, 32, 0, 0, 0], dtype=np.uint8)}
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert "a servo without faults" in rig.loop.reason
        assert_at_rest(rig)


def test_stop_ends_the_parking_of_a_hot_arm_and_it_latches_where_it_is():
    with Rig(ones, profile=RESTING) as rig:
        moving(rig)
        rig.arm.changed = HOT
        rig.wait_for(lambda: rig.loop.mode is Mode.PARKING)
        rig.loop.stop()
        assert rig.loop.mode is Mode.LATCHED
        assert "let it cool" in rig.loop.reason
        assert_at_rest(rig)
        assert not np.allclose(rig.arm.sent[-1], RESTING.park_rad, atol=0.05)


def test_a_warm_arm_is_asked_for_less_and_what_was_sent_is_recorded():
    """Fault 39: at 60 degC half of the speed, of the policy's and of the way home."""
    with Rig(lambda o: np.full(TASK.action_dim, 0.2 if o.seq % 2 else -0.2), episodes=1) as rig:
        rig.arm.changed = {"temperature_c": np.full(6, 60.0)}
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.MOVING and rig.loop.counters.real_steps > 2)
        assert rig.loop.reason == "warm servos: 50 % of the speed"
        rig.wait_for(lambda: rig.episodes)
    (episode,) = rig.episodes
    np.testing.assert_allclose(episode.actions_sent, 0.5 * episode.actions_asked, atol=1e-9)
    assert (episode.flags & StepFlag.SLOWED).all()
    assert not (episode.flags & StepFlag.CLAMPED).any()


def test_a_warm_arm_goes_home_slowly():
    start = HOME.copy()
    start[0] += 0.8
    with Rig(zeros, start=start) as rig:
        rig.arm.changed = {"temperature_c": np.full(6, 60.0)}
        rig.loop.activate()
        rig.loop.reset()
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING)
    velocity = np.abs(np.diff(np.array(rig.arm.sent), axis=0)) * PROFILE.bus_hz
    assert 0.3 < velocity.max() <= 0.5 * 1.5 + 1e-9
    np.testing.assert_allclose(rig.arm.sent[-1], HOME, atol=1e-5)


def test_park_ends_the_episode_goes_to_rest_and_the_arm_starts_again_from_there():
    with Rig(ones, profile=RESTING) as rig:
        moving(rig)
        rig.loop.park()
        assert rig.episodes[0].end_reason == "parked"
        rig.wait_for(lambda: rig.loop.mode is Mode.HOLDING)
        assert rig.loop.reason == "parked"
        np.testing.assert_allclose(rig.arm.sent[-1], RESTING.park_rad, atol=1e-5)
        assert rig.arm.torque
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.MOVING)
    assert_limits_held(rig)


@pytest.mark.parametrize("how", ["hold", "park", "limp"])
def test_a_deactivated_arm_ends_as_it_was_told_to(how):
    """Fault 55."""
    with Rig(ones, profile=RESTING, on_shutdown=how) as rig:
        moving(rig)
        rig.loop.deactivate()
        assert rig.loop.mode is Mode.INACTIVE
        assert rig.arm.torque is (how != "limp")
        parked = np.allclose(rig.arm.sent[-1], RESTING.park_rad, atol=1e-5)
        assert parked is (how != "hold")
        if how == "limp":
            rig.loop.activate()
            assert rig.arm.torque
    assert_limits_held(rig)


def test_parking_is_cut_short_by_a_second_wish_to_end():
    with Rig(ones, profile=RESTING, on_shutdown="limp") as rig:
        moving(rig)
        hurry = threading.Event()
        ends = threading.Thread(target=rig.loop.deactivate, args=(hurry,))
        ends.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.PARKING)
        hurry.set()
        ends.join(20)
        assert not ends.is_alive()
        assert rig.loop.mode is Mode.INACTIVE
        assert rig.arm.torque, "an arm that is not where it rests is never let go"
        assert not np.allclose(rig.arm.sent[-1], RESTING.park_rad, atol=0.05)
        assert not rig.loop._arm.sent.velocity.any()


@pytest.mark.parametrize("how", ["park", "limp"])
def test_a_latched_arm_is_not_moved_by_its_end(how):
    with Rig(lambda _: None, profile=RESTING, on_shutdown=how) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        rig.loop.deactivate()
        assert rig.loop.mode is Mode.INACTIVE
        assert rig.arm.torque
        np.testing.assert_allclose(rig.arm.sent[-1], HOME)


def test_an_emergency_stop_ends_parking_for_shutdown_and_torque_stays():
    button = EmergencyStop()
    with Rig(ones, profile=RESTING, on_shutdown="limp", emergency_stop=button) as rig:
        moving(rig)
        ends = threading.Thread(target=rig.loop.deactivate)
        ends.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.PARKING)
        button.hear(True)
        ends.join(20)
        assert not ends.is_alive()
        assert (rig.loop.mode, rig.loop.reason) == (Mode.INACTIVE, "deactivated")
        assert rig.arm.torque
        assert not np.allclose(rig.arm.sent[-1], RESTING.park_rad, atol=0.05)
        button.hear(False)
        rig.loop.activate()
        assert (rig.loop.mode, rig.loop.reason) == (Mode.LATCHED, "emergency stop: pressed")


def test_an_arm_that_cannot_reach_its_park_pose_latches_and_says_which_joint():
    with Rig(zeros, profile=RESTING, park_timeout_s=2.0) as rig:
        rig.arm.sag = 0.15
        rig.loop.activate()
        rig.loop.park()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
    assert rig.loop.reason.startswith("park: ")
    assert "rad, got" in rig.loop.reason


def test_an_arm_that_brakes_is_not_re_armed():
    answered = []

    def falls_silent(observation):
        answered.append(observation.seq)
        return np.ones(TASK.action_dim) if len(answered) < 6 else None

    with Rig(falls_silent, speed=1.0) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        if not rig.loop._arm.at_rest:
            with pytest.raises(ValueError, match="rearm: expected an arm at rest, got 'one that brakes'"):
                rig.loop.rearm()
        rig.wait_for(lambda: rig.loop._arm.at_rest)
        rig.loop.rearm()
        assert_limits_held(rig)


def test_a_stalled_arm_is_let_back_to_where_it_stands():
    with Rig(zeros) as rig:
        rig.loop.activate()
        rig.wait_for(lambda: rig.arm.sent)
        strained = np.zeros(len(HOME))
        strained[1] = 2.5  # A
        stands = HOME.copy()
        stands[1] -= 0.1
        rig.arm.changed = {"current_a": strained, "position": stands}
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert "shoulder_lift: expected a stall of less than" in rig.loop.reason
        rig.wait_for(lambda: np.allclose(rig.arm.sent[-1], stands, atol=1e-6))
        assert_limits_held(rig)


def test_a_loop_that_was_held_up_in_an_episode_latches_and_does_not_go_on_with_an_old_action():
    """Fault 18."""
    held_up = []

    def slow_once(observation):
        if len(held_up) < 4:
            held_up.append(observation.seq)
        if len(held_up) == 4:
            held_up.append(0)
            time.sleep(0.3)  # the loop's own thread
        return np.ones(TASK.action_dim)

    with Rig(slow_once) as rig:
        rig.loop.activate()
        rig.loop.start()
        rig.wait_for(lambda: rig.loop.mode is Mode.LATCHED)
        assert rig.loop.reason.startswith("control loop: expected a cycle every 2 ms, got none for 0.")
