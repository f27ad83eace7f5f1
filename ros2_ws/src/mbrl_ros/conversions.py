"""Between mbrl_core's records and mbrl_msgs: nothing else in the nodes touches message fields of these types."""

import dataclasses
import hashlib
from array import array

import numpy as np
from builtin_interfaces.msg import Time

from mbrl_core.adaptation_config import Outcome
from mbrl_core.config import refuse
from mbrl_core.control_config import Counters
from mbrl_core.types import Action, Episode, Observation, Vector
from mbrl_msgs import msg


def to_observation_msg(observation: Observation, stamp: Time) -> msg.Observation:
    """Core to message."""
    return msg.Observation(
        stamp=stamp,
        seq=observation.seq,
        episode=observation.episode,
        state=_doubles(observation.state),
        goal=_doubles(observation.goal),
        first=observation.first,
    )


def from_observation_msg(message: msg.Observation) -> Observation:
    """Message to core."""
    return Observation(
        seq=message.seq,
        episode=message.episode,
        state=np.array(message.state),
        goal=np.array(message.goal),
        first=message.first,
    )


def to_action_msg(action: Action, stamp: Time) -> msg.Action:
    """Core to message."""
    return msg.Action(
        stamp=stamp,
        seq=action.seq,
        episode=action.episode,
        policy_version=action.policy_version,
        member=action.member,
        inner_steps=action.inner_steps,
        exploring=action.exploring,
        action=_doubles(action.action),
        disagreement=action.disagreement,
        slow_above=action.slow_above,
        hold_above=action.hold_above,
    )


def from_action_msg(message: msg.Action) -> Action:
    """Message to core; length and finiteness are the mailbox's to judge."""
    return Action(
        seq=message.seq,
        episode=message.episode,
        action=np.array(message.action),
        policy_version=message.policy_version,
        member=message.member,
        inner_steps=message.inner_steps,
        exploring=message.exploring,
        disagreement=message.disagreement,
        slow_above=message.slow_above,
        hold_above=message.hold_above,
    )


def to_episode_msg(episode: Episode, joint_names: list[str], stamp: Time) -> msg.Episode:
    """Core to message."""
    message = msg.Episode(
        episode=episode.episode,
        arm=episode.arm,
        task=episode.task,
        joint_names=joint_names,
        steps=episode.steps,
        states=_doubles(episode.states),
        goal=_doubles(episode.goal),
        actions_asked=_doubles(episode.actions_asked),
        actions_sent=_doubles(episode.actions_sent),
        rewards=_doubles(episode.rewards),
        stamps_s=_doubles(episode.stamps_s),
        flags=array("B", episode.flags.astype(np.uint8).tobytes()),
        terminated=episode.terminated,
        truncated=episode.truncated,
        end_reason=episode.end_reason,
        success=episode.success,
        final_distance_m=episode.final_distance_m,
        reset_s=episode.reset_s,
        policy_versions=array("I", episode.policy_versions.astype(np.uint32).tobytes()),
        member=episode.member,
        inner_steps=episode.inner_steps,
        exploring=episode.exploring,
    )
    message.header.stamp = stamp
    return message


def from_episode_msg(message: msg.Episode) -> Episode:
    """Message to core.

    Raises:
      ValueError: lengths that contradict `steps`, or a number that is not finite.
    """
    steps = message.steps
    return Episode(
        states=_rows(message.states, steps + 1, "states"),
        goal=np.array(message.goal),
        actions_asked=_rows(message.actions_asked, steps, "actions_asked"),
        actions_sent=_rows(message.actions_sent, steps, "actions_sent"),
        rewards=np.array(message.rewards),
        stamps_s=np.array(message.stamps_s),
        flags=np.array(message.flags, dtype=np.uint8),
        policy_versions=np.array(message.policy_versions, dtype=np.uint32),
        episode=message.episode,
        arm=message.arm,
        task=message.task,
        terminated=message.terminated,
        truncated=message.truncated,
        end_reason=message.end_reason,
        success=message.success,
        final_distance_m=message.final_distance_m,
        reset_s=message.reset_s,
        member=message.member,
        inner_steps=message.inner_steps,
        exploring=message.exploring,
    )


def to_policy_update_msg(bundle: bytes, version: int, stamp: Time) -> msg.PolicyUpdate:
    """A whole bundle with its checksum."""
    digest = hashlib.sha256(bundle).hexdigest()
    return msg.PolicyUpdate(stamp=stamp, version=version, sha256=digest, bundle=array("B", bundle))


def from_policy_update_msg(message: msg.PolicyUpdate) -> bytes:
    """The bundle's bytes.

    Raises:
      ValueError: the checksum does not match, or there is no bundle.
    """
    data = bytes(message.bundle)
    digest = hashlib.sha256(data).hexdigest()
    if not data or digest != message.sha256:
        raise refuse(f"policy_update {message.version}.sha256", message.sha256, digest if data else "no bundle")
    return data


def to_safety_status_msg(mode: str, reason: str, counters: Counters, stamp: Time) -> msg.SafetyStatus:
    """The control loop's account of itself."""
    return msg.SafetyStatus(
        stamp=stamp,
        state="moving" if mode in ("resetting", "parking", "braking") else mode,
        latched=mode == "latched",
        reason=reason,
        clamped=counters.clamped,
        slowed=counters.slowed,
        held=counters.held,
        late=counters.late,
        watchdog_trips=counters.watchdog_trips,
        missed_cycles=counters.missed_cycles,
        bus_errors=counters.bus_errors,
        cycles=counters.cycles,
        cycle_late_max_s=counters.cycle_late_max_s,
        real_steps=counters.real_steps,
        episodes=counters.episodes,
    )


def to_adaptation_status_msg(outcome: Outcome, stamp: Time) -> msg.AdaptationStatus:
    """Where adaptation stands."""
    fields = {field.name: getattr(outcome, field.name) for field in dataclasses.fields(outcome)}
    fields.pop("granted")  # for who asked
    return msg.AdaptationStatus(stamp=stamp, **fields)


def _doubles(values: Vector) -> "array[float]":
    return array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def _rows(values: "array[float]", rows: int, field: str) -> Vector:
    if rows == 0 or len(values) % rows:
        raise refuse(f"episode.{field}", f"a multiple of {rows} numbers", len(values))
    return np.array(values).reshape(rows, -1)
