"""What a config's field means, in one line for a person: the same under `--help` and `--show-args`."""

import dataclasses
from typing import Any


def describe_field(field: "dataclasses.Field[Any]") -> str:
    """Sentence, unit and bounds of a field made by `setting`."""
    meta = field.metadata
    bounds = [
        f"{word} {meta[key]}" for key, word in (("low", "at least"), ("high", "at most")) if meta[key] is not None
    ]
    if meta["one_of"]:
        bounds.append("one of " + ", ".join(meta["one_of"]))
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    return f"{meta['doc']}{unit}" + (f" ({', '.join(bounds)})" if bounds else "")
