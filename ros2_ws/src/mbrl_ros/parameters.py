"""ROS parameters from the frozen dataclasses: declared with default and sentence, read-only, unknown ones refused."""

import dataclasses
import typing
from typing import Any, TypeVar

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from mbrl_core.config import from_mapping, refuse

T = TypeVar("T")

# What rclpy itself, or launch, puts beside a node's own parameters.
FOREIGN = ("use_sim_time", "start_type_description_service")
FOREIGN_GROUPS = ("qos_overrides.",)


def read_parameters(node: Node, own: type[T], **groups: type) -> tuple[T, dict[str, Any]]:
    """Declare and read a node's own dataclass, and further ones whose parameters begin with `<group>.`.

    The node must have been made with `automatically_declare_parameters_from_overrides=True`.

    Raises:
      ValueError: an unknown parameter, a wrong type or a value out of bounds.
    """
    components = {"": own, **groups}
    fields = {name: _flatten(cls, f"{name}." if name else "") for name, cls in components.items()}
    known = {key for component in fields.values() for key in component}
    for name in sorted(node.get_parameters_by_prefix("")):
        if name not in known and name not in FOREIGN and not name.startswith(FOREIGN_GROUPS):
            raise refuse(f"{node.get_name()}.{name}", f"one of {sorted(known)}", name)
    configs = {name: _read(node, cls, name, fields[name]) for name, cls in components.items()}
    return configs.pop(""), configs


def _read(node: Node, cls: type, name: str, fields: "dict[str, dataclasses.Field[Any]]") -> Any:
    values: dict[str, Any] = {}
    for key, field in fields.items():
        _put(values, key.removeprefix(f"{name}.") if name else key, _value(node, key, field))
    return from_mapping(cls, values, f"{node.get_name()}.{name}" if name else node.get_name())


def _flatten(cls: type, prefix: str) -> dict[str, "dataclasses.Field[Any]"]:
    """Every leaf field by its dotted name."""
    flat = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            flat |= _flatten(typing.cast(type, hints[field.name]), f"{prefix}{field.name}.")
        else:
            flat[f"{prefix}{field.name}"] = field
    return flat


def _value(node: Node, name: str, field: "dataclasses.Field[Any]") -> Any:
    unit = field.metadata.get("unit", "")
    text = field.metadata.get("doc", "") + (f" [{unit}]" if unit else "")
    descriptor = ParameterDescriptor(description=text, read_only=True, dynamic_typing=True)
    if node.has_parameter(name):
        node.set_descriptor(name, descriptor)
    else:
        node.declare_parameter(name, field.default, descriptor)
    value = node.get_parameter(name).value
    return list(value) if isinstance(field.default, tuple) else value


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, leaf = name.split(".")
    for group in groups:
        values = values.setdefault(group, {})
    values[leaf] = value
