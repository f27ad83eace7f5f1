"""Simulated time is scaled, steady and bounded."""

import pytest

from mbrl_sim import sim_clock
from mbrl_sim.sim_clock import LONGEST_LAG_S, SimClock


class FakeTime:
    """A clock to turn by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(sim_clock, "time", fake)
    return fake


def test_time_is_scaled(real: FakeTime) -> None:
    clock = SimClock(5.0)
    real.now_s += 2.0
    assert clock.now() == pytest.approx(10.0)


def test_a_change_of_speed_makes_no_jump(real: FakeTime) -> None:
    clock = SimClock(5.0)
    real.now_s += 2.0
    clock.set_speed(1.0)
    assert clock.now() == pytest.approx(10.0)
    real.now_s += 1.0
    assert clock.now() == pytest.approx(11.0)


def test_a_stopped_process_loses_the_time(real: FakeTime) -> None:
    clock = SimClock(2.0)
    real.now_s += 60.0
    assert clock.catch_up(1.0) == pytest.approx(1.0 + 2.0 * LONGEST_LAG_S)
    real.now_s += 0.1
    assert clock.now() == pytest.approx(1.2 + 2.0 * LONGEST_LAG_S)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_speed_that_is_not_positive_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed: expected above 0"):
        SimClock(speed)
