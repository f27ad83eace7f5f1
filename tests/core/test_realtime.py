import gc
import os
import threading

import pytest

from mbrl_core.robots.realtime import ask_for_realtime, settle_memory


def test_granted_or_refused_with_the_remedy() -> None:
    """On a thread of its own, which takes its policy with it when it ends."""
    seen: list[tuple[str, int]] = []
    thread = threading.Thread(target=lambda: seen.append((ask_for_realtime(10), os.sched_getscheduler(0))))
    thread.start()
    thread.join()
    why_not, policy = seen[0]
    assert (policy == os.SCHED_FIFO) == (why_not == "")


def test_refusal_is_told_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    assert "Operation not permitted): give the user an rtprio limit of 50" in ask_for_realtime()


def test_what_was_there_before_is_looked_at_no_more_and_what_comes_after_is() -> None:
    before = [[] for _ in range(1000)]
    settle_memory()
    try:
        after: list[object] = [[]]
        looked_at = {id(thing) for thing in gc.get_objects()}
        assert not any(id(thing) in looked_at for thing in before)
        assert id(after) in looked_at
    finally:
        gc.unfreeze()
