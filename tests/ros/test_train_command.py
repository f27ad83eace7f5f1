"""`mbrl train` and `mbrl resume` on files: what a run leaves, and what it makes of a kill before its first step."""

import csv
import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mbrl_core.checkpoint import read_checkpoint, write_checkpoint
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


def test_where_demonstrations_lie_is_kept_for_a_resume_from_anywhere(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "episodes", tmp_path / "recorded")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(train_command, "_copy", stop)
        assert cli.run(["train", "--env", "Pendulum-v1", "--demonstrations", "recorded", "--out", "run"]) == 130
    monkeypatch.chdir("/")
    monkeypatch.setattr(train_command, "_carry_through", lambda config, training, out: 0)
    assert cli.run(["resume", str(tmp_path / "run")]) == 0
    assert len(Replay(None, demonstrations=tmp_path / "run" / DEMONSTRATIONS).demonstrations) == 2


def stop(*_):
    raise KeyboardInterrupt


def test_a_folder_that_holds_only_what_was_not_written_to_its_end_is_new(tmp_path, monkeypatch):
    (tmp_path / f"{train_command.CONFIG}.partial").write_text("{")
    monkeypatch.setattr(train_command, "_carry_through", lambda config, training, out: 0)
    assert cli.run(f"train --env Pendulum-v1 --out {tmp_path}".split()) == 0
    assert (tmp_path / train_command.CONFIG).is_file()


def test_two_processes_do_not_train_in_one_folder(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    holder = "import sys; from pathlib import Path; from mbrl_ros.train_command import alone_in\n"
    holder += "with alone_in(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert cli.run(["resume", str(tmp_path / "run")]) == 2
        other.stdin.close()
    assert "folder: expected one that no other process is training in, got" in capsys.readouterr().err
    assert cli.run(["resume", str(tmp_path / "run")]) == 0, "its end lets the folder go"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("{", "summary.json: expected JSON, got"), ("{}", "policy_version: expected a number, got {}")],
)
def test_a_damaged_summary_is_refused(trained, tmp_path, capsys, text, complaint):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run/summary.json").write_text(text)
    assert cli.run(["resume", str(tmp_path / "run")]) == 2
    assert complaint in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.run(f"train --env Pendulum-v1 --device cuda:99 --out {out}".split()) == 2
    assert "device: expected one that torch has here: cpu" in capsys.readouterr().err
    assert not out.exists()


def test_the_bundle_of_a_run_on_a_gpu_is_exported_without_one(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda:99"'))
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    gpu = {name: np.zeros(16, dtype=np.uint8) for name in checkpoint.arrays if name.endswith("generator")}
    assert len(gpu) == 2
    written = dataclasses.replace(checkpoint, arrays=checkpoint.arrays | gpu)  # a GPU's generator has 16 bytes
    write_checkpoint(tmp_path / "run" / "checkpoint.safetensors", written)
    assert cli.run(["resume", str(tmp_path / "run")]) == 2
    assert "device: expected one that torch has here: cpu" in capsys.readouterr().err
    for run, name in ((trained, "here.mbrl"), (tmp_path / "run", "there.mbrl")):
        assert cli.run(f"export --run {run} --out {tmp_path / name}".split()) == 0
    assert (tmp_path / "here.mbrl").read_bytes() == (tmp_path / "there.mbrl").read_bytes()
