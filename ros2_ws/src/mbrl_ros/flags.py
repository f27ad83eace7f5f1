"""Command-line flags from the frozen dataclasses: names, types, defaults and help texts are the dataclass's own."""

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
        hint: Any = Annotated[hints[field.name], tyro.conf.arg(help=describe_field(field))]
        if field.default is dataclasses.MISSING:  # no default: a plain argument, not a flag
            hint = tyro.conf.Positional[hint]
        fields.append((field.name, hint, dataclasses.field(default=field.default)))
    namespace = {"__doc__": cls.__doc__}
    return dataclasses.make_dataclass(cls.__name__, fields, frozen=True, kw_only=True, namespace=namespace)


def parse(cls: type[T], arguments: list[str], program: str) -> T:
    """Read arguments into the dataclass.

    Raises:
      ValueError: a value out of bounds.
      SystemExit: help was asked for (0), or an argument is not known (2).
    """
    flags = tyro.cli(flag_class(cls), args=arguments, prog=program, description=cls.__doc__)
    return from_mapping(cls, dataclasses.asdict(flags), program)
