"""`mbrl retask` and `mbrl resume` on files: what is refused of an earlier run, and that a kill changes nothing."""

import json
import shutil

import pytest

from mbrl_ros import cli, retask_command
from mbrl_ros.train_view import TrainView

STILL = "def reward(obs, action, next_obs):\n    return -next_obs[..., 2] ** 2\n"


@pytest.fixture
def reward(tmp_path):
    """A file with a reward for standing still."""
    path = tmp_path / "mine.py"
    path.write_text(STILL)
    return path


def command(run, reward, out, seed=0):
    return f"retask --run {run} --reward {reward}:reward --out {out} --rounds 2 --seed {seed}".split()


def stop(*_):
    raise KeyboardInterrupt


def without_times(out):
    summary = json.loads((out / "summary.json").read_text())
    return {name: value for name, value in summary.items() if not name.endswith("_s")}


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(trained, reward, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.run([*command(trained, reward, out), "--device", "cuda:99"]) == 2
    assert "device: expected one that torch has here: cpu" in capsys.readouterr().err
    assert not out.exists()


def test_a_killed_retask_that_is_resumed_ends_like_one_that_was_not(trained, reward, tmp_path, monkeypatch):
    straight, broken, shown = tmp_path / "straight", tmp_path / "broken", TrainView.round
    assert cli.run(command(trained, reward, straight)) == 0
    with monkeypatch.context() as patch:
        patch.setattr(TrainView, "round", lambda view, row: stop() if row["round"] == 2 else shown(view, row))
        assert cli.run(command(trained, reward, broken)) == 130
    assert not (broken / "summary.json").exists()
    assert cli.run(["resume", str(broken)]) == 0
    assert without_times(broken) == without_times(straight)
    assert (broken / "policy.mbrl").read_bytes() == (straight / "policy.mbrl").read_bytes()


def test_a_retask_that_was_killed_before_its_first_round_keeps_its_reward(
    trained, reward, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(retask_command, "_carry_through", stop)
        assert cli.run(command(trained, reward, out)) == 130
    assert not (out / "checkpoint.safetensors").exists()
    monkeypatch.setattr(retask_command, "_carry_through", lambda *_: 0)
    reward.write_text("raise RuntimeError('a file that was changed is not executed')")
    assert cli.run(["resume", str(out)]) == 2
    assert f"reward: {reward}:reward: sha256: expected " in capsys.readouterr().err
    reward.write_text(STILL)
    assert cli.run(["resume", str(out)]) == 0


def with_setting(trained, folder, part, **values):
    """A copy of the run as if it had been made with another setting."""
    shutil.copytree(trained, folder)
    config = json.loads((folder / "config.json").read_text())
    first, second = part
    config["settings"]["me_ppo"][first][second] |= values
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_bonus_in_spreads_of_the_earlier_rewards_is_refused_until_it_has_ended(
    trained, reward, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(retask_command, "_carry_through", lambda *_: 0)
    bonus = ("imagination", "bonus")
    paid = with_setting(trained, tmp_path / "paid", bonus, weight=0.5, anneal_steps=101)
    assert cli.run(command(paid, reward, tmp_path / "new")) == 2
    error = capsys.readouterr().err
    assert "run: me_ppo.imagination.bonus: expected a run of at least 101 real steps, " in error
    assert error.endswith("got 100\n")
    assert not (tmp_path / "new").exists()
    ended = with_setting(trained, tmp_path / "ended", bonus, weight=0.5, anneal_steps=100)
    assert cli.run(command(ended, reward, tmp_path / "new")) == 0


def test_a_policy_for_another_reward_is_counted_by_it_where_that_is_asked_for(trained, reward, tmp_path, capsys):
    assert cli.run(command(trained, reward, tmp_path / "new")) == 0
    summary = json.loads((tmp_path / "new/summary.json").read_text())
    evaluation = (
        f"eval --bundle {tmp_path / 'new/policy.mbrl'} --env Pendulum-v1 --episodes 2 --episode-steps 50".split()
    )
    capsys.readouterr()
    assert cli.run(evaluation) == 0
    shown = capsys.readouterr().out
    assert "by the environment's own reward" in shown
    assert "The policy is for another: mine.py:reward, sha256" in shown
    assert cli.run([*evaluation, "--reward", f"{reward}:reward"]) == 0
    shown = capsys.readouterr().out
    assert "is for another" not in shown
    assert f"{summary['eval_return_mean']:.2f}" in shown
