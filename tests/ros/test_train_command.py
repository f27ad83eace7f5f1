"""`mbrl train` and `mbrl resume` on files: what a run leaves, and what it makes of a kill before its first step."""

import csv
import shutil

import pytest

from mbrl_core.demonstrations import DEMONSTRATIONS
from mbrl_core.replay import Replay
from mbrl_ros import cli, train_command


def test_every_round_is_a_point_of_each_curve_in_tensorboard(trained):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    with (trained / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for name in ("collected_return", "holdout_loss", "imagined_steps"):
        points = events.Scalars(name)
        assert [point.step for point in points] == [50, 100]
        assert [point.value for point in points] == pytest.approx([float(row[name]) for row in rows])


@pytest.mark.parametrize("copied", [0, 1])
def test_a_run_that_was_killed_among_its_demonstrations_begins_with_all_of_them(copied, trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "episodes", tmp_path / "recorded")
    out, add = tmp_path / "run", Replay.add_demonstration

    def killed(replay, episode):
        if len(replay.demonstrations) == copied:
            raise KeyboardInterrupt
        return add(replay, episode)

    with monkeypatch.context() as patch:
        patch.setattr(Replay, "add_demonstration", killed)
        assert cli.run(f"train --env Pendulum-v1 --demonstrations {tmp_path / 'recorded'} --out {out}".split()) == 130
    begun = []
    monkeypatch.setattr(train_command, "_carry_through", lambda config, training, out: begun.append(training) or 0)
    assert cli.run(["resume", str(out)]) == 0
    assert len(Replay(out / "episodes", demonstrations=out / DEMONSTRATIONS).demonstrations) == 2
    shutil.rmtree(tmp_path / "recorded")
    assert cli.run(["resume", str(out)]) == 0, "its own copy is enough from now on"
    assert len(begun) == 2
