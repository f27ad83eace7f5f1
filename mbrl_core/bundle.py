"""The policy bundle: one file that a robot can check before it moves. No pickle, no torch.

A zip of `act.onnx` (theta, normaliser, observation in; mean and log-std out), `parameters.safetensors` and
`metadata.json`, which holds what the policy was made for and the SHA-256 of every other member. Two members may be
absent: `adapt.onnx`, one inner step (see `adapter.py`), whose step sizes and critic are then among the parameters, and
`ensemble.onnx`, the members' predictions (see `world_model.py`), with bounds on their disagreement in the metadata.
"""

import dataclasses
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from mbrl_core.arm import ArmProfile
from mbrl_core.config import check, from_mapping, refuse, setting
from mbrl_core.replay import write_atomically
from mbrl_core.tasks.task import Task

SCHEMA_VERSION = 2
SUFFIX = ".mbrl"
ACTION_MEANING = "joint target increment"
ENVIRONMENT_ACTION = "the environment's action, -1 its lower and 1 its upper bound"
ACT, PARAMETERS, METADATA = "act.onnx", "parameters.safetensors", "metadata.json"
ADAPT, ENSEMBLE = "adapt.onnx", "ensemble.onnx"  # optional
MAX_MEMBER_BYTES = 16 << 20
_VALUE = "value."  # prefix of the critic's parameters
_TENSORS = ("theta", "obs_mean", "obs_scale")
_NOT_CHECKED = {
    "schema_version",
    "policy_version",
    "real_steps",
    "ensemble_id",
    "reward",
    "parameters",
    "adaptation",
    "disagreement",
    "files",
}


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Where a part of the observation lies."""

    name: str = setting(doc="what it is")
    start: int = setting(doc="first index", low=0)
    stop: int = setting(doc="index after the last", low=0)


@dataclass(frozen=True, kw_only=True)
class File:
    """A member of the zip."""

    name: str = setting(doc="name in the zip")
    sha256: str = setting(doc="64 hex digits")


@dataclass(frozen=True, kw_only=True)
class AdaptationMetadata:
    """What the inner step on real episodes needs to know."""

    form: str = setting(doc="estimator of the loss in adapt.onnx", one_of=("lvc", "log_likelihood"))
    discount: float = setting(doc="gamma of the advantage, per step", low=0.0, high=1.0)
    trace: float = setting(doc="lambda of the advantage", low=0.0, high=1.0)
    max_kl: float = setting(doc="a step on the robot that goes further is refused", unit="nats", low=0.0)
    value_layers: int = setting(doc="layers of the critic, whose parameters travel with the policy's", low=1)


@dataclass(frozen=True, kw_only=True)
class DisagreementMetadata:
    """Bounds on the ensemble's disagreement, from its training data."""

    slow_above: float = setting(doc="from here on the arm slows", low=0.0)
    hold_above: float = setting(doc="from here on it holds", low=0.0)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What the policy was made for. Joints are the controlled ones, in the profile's order; SI units and radians.

    What describes an arm is empty or 0 where there is none.
    """

    schema_version: int = setting(SCHEMA_VERSION, doc="version of this format")
    arm: str = setting("", doc="name of the arm's profile")
    task: str = setting(doc="name of the task, or of the environment")
    reward: str = setting("", doc="where the reward stands that the policy is for; empty = the task's own")
    policy_version: int = setting(doc="counts up from 1 in one learner's life", low=0)
    real_steps: int = setting(doc="steps on the robot that its run took and it has learned from", low=0)
    ensemble_id: str = setting(doc="hash of the ensemble that the policy was improved in")
    joint_names: tuple[str, ...] = setting((), doc="controlled joints")
    lower_rad: tuple[float, ...] = setting((), doc="soft lower limits", unit="rad")
    upper_rad: tuple[float, ...] = setting((), doc="soft upper limits", unit="rad")
    velocity_rad_s: tuple[float, ...] = setting((), doc="speed limits of the command", unit="rad/s")
    acceleration_rad_s2: tuple[float, ...] = setting((), doc="acceleration limits of the command", unit="rad/s^2")
    home_rad: tuple[float, ...] = setting((), doc="angles at the start of an episode", unit="rad")
    tcp_speed_m_s: float = setting(0.0, doc="speed limit of the tool tip", unit="m/s")
    policy_hz: float = setting(0.0, doc="rate of the policy", unit="Hz")
    action_meaning: str = setting(ACTION_MEANING, doc="what an action is")
    action_scale_rad: float = setting(0.0, doc="increment at action 1", unit="rad")
    action_dim: int = setting(doc="A", low=1)
    obs_dim: int = setting(doc="O", low=1)
    obs_slices: tuple[Slice, ...] = setting(doc="parts of the observation, in order")
    parameters: int = setting(0, doc="P", low=0)
    adaptation: AdaptationMetadata | None = setting(None, doc="None where the policy does not adapt")
    disagreement: DisagreementMetadata | None = setting(None, doc="None where no ensemble travels with the policy")
    files: tuple[File, ...] = setting((), doc="hashes of the other members; filled in by to_bytes")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A policy, whole: the graphs, their parameters and what it fits."""

    metadata: Metadata
    act_onnx: bytes
    theta: NDArray[np.float32]  # (P,)
    obs_mean: NDArray[np.float32]  # (O,)
    obs_scale: NDArray[np.float32]  # (O,)
    adapt_onnx: bytes = b""  # empty where the policy does not adapt
    step_sizes: NDArray[np.float32] | None = None  # (P,), of the inner step; likewise None
    value: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # the critic's parameters; likewise empty
    ensemble_onnx: bytes = b""  # empty where no ensemble travels with the policy

    def __post_init__(self) -> None:
        """Raise ValueError where shapes contradict the metadata, a number is not finite or a part is there by half."""
        obs_dim = self.metadata.obs_dim
        for name, length in (("theta", len(self.theta)), ("obs_mean", obs_dim), ("obs_scale", obs_dim)):
            _check_array(name, getattr(self, name), (length,))
        if not (self.obs_scale > 0).all():
            raise refuse("bundle.obs_scale", "above 0", float(self.obs_scale.min()))
        _check_adaptation(self)
        _check_disagreement(self)

    @property
    def version(self) -> int:
        """The policy's version."""
        return self.metadata.policy_version

    def to_bytes(self) -> bytes:
        """The file's bytes; the same bundle gives the same bytes."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        tensors |= {f"{_VALUE}{name}": array for name, array in self.value.items()}
        if self.step_sizes is not None:
            tensors["step_sizes"] = self.step_sizes
        members = {ACT: self.act_onnx, ADAPT: self.adapt_onnx, ENSEMBLE: self.ensemble_onnx}
        members = {name: data for name, data in members.items() if data} | {PARAMETERS: save_tensors(tensors)}
        files = tuple(File(name=name, sha256=_sha256(data)) for name, data in members.items())
        metadata = dataclasses.replace(self.metadata, parameters=len(self.theta), files=files)
        members[METADATA] = json.dumps(dataclasses.asdict(metadata), indent=1).encode()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "Bundle":
        """Read and verify a bundle.

        Raises:
          ValueError: damaged, too large, of another schema, or a member's hash differs.
        """
        members = _unzip(data)
        metadata = _parse_metadata(members.pop(METADATA))
        for file in metadata.files:
            if file.name in members and (got := _sha256(members[file.name])) != file.sha256:
                raise refuse(f"bundle.{file.name}: sha256", file.sha256, got)
        if {file.name for file in metadata.files} != set(members):
            raise refuse("bundle: members", sorted(file.name for file in metadata.files), sorted(members))
        try:
            tensors = load_tensors(members[PARAMETERS])
        except SafetensorError as error:
            raise refuse(f"bundle.{PARAMETERS}", "safetensors", str(error)) from error
        value = {name.removeprefix(_VALUE): tensors.pop(name) for name in sorted(tensors) if name.startswith(_VALUE)}
        if set(tensors) - {"step_sizes"} != set(_TENSORS):
            raise refuse(f"bundle.{PARAMETERS}", ", ".join(_TENSORS), sorted(tensors))
        if tensors["theta"].shape != (metadata.parameters,):
            raise refuse("bundle.theta", f"({metadata.parameters},)", tensors["theta"].shape)
        return Bundle(
            metadata=metadata,
            act_onnx=members[ACT],
            adapt_onnx=members.get(ADAPT, b""),
            ensemble_onnx=members.get(ENSEMBLE, b""),
            step_sizes=tensors.pop("step_sizes", None),
            value=value,
            **tensors,
        )

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all; an older one of that name is replaced."""
        write_atomically(path, self.to_bytes())

    @staticmethod
    def load(path: Path) -> "Bundle":
        """Read a bundle file.

        Raises:
          ValueError: no such file, or as in `from_bytes`.
        """
        if not path.is_file():
            raise refuse("bundle", "a file", str(path))
        return Bundle.from_bytes(path.read_bytes())


