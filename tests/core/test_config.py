from dataclasses import dataclass

import pytest

from mbrl_core.config import from_mapping, setting


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate_hz: float = setting(10.0, doc="a rate", unit="Hz", low=1, high=100)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = setting(doc="required")
    count: int = setting(3, doc="a count", low=0)
    kind: str = setting("a", doc="a choice", one_of=("a", "b"))
    flag: bool = setting(False, doc="a flag")
    maybe: float | None = setting(None, doc="an option", low=0)
    widths: tuple[int, ...] = setting((1, 2), doc="several", low=1)
    inner: Inner = setting(Inner(), doc="nested")
    many: tuple[Inner, ...] = setting((), doc="several nested")


def test_defaults_stand_where_nothing_is_given():
    assert from_mapping(Outer, {"name": "x"}) == Outer(name="x")


def test_nested_values_are_read():
    outer = from_mapping(
        Outer, {"name": "x", "inner": {"rate_hz": 20}, "widths": [4], "many": [{"rate_hz": 2}], "maybe": 1}
    )
    assert outer.inner == Inner(rate_hz=20.0)
    assert isinstance(outer.inner.rate_hz, float) and isinstance(outer.maybe, float)
    assert outer.widths == (4,)
    assert outer.many == (Inner(rate_hz=2.0),)


def test_what_a_group_does_not_name_is_as_its_own_fields_default_says():
    @dataclass(frozen=True, kw_only=True)
    class Two:
        rate_hz: float = setting(10.0, doc="a rate", unit="Hz")
        limit: int = setting(1, doc="a count")

    @dataclass(frozen=True, kw_only=True)
    class Group:
        two: Two = setting(Two(rate_hz=50.0, limit=2), doc="not as the class says")

    @dataclass(frozen=True, kw_only=True)
    class Whole:
        group: Group = setting(Group(two=Two(rate_hz=70.0)), doc="two deep")

    assert from_mapping(Group, {"two": {"limit": 3}}) == Group(two=Two(rate_hz=50.0, limit=3))
    assert from_mapping(Whole, {"group": {"two": {"limit": 3}}}) == Whole(group=Group(two=Two(rate_hz=70.0, limit=3)))
    assert from_mapping(Whole, {"group": {}}) == Whole()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "Outer.name: expected a value, got 'nothing'"),
        ({"name": "x", "nmae": 1}, "Outer.nmae: expected one of .*, got 'nmae'"),
        ({"name": 5}, "Outer.name: expected str, got 5"),
        ({"name": "x", "count": -1}, "Outer.count: expected at least 0, got -1"),
        ({"name": "x", "count": 1.5}, "Outer.count: expected int, got 1.5"),
        ({"name": "x", "count": True}, "Outer.count: expected int, got True"),
        ({"name": "x", "flag": 1}, "Outer.flag: expected bool, got 1"),
        ({"name": "x", "kind": "c"}, r"Outer.kind: expected one of \['a', 'b'\], got 'c'"),
        ({"name": "x", "widths": 3}, "Outer.widths: expected a list, got 3"),
        ({"name": "x", "widths": [0]}, "Outer.widths: expected at least 1, got 0"),
        ({"name": "x", "widths": ["1"]}, r"Outer.widths\[0\]: expected int, got '1'"),
        ({"name": "x", "inner": 3}, "Outer.inner: expected a mapping, got 3"),
        ({"name": "x", "inner": {"rate_hz": 200}}, "Outer.inner.rate_hz: expected at most 100, got 200"),
        ({"name": "x", "inner": {"rate_hz": float("nan")}}, "rate_hz: expected a finite number, got nan"),
        ({"name": "x", "many": [{"rate": 1}]}, r"Outer.many\[0\].rate: expected one of"),
        ([], r"Outer: expected a mapping, got \[\]"),
    ],
)
def test_what_is_wrong_is_refused_by_field(mapping, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(Outer, mapping)
