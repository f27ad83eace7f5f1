"""A trouble with an arm, its bus or its computer, and what to do about it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One trouble.

    Attributes:
      kind: a short name for it, the same whatever the servo.
      text: what was found, and where.
      remedy: what to do.
      note: whether the arm works all the same.
    """

    kind: str
    text: str
    remedy: str
    note: bool = False