def describe(task: Task, *, policy_version: int, real_steps: int, ensemble_id: str) -> Metadata:
    """What a policy trained on a task is made for."""
    slices = tuple(Slice(name=name, start=start, stop=stop) for name, (start, stop) in task.obs_slices.items())
    metadata = Metadata(
        task=task.name,
        policy_version=policy_version,
        real_steps=real_steps,
        ensemble_id=ensemble_id,
        action_meaning=ENVIRONMENT_ACTION,
        action_dim=task.action_dim,
        obs_dim=task.obs_dim,
        obs_slices=slices,
    )
    return metadata if task.profile is None else _for_arm(metadata, task.profile)


def _for_arm(metadata: Metadata, profile: ArmProfile) -> Metadata:
    """The same, with what describes the arm."""
    joints = [profile.joints[index] for index in profile.controlled]
    return dataclasses.replace(
        metadata,
        arm=profile.name,
        action_meaning=ACTION_MEANING,
        joint_names=tuple(joint.name for joint in joints),
        lower_rad=tuple(joint.lower_rad for joint in joints),
        upper_rad=tuple(joint.upper_rad for joint in joints),
        velocity_rad_s=tuple(joint.velocity_rad_s for joint in joints),
        acceleration_rad_s2=tuple(joint.acceleration_rad_s2 for joint in joints),
        home_rad=tuple(joint.home_rad for joint in joints),
        tcp_speed_m_s=profile.tcp_speed_m_s,
        policy_hz=profile.policy_hz,
        action_scale_rad=profile.action_scale_rad,
    )


