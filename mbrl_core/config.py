"""One frozen dataclass per component holds its only defaults; this file gives its fields unit, bounds and a sentence.

ROS parameters, command-line flags and YAML files are all read into such dataclasses, and all are checked here.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    one_of: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field with its meaning as metadata; without a default the field is required."""
    metadata = {"doc": doc, "unit": unit, "low": low, "high": high, "one_of": one_of}
    return dataclasses.field(default=default, metadata=metadata)


def refuse(field: str, expected: object, got: object) -> ValueError:
    """Return the error that every refusal of bad input raises: field, expected, got."""
    return ValueError(f"{field}: expected {expected}, got {got!r}")


def check(config: T, where: str = "") -> T:
    """Return the config unchanged, or raise ValueError for its first field that is out of bounds or of a wrong type."""
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        name = f"{where or type(config).__name__}.{field.name}"
        _check_value(name, getattr(config, field.name), field.metadata)
    return config


def from_mapping(cls: type[T], mapping: Any, where: str = "", base: T | None = None) -> T:
    """Build a config from parsed YAML or JSON; what is missing in a group is as in the default of that group's field.

    Args:
      cls: what is built.
      mapping: its fields by name.
      where: name of the whole in errors.
      base: has what the mapping does not name; the class's own defaults if absent.

    Raises:
      ValueError: not a mapping, an unknown key, a missing key, a wrong type or a value out of bounds.
    """
    where = where or cls.__name__
    if not isinstance(mapping, Mapping):
        raise refuse(where, "a mapping", mapping)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(mapping) - set(fields))
    if unknown:
        raise refuse(f"{where}.{unknown[0]}", f"one of {sorted(fields)}", unknown[0])
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        default = field.default if base is None else getattr(base, name)
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], f"{where}.{name}", default)
        elif base is not None:
            values[name] = default
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise refuse(f"{where}.{name}", "a value", "nothing")
    return check(cls(**values), where)


def _convert(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    """Convert a parsed value to the annotated type without repairing it: only int to float is widened."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        return None if value is None else _convert(inner, value, where, default)
    if dataclasses.is_dataclass(hint):
        base = default if dataclasses.is_dataclass(default) else None
        return from_mapping(typing.cast(type, hint), value, where, base)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise refuse(where, "a list", value)
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise refuse(where, hint.__name__, value)
    return value


def _check_value(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
    items = value if isinstance(value, tuple) else (value,)
    low, high, one_of = metadata.get("low"), metadata.get("high"), metadata.get("one_of")
    for item in items:
        if isinstance(item, float) and not math.isfinite(item):
            raise refuse(name, "a finite number", item)
        if low is not None and item is not None and item < low:
            raise refuse(name, f"at least {low}", item)
        if high is not None and item is not None and item > high:
            raise refuse(name, f"at most {high}", item)
        if one_of and item not in one_of:
            raise refuse(name, f"one of {list(one_of)}", item)
