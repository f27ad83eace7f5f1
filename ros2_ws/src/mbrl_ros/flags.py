"""Command-line flags from the frozen dataclasses: names, types, defaults and help texts are the dataclass's own.

A dataclass in a dataclass becomes a group: `--me-ppo.imagination.horizon 40`.
"""

import dataclasses
import typing
from typing import Annotated, Any, TypeVar

import tyro

from mbrl_core.config import from_mapping
from mbrl_ros.field_text import describe_field

T = TypeVar("T")


def flag_class(cls: type[T]) -> type:
    """A twin of the dataclass whose fields carry their meaning in the form that tyro shows."""
    hints = typing.get_type_hints(cls)
    fields = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        hint, default = hints[field.name], field.default
        if dataclasses.is_dataclass(hint):
            hint = flag_class(typing.cast(type, hint))
            default = _same(default, hint)
        hint = Annotated[hint, tyro.conf.arg(help=describe_field(field))]
        if default is dataclasses.MISSING:  # no default: a plain argument, not a flag
            hint = tyro.conf.Positional[hint]
        fields.append((field.name, hint, dataclasses.field(default=default)))
    namespace = {"__doc__": cls.__doc__}
    return dataclasses.make_dataclass(cls.__name__, fields, frozen=True, kw_only=True, namespace=namespace)


def _same(config: Any, twin: type) -> Any:
    """The values of a config in the twin of its dataclass."""
    hints = typing.get_type_hints(twin)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    nested = {name: _same(value, hints[name]) for name, value in values.items() if dataclasses.is_dataclass(value)}
    return twin(**values | nested)


def parse(cls: type[T], arguments: list[str], program: str) -> T:
    """Read arguments into the dataclass.

    Raises:
      ValueError: a value out of bounds.
      SystemExit: help was asked for (0), or an argument is not known (2).
    """
    flags = tyro.cli(flag_class(cls), args=arguments, prog=program, description=cls.__doc__)
    return from_mapping(cls, dataclasses.asdict(flags), program)
