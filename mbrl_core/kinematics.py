"""Forward kinematics of the tool tip, read from the arm's MJCF without MuJoCo, the same for numpy and torch (xp).

A point v in a joint's frame is carried to the parent frame by v' = p + R (k k^T + sin(q) [k]x + cos(q) (I - k k^T)) v
(Rodrigues), so the tip is found by carrying one vector from the tool to the base: no rotation matrices are formed.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from mbrl_core.arm import ArmProfile
from mbrl_core.config import refuse
from mbrl_core.types import Array, Vector

FACTOR, PHASE = np.array([0.0, 1.0, 1.0]), np.array([np.pi / 2, 0.0, np.pi / 2])
FULL_TURN_RAD = 2 * np.pi - 0.35  # a hinge that turns further


@dataclass(frozen=True)
class Segment:
    """A hinge on the way to the tool: v' = offset + [v, sin(q) v, cos(q) v] carry, `carry` (9, 3)."""

    joint: int
    offset: Vector
    carry: Vector


class Chain:
    """From the joints to the tool tip."""

    def __init__(self, profile: ArmProfile, *, whole: bool = False) -> None:
        """Read the chain over the controlled joints, the others at home; or over the whole arm, all joints.

        Raises:
          ValueError: a joint or the tool site is not in the MJCF, or the MJCF uses what this reader does not support.
        """
        root = _read(profile.mjcf_path)
        self._segments, self._tool = _chain(root, profile, whole)
        self._constants: dict[tuple[str, Any], list[tuple[Array, Array]]] = {}
        array_namespace(self._tool)  # loads for 0.1 s: now, not in a cycle of the control loop

    def tip(self, joints: Array) -> Array:
        """Tool tip in the base frame (xp).

        Args:
          joints: (..., J) rad, controlled joints in the profile's order; (..., J_all) for a whole chain.

        Returns:
          (..., 3) m.
        """
        xp = array_namespace(joints)
        constants = self._as(xp, joints)
        factor, phase = constants[-1]
        turns = xp.sin(joints[..., None] * factor + phase)[..., None]  # 1, sin(q), cos(q): faster than to stack them
        shape = (*joints.shape[:-1], 9)
        point = constants[-2][0]
        for segment, (offset, carry) in zip(self._segments[::-1], constants[-3::-1], strict=True):
            point = (turns[..., segment.joint, :, :] * point[..., None, :]).reshape(shape) @ carry + offset
        return point

    def _as(self, xp: Any, like: Array) -> list[tuple[Array, Array]]:
        """Offsets and carries in the caller's array type; then the tool's own offset; then what `tip` puts q into."""
        key = (xp.__name__, like.dtype)
        if key not in self._constants:
            pairs = [(segment.offset, segment.carry) for segment in self._segments]
            pairs += [(self._tool, self._tool), (FACTOR, PHASE)]
            self._constants[key] = [
                (xp.asarray(first, dtype=like.dtype), xp.asarray(second, dtype=like.dtype)) for first, second in pairs
            ]
        return self._constants[key]


def _chain(root: ElementTree.Element, profile: ArmProfile, whole: bool) -> tuple[list[Segment], Vector]:
    bodies, site = _path_to_site(root, profile)
    turning = [joint.name for joint in profile.joints if joint.controlled or whole]
    held = {joint.name: joint.home_rad for joint in profile.joints}
    segments: list[Segment] = []
    offset, rotation = np.zeros(3), np.eye(3)  # fixed frame since the last hinge
    for body in bodies:
        offset, rotation = offset + rotation @ _numbers(body, "pos", 3), rotation @ _rotation(body)
        for joint in body.findall("joint"):
            name, axis = joint.get("name", ""), _axis(joint, profile)
            if name in turning:
                segments.append(Segment(turning.index(name), offset, _carry(rotation, axis)))
                offset, rotation = np.zeros(3), np.eye(3)
            elif name in held:
                rotation = rotation @ rodrigues(axis, held[name])
            else:
                raise refuse(f"{profile.name}.joints", f"joint {name!r} of the MJCF", list(held))
    on_the_way = {turning[segment.joint] for segment in segments}
    for controlled in profile.joints:
        if controlled.controlled and controlled.name not in on_the_way:
            raise refuse(f"{profile.name}.joints", f"a joint on the way to {profile.tool_site!r}", controlled.name)
    return segments, offset + rotation @ _numbers(site, "pos", 3)


def _carry(rotation: Vector, axis: Vector) -> Vector:
    """The three matrices of Rodrigues' formula in a fixed frame, transposed for row vectors: (9, 3)."""
    along = np.outer(axis, axis)
    parts = (along, _cross(axis), np.eye(3) - along)
    return np.concatenate([(rotation @ part).T for part in parts])


def rodrigues(axis: Vector, angle_rad: float) -> Vector:
    """Rotation matrix about a unit axis: (3, 3)."""
    cross = _cross(axis)
    return np.asarray(np.eye(3) + np.sin(angle_rad) * cross + (1 - np.cos(angle_rad)) * cross @ cross)


def _cross(axis: Vector) -> Vector:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _read(path: Path) -> ElementTree.Element:
    if not path.is_file():
        raise refuse("mjcf", "a file", str(path))
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise refuse(f"mjcf {path.name}", "XML", str(error)) from error
    _refuse_unsupported(root, path.name)
    compiler = root.find("compiler")
    angle = "degree" if compiler is None else compiler.get("angle", "degree")
    if angle != "radian":
        raise refuse(f"{path.name}: compiler.angle", "radian", angle)
    eulerseq = "xyz" if compiler is None else compiler.get("eulerseq", "xyz")
    if eulerseq != "xyz":
        raise refuse(f"{path.name}: compiler.eulerseq", "xyz", eulerseq)
    return root