def check_fits(bundle: Bundle, profile: ArmProfile | None, task: Task) -> None:
    """Refuse a bundle that was made for something else.

    Raises:
      ValueError: names the first field that differs, what the arm and the task have, and what the bundle has.
    """
    if task.profile is not profile and task.profile != profile:
        raise refuse("task.profile", _name(profile), _name(task.profile))
    wanted = describe(task, policy_version=0, real_steps=0, ensemble_id="")
    for one in dataclasses.fields(Metadata):
        want, got = getattr(wanted, one.name), getattr(bundle.metadata, one.name)
        if one.name not in _NOT_CHECKED and want != got:
            raise refuse(f"bundle.{one.name}", want, got)


def _check_array(name: str, array: NDArray[np.float32], shape: tuple[int, ...]) -> None:
    if array.shape != shape or array.dtype != np.float32:
        raise refuse(f"bundle.{name}", f"{shape} float32", (array.shape, str(array.dtype)))
    if not np.isfinite(array).all():
        raise refuse(f"bundle.{name}", "finite numbers", "NaN or infinity")


def _check_adaptation(bundle: Bundle) -> None:
    """Graph, step sizes, critic and metadata: all or none, and fit for each other."""
    adaptation, sizes = bundle.metadata.adaptation, bundle.step_sizes
    parts = {"adapt_onnx": bool(bundle.adapt_onnx), "step_sizes": sizes is not None, "value": bool(bundle.value)}
    if set(parts.values()) != {adaptation is not None}:
        expected = "all of adapt_onnx, step_sizes, value" if adaptation else "none of adapt_onnx, step_sizes, value"
        raise refuse("bundle.metadata.adaptation", expected, [name for name, there in parts.items() if there])
    if adaptation is None or sizes is None:
        return
    check(adaptation, "bundle.adaptation")
    _check_array("step_sizes", sizes, bundle.theta.shape)
    if (sizes < 0).any():
        raise refuse("bundle.step_sizes", "at least 0", float(sizes.min()))
    _check_value(bundle.value, adaptation.value_layers, bundle.metadata.obs_dim)


