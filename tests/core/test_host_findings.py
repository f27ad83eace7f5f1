"""The wall's clock, which recordings carry: one that jumps is told from one that is slewed."""

import time

import pytest

from mbrl_core.host_findings import EARLIEST_S, ClockWatch


@pytest.fixture
def wall(monkeypatch):
    """Sets how far the wall's clock is from where it was."""
    shift, true = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: true() + shift[0])
    return shift


@pytest.mark.parametrize("step_s", [0.3, -2.0])
def test_a_clock_that_is_set_meanwhile_is_named_with_how_far(wall, step_s):
    watch = ClockWatch()
    wall[0] = step_s
    (finding,) = watch.findings()
    assert finding.kind == "clock"
    assert f"was set by {step_s:+.2f} s" in finding.text
    assert "chrony" in finding.remedy


def test_a_clock_that_is_slewed_is_in_order(wall):
    watch = ClockWatch()
    wall[0] = 0.001
    assert not list(watch.findings())


def test_a_clock_that_was_never_set_is_named_with_its_date(wall):
    wall[0] = EARLIEST_S - 365 * 86_400 - time.time()
    (finding,) = ClockWatch().findings()
    assert (finding.kind, finding.text) == ("clock", "the clock says 2023-01-01")
    assert "set-ntp" in finding.remedy