def _refuse_unsupported(root: ElementTree.Element, name: str) -> None:
    """Refuse what would change the geometry and is not read here."""
    if root.find(".//include") is not None:
        raise refuse(f"{name}: include", "everything in one file", "an include")
    for default in root.iter("default"):
        for element in default:
            inherited = {"axis", "pos", "quat", "euler", "ref", "type"} & set(element.attrib)
            if element.tag in ("joint", "site", "body") and inherited:
                raise refuse(f"{name}: default {element.tag}", "geometry on the element itself", sorted(inherited))


def _path_to_site(
    root: ElementTree.Element, profile: ArmProfile
) -> tuple[list[ElementTree.Element], ElementTree.Element]:
    world = root.find("worldbody")
    stack: list[tuple[ElementTree.Element, list[ElementTree.Element]]] = [] if world is None else [(world, [])]
    joints, found = set(), None
    while stack:
        node, path = stack.pop()
        joints |= {joint.get("name") for joint in node.findall("joint")}
        for site in node.findall("site"):
            if site.get("name") == profile.tool_site:
                found = path, site
        stack += [(body, [*path, body]) for body in node.findall("body")]
    for joint in profile.joints:
        if joint.name not in joints:
            raise refuse(f"{profile.name}.joints", f"a joint of {profile.mjcf}: {sorted(map(str, joints))}", joint.name)
    if found is None:
        raise refuse(f"{profile.name}.tool_site", f"a site of {profile.mjcf}", profile.tool_site)
    return found


def _numbers(element: ElementTree.Element, name: str, count: int) -> Vector:
    text = element.get(name)
    values = np.zeros(count) if text is None else np.array(text.split(), dtype=float)
    if len(values) != count:
        raise refuse(f"{element.tag} {element.get('name')}.{name}", f"{count} numbers", text)
    return values


def _rotation(body: ElementTree.Element) -> Vector:
    for name in ("axisangle", "xyaxes", "zaxis"):
        if body.get(name) is not None:
            raise refuse(f"body {body.get('name')}", "quat or euler", name)
    if body.get("quat") is not None:
        w, *xyz = _numbers(body, "quat", 4) / np.linalg.norm(_numbers(body, "quat", 4))
        vector = np.array(xyz)
        return np.asarray(np.eye(3) + 2 * w * _cross(vector) + 2 * _cross(vector) @ _cross(vector))
    matrix = np.eye(3)
    for axis, angle in zip(np.eye(3), _numbers(body, "euler", 3), strict=True):
        matrix = matrix @ rodrigues(axis, angle)
    return matrix


def _axis(joint: ElementTree.Element, profile: ArmProfile) -> Vector:
    where = f"{profile.mjcf}: joint {joint.get('name')}"
    if joint.get("type", "hinge") != "hinge":
        raise refuse(f"{where}.type", "hinge", joint.get("type"))
    if float(joint.get("ref", "0")) != 0.0:
        raise refuse(f"{where}.ref", "0", joint.get("ref"))
    if np.any(_numbers(joint, "pos", 3)):
        raise refuse(f"{where}.pos", "0 0 0", joint.get("pos"))
    axis = _numbers(joint, "axis", 3) if joint.get("axis") else np.array([0.0, 0.0, 1.0])
    return np.asarray(axis / np.linalg.norm(axis))


@dataclass(frozen=True)
class Hinge:
    """A joint as it stands: `axis` (3,) in the base frame, and the ends that the MJCF gives it, rad."""

    axis: Vector
    lower_rad: float
    upper_rad: float

    @property
    def middle_rad(self) -> float:
        """Half way between its ends."""
        return 0.5 * (self.lower_rad + self.upper_rad)

    @property
    def width_rad(self) -> float:
        """From end to end."""
        return self.upper_rad - self.lower_rad

    @property
    def turning_round(self) -> "Hinge":
        """The same without ends, its middle kept."""
        return replace(self, lower_rad=self.middle_rad - np.pi, upper_rad=self.middle_rad + np.pi)

    @property
    def endless(self) -> bool:
        """Whether it turns all the way round, so that no ends can be felt."""
        return self.width_rad > FULL_TURN_RAD


def hinges(profile: ArmProfile, position: Vector | None = None) -> dict[str, Hinge]:
    """Find every joint's axis and ends, those beside the way to the tool among them.

    Args:
      profile: the arm.
      position: (J_all,) rad; None = the middle of every range.

    Raises:
      ValueError: a joint of the profile is not in the MJCF or has no range there, or the MJCF is not supported.
    """
    root = _read(profile.mjcf_path)
    ranges = {joint.get("name", ""): _numbers(joint, "range", 2) for joint in root.findall(".//worldbody//joint")}
    for joint in profile.joints:
        if joint.name not in ranges or not np.ptp(ranges[joint.name]):
            raise refuse(f"{profile.mjcf}: joint {joint.name}.range", "a range", ranges.get(joint.name))
    middle = [float(ranges[joint.name].mean()) for joint in profile.joints]
    names = [joint.name for joint in profile.joints]
    angles = dict(zip(names, middle if position is None else position, strict=True))
    found: dict[str, Hinge] = {}
    stack = [(body, np.eye(3)) for body in root.findall("./worldbody/body")]
    while stack:
        body, rotation = stack.pop()
        rotation = rotation @ _rotation(body)
        for element in body.findall("joint"):
            name, axis = element.get("name", ""), _axis(element, profile)
            found[name] = Hinge(rotation @ axis, *map(float, ranges[name]))
            rotation = rotation @ rodrigues(axis, angles.get(name, 0.0))
        stack += [(child, rotation) for child in body.findall("body")]
    return {name: found[name] for name in names}