def _check_value(value: dict[str, NDArray[np.float32]], layers: int, obs_dim: int) -> None:
    """A network of (O) to (1), perhaps several with a leading axis, and the units of its output."""
    names = {f"{part}{layer}" for layer in range(layers) for part in ("weight", "bias")} | {"mean", "scale"}
    if set(value) != names:
        raise refuse("bundle.value", sorted(names), sorted(value))
    width, lead = obs_dim, value["weight0"].shape[:-2]
    for layer in range(layers):
        out = value[f"bias{layer}"].shape[-1:] or (0,) if layer < layers - 1 else (1,)
        _check_array(f"value.weight{layer}", value[f"weight{layer}"], (*lead, width, *out))
        _check_array(f"value.bias{layer}", value[f"bias{layer}"], (*lead, *out))
        width = out[0]
    for name in ("mean", "scale"):
        _check_array(f"value.{name}", value[name], ())
    if len(lead) > 1 or value["scale"] <= 0:
        raise refuse("bundle.value", "one axis of members at most, scale above 0", (lead, float(value["scale"])))


def _check_disagreement(bundle: Bundle) -> None:
    bounds = bundle.metadata.disagreement
    if (bounds is not None) != bool(bundle.ensemble_onnx):
        expected = ENSEMBLE if bounds else f"no {ENSEMBLE}"
        raise refuse("bundle.metadata.disagreement", expected, f"{len(bundle.ensemble_onnx)} bytes")
    if bounds is not None and not check(bounds, "bundle.disagreement").slow_above < bounds.hold_above:
        raise refuse("bundle.disagreement.hold_above", f"above slow_above {bounds.slow_above}", bounds.hold_above)


def _name(profile: ArmProfile | None) -> str:
    return profile.name if profile else "no arm"


def _unzip(data: bytes) -> dict[str, bytes]:
    """Members by name; sizes are bounded before anything is unpacked, and again while it is."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(names) > 16 or not {ACT, PARAMETERS, METADATA} <= set(names) or len(set(names)) < len(names):
                raise refuse("bundle: members", [ACT, PARAMETERS, METADATA], names[:16])
            return {info.filename: _read_member(archive, info) for info in archive.infolist()}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise refuse("bundle", f"an undamaged {SUFFIX} file", str(error)) from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise refuse("bundle", f"an undamaged {SUFFIX} file", str(error)) from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MAX_MEMBER_BYTES:
        raise refuse(f"bundle.{info.filename}: size", f"at most {MAX_MEMBER_BYTES} bytes", info.file_size)
    with archive.open(info) as member:
        data = member.read(MAX_MEMBER_BYTES + 1)
    if len(data) != info.file_size:
        raise refuse(f"bundle.{info.filename}: size", info.file_size, len(data))
    return data


def _parse_metadata(data: bytes) -> Metadata:
    try:
        mapping: Any = json.loads(data)
    except ValueError as error:
        raise refuse(f"bundle.{METADATA}", "JSON", str(error)) from error
    version = mapping.get("schema_version") if isinstance(mapping, dict) else None
    if version != SCHEMA_VERSION:
        raise refuse(f"bundle.{METADATA}: schema_version", SCHEMA_VERSION, version)
    return from_mapping(Metadata, mapping, METADATA)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
