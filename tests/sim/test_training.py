"""A whole run, small: what it leaves, and that a run which was killed ends like one that was not."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from mbrl_core.actor import Actor
from mbrl_core.algorithms.mb_mpo import MbMpoConfig, mb_mpo
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.bundle import Bundle
from mbrl_core.checkpoint import read_checkpoint, write_checkpoint
from mbrl_core.demonstrations import DEMONSTRATIONS, begin_with, read_demonstrations
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.replay import Replay
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_collect import run_episode
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import BUNDLE, CHECKPOINT, PROGRESS, SUMMARY, Budget, Schedule, Training, check_budget

PARTS = {
    "iterations": 5,
    "ensemble": EnsembleConfig(hidden=(16,), max_steps=50),
    "imagination": ImaginationConfig(rollouts=25, horizon=10),
    "validation": ValidationConfig(goals=5, horizon=20, ratio=0.4),
}
METHODS = {"me-ppo": (me_ppo, MePpoConfig(**PARTS)), "mb-mpo": (mb_mpo, MbMpoConfig(**PARTS))}
SCHEDULE = Schedule(random_steps=60, round_steps=60, holdout_block=10, eval_episodes=2, curve_episodes=1)


class KilledError(Exception):
    """As if the process had been."""


class Silent:
    """Watches; may end the run at an event."""

    def __init__(self, kill=None, at=0):
        self.kill, self.at = kill, at

    def episode(self, episode, real_steps):
        if self.kill == "episode" and real_steps == self.at:
            raise KilledError

    def round(self, row):
        if self.kill == "round" and row["real_steps"] == self.at:
            raise KilledError


def training(out, env="Pendulum-v1", steps=240, seed=0, algorithm="me-ppo", schedule=SCHEDULE):
    made = open_environment(env, episode_steps=60)
    task = GymTask(made)
    method, config = METHODS[algorithm]
    budget = Budget(env=env, algorithm=algorithm, steps=steps, seed=seed)
    return Training(made, task, method(task, config, seed=seed), out, budget, schedule)


def without_times(out):
    summary = json.loads((out / SUMMARY).read_text())
    with (out / PROGRESS).open() as file:
        rows = list(csv.DictReader(file))
    for row in (summary, *rows):
        for name in [name for name in row if name.endswith("_s")]:
            del row[name]
    return summary, rows, (out / BUNDLE).read_bytes() if (out / BUNDLE).exists() else b""


def test_a_run_leaves_what_it_should(tmp_path):
    summary = training(tmp_path).run(Silent())
    assert summary == json.loads((tmp_path / SUMMARY).read_text())
    assert {"env", "algorithm", "seed", "real_steps", "wall_s", "zero_return", "random_return"} <= set(summary)
    assert {"eval_return_mean", "eval_return_std", "eval_return_min"} <= set(summary)
    assert summary["real_steps"] == 240
    assert summary["eval_return_min"] <= summary["eval_return_mean"] < 0
    assert Bundle.load(tmp_path / BUNDLE).version == summary["policy_version"] > 0
    _, rows, _ = without_times(tmp_path)
    assert [int(row["real_steps"]) for row in rows] == [60, 120, 180, 240]


def test_a_milestone_is_what_a_run_of_that_budget_comes_to(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, milestones=(180, 60))
    long = training(tmp_path / "long", schedule=schedule).run(Silent())
    short = training(tmp_path / "short", steps=180).run(Silent())
    assert [passed["milestone"] for passed in long["milestones"]] == [60, 180]
    measured = [name for name in long["milestones"][1] if name not in ("milestone", "wall_s")]
    assert {"eval_return_mean", "real_steps", "policy_version"} <= set(measured)
    assert {name: long["milestones"][1][name] for name in measured} == {name: short[name] for name in measured}


def test_a_round_is_due_at_a_milestone_and_a_killed_run_keeps_those_that_it_has_passed(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, round_steps=120, milestones=(60, 180))
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    training(straight, schedule=schedule).run(Silent())
    with pytest.raises(KilledError):
        training(broken, schedule=schedule).run(Silent("episode", 240))
    training(broken, schedule=schedule).run(Silent())
    summary, rows, _ = without_times(broken)
    assert [int(row["real_steps"]) for row in rows] == [60, 180, 240]
    whole, rows_of_whole, _ = without_times(straight)
    for milestone in (*summary["milestones"], *whole["milestones"]):
        del milestone["wall_s"]
    assert (summary, rows) == (whole, rows_of_whole)


KILLS = [("episode", 60), ("episode", 180), ("round", 60), ("round", 180)]


@pytest.mark.parametrize(("kill", "at", "algorithm"), [*((*kill, "me-ppo") for kill in KILLS), (*KILLS[-1], "mb-mpo")])
def test_a_killed_run_that_is_resumed_ends_like_one_that_was_not(tmp_path, kill, at, algorithm):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    training(straight, algorithm=algorithm).run(Silent())
    with pytest.raises(KilledError):
        training(broken, algorithm=algorithm).run(Silent(kill, at))
    (broken / f"{CHECKPOINT}.partial").write_bytes(b"torn")
    training(broken, algorithm=algorithm).run(Silent())
    assert without_times(broken) == without_times(straight)


def test_a_run_of_a_version_that_reported_less_is_resumed(tmp_path):
    training(tmp_path, steps=60).run(Silent())
    checkpoint = read_checkpoint(tmp_path / CHECKPOINT)
    for row in checkpoint.facts["run"]["rows"]:
        del row["truncated_share"]
    write_checkpoint(tmp_path / CHECKPOINT, checkpoint)
    training(tmp_path, steps=120).run(Silent())
    rows = without_times(tmp_path)[1]
    assert [row["truncated_share"] for row in rows] == ["", "0.0"]


def test_same_seed_same_curve_and_another_seed_another(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        training(tmp_path / name, steps=120, seed=seed).run(Silent())
    one, again, other = (without_times(tmp_path / name)[1] for name in ("one", "again", "other"))
    assert one == again != other


def test_every_step_is_counted_and_the_budget_is_kept_exactly(tmp_path):
    run = training(tmp_path, env="InvertedPendulum-v5", steps=130)
    summary = run.run(Silent())
    assert summary["real_steps"] == run.real_steps == 130
    with (tmp_path / PROGRESS).open() as file:
        assert [row["real_steps"] for row in csv.DictReader(file)][-1] == "130"


def test_an_episode_that_the_budget_cut_has_no_share_in_what_was_collected(tmp_path):
    training(tmp_path, steps=150).run(Silent())
    episodes = Replay(tmp_path / "episodes").collected
    assert [episode.steps for episode in episodes] == [60, 60, 30]
    rows = without_times(tmp_path)[1]
    returns = [episode.episode_return for episode in episodes]
    assert [float(row["collected_return"]) for row in rows] == pytest.approx(returns), "a round that has no other"
    schedule = dataclasses.replace(SCHEDULE, round_steps=90)
    training(tmp_path / "longer", steps=150, schedule=schedule).run(Silent())
    rows = without_times(tmp_path / "longer")[1]
    assert [int(row["real_steps"]) for row in rows] == [60, 150]
    second = Replay(tmp_path / "longer/episodes").collected[1]
    assert float(rows[1]["collected_return"]) == pytest.approx(second.episode_return)


def test_the_first_round_waits_until_there_is_something_to_hold_out(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, random_steps=1, holdout_block=40)
    training(tmp_path, env="InvertedPendulum-v5", steps=130, schedule=schedule).run(Silent())
    rows = without_times(tmp_path)[1]
    assert 40 < int(rows[0]["real_steps"]) < 110
    assert not any(row["problem"] for row in rows)


def test_the_policies_of_the_members_collect_in_turn(tmp_path, monkeypatch):
    acted, adapted = [], []

    class Noted(Actor):
        def __init__(self, bundle):
            super().__init__(bundle)
            self.theta = bundle.theta

    def collect(env, task, actor, **rest):
        if rest.get("budget"):  # an episode that is learned from
            acted.append(getattr(actor, "theta", None))
        return run_episode(env, task, actor, **rest)

    class Keeps(Silent):
        """After every round, and so before every episode but the first."""

        def round(self, row):
            adapted.append([run._learner.bundle(member).theta for member in range(5)])

    monkeypatch.setattr("mbrl_sim.training.Actor", Noted)
    monkeypatch.setattr("mbrl_sim.training.run_episode", collect)
    run = training(tmp_path, steps=480, algorithm="mb-mpo")
    run.run(Keeps())
    assert [episode.member for episode in Replay(tmp_path / "episodes").collected] == [-1, 1, 2, 3, 4, 0, 1, 2]
    assert all(np.array_equal(acted[index], adapted[index - 1][index % 5]) for index in range(1, 8))
    assert all(len({theta.tobytes() for theta in thetas}) == 5 for thetas in adapted)


def test_a_reward_and_an_end_that_are_learned_are_imagined(tmp_path):
    run = training(tmp_path, env="Hopper-v5", steps=120)
    run.run(Silent())
    assert run.rows
    for row in run.rows:
        assert not row["problem"]
        assert 0 < row["imagined_steps"] < 5 * 25 * 10, "iterations * rollouts * horizon, but that rollouts end"
        assert row["imagined_return"] != 0.0, "all that is known of the reward"


def test_a_world_in_which_random_actions_fall_at_once_is_imagined(tmp_path):
    run = training(tmp_path, env="InvertedDoublePendulum-v5", steps=240)
    run.run(Silent())
    assert [row["problem"] for row in run.rows] == [""] * len(run.rows), "models of a fall diverge beyond it"
    assert run.rows[-1]["imagined_steps"] > 0


ADAPTED = ("adapted_return_mean", "adapted_return_std", "adapted_return_min", "inner_kl", "inner_gradient_norm")


def test_a_method_with_an_inner_step_adapts_to_real_episodes_after_training(tmp_path):
    schedule = dataclasses.replace(SCHEDULE, adaptation_episodes=3)
    summary = training(tmp_path, algorithm="mb-mpo", schedule=schedule).run(Silent())
    assert summary["real_steps"] == 240
    assert summary["adaptation_steps"] == 3 * 60, "beside the budget, and counted"
    assert all(np.isfinite(summary[name]) for name in ADAPTED)
    assert summary["inner_kl"] > 0
    assert summary["adapted_return_mean"] != summary["eval_return_mean"]
    _, rows, _ = without_times(tmp_path)
    assert all(float(row["inner_kl"]) > 0 for row in rows)
    assert len(list((tmp_path / "episodes").iterdir())) == 4, "nothing learns from the adaptation's episodes"


@pytest.mark.parametrize(("algorithm", "episodes"), [("me-ppo", 5), ("mb-mpo", 0)])
def test_without_an_inner_step_or_episodes_nothing_adapts(tmp_path, algorithm, episodes):
    schedule = dataclasses.replace(SCHEDULE, adaptation_episodes=episodes)
    summary = training(tmp_path, steps=60, algorithm=algorithm, schedule=schedule).run(Silent())
    assert summary["adaptation_steps"] == 0
    assert all(summary[name] is None for name in ADAPTED)


@pytest.fixture
def shown(tmp_path):
    """Two episodes of an earlier run with the same seed."""
    with pytest.raises(KilledError):
        training(tmp_path / "earlier").run(Silent("episode", 120))
    return read_demonstrations(tmp_path / "earlier", GymTask(open_environment("Pendulum-v1")))


def begin(out, shown):
    begin_with(Replay(out / "episodes", demonstrations=out / DEMONSTRATIONS), shown)
    return training(out, steps=120)


def test_demonstrations_are_learned_from_and_are_no_real_steps(tmp_path, shown):
    run = begin(tmp_path / "run", shown)
    summary = run.run(Silent())
    assert (summary["real_steps"], summary["demonstration_steps"]) == (120, 120)
    replay = Replay(tmp_path / "run/episodes", demonstrations=tmp_path / "run" / DEMONSTRATIONS)
    returns = [episode.episode_return for episode in replay.collected]
    assert [row["real_steps"] for row in run.rows] == [60, 120]
    assert [row["episodes"] for row in run.rows] == [1, 2]
    assert [row["collected_return"] for row in run.rows] == pytest.approx(returns)
    assert not replay.collected[0].policy_versions.any(), "random steps come first all the same"
    without = training(tmp_path / "without", steps=120)
    without.run(Silent())
    assert run.rows[0]["holdout_loss"] != without.rows[0]["holdout_loss"]


def test_a_run_does_not_collect_its_demonstrations_again(tmp_path, shown):
    begin(tmp_path / "run", shown).run(Silent())
    replay = Replay(tmp_path / "run/episodes", demonstrations=tmp_path / "run" / DEMONSTRATIONS)
    starts = {episode.states[0].tobytes() for episode in replay.episodes}
    assert len(starts) == len(replay.episodes) == 4


@pytest.mark.parametrize(("kill", "at"), [("episode", 60), ("round", 60)])
def test_a_killed_run_with_demonstrations_goes_on_from_its_own_folder_alone(tmp_path, shown, kill, at):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    begin(straight, shown).run(Silent())
    shutil.rmtree(tmp_path / "earlier")
    with pytest.raises(KilledError):
        begin(broken, shown).run(Silent(kill, at))
    training(broken, steps=120).run(Silent())
    assert without_times(broken) == without_times(straight)


def test_demonstrations_that_are_gone_are_noticed(tmp_path, shown):
    begin(tmp_path / "run", shown).run(Silent())
    shutil.rmtree(tmp_path / "run" / DEMONSTRATIONS)
    with pytest.raises(ValueError, match="demonstrations: steps: expected 120, got 0"):
        training(tmp_path / "run", steps=120)


def test_a_budget_below_one_episode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="steps: expected at least 60, one episode of Pendulum-v1, got 59"):
        training(tmp_path / "run", steps=59)
    assert not (tmp_path / "run").exists()


def test_a_budget_that_leaves_nothing_to_learn_from_or_to_hold_out_is_refused():
    short = GymTask(open_environment("Pendulum-v1", episode_steps=10))
    with pytest.raises(ValueError, match="steps: expected more than schedule.holdout_block, 20, got 20"):
        check_budget(20, Schedule(), short)
    check_budget(21, Schedule(), short)


@pytest.mark.parametrize("milestone", [240, 300])
def test_a_milestone_that_is_not_below_the_budget_is_refused(tmp_path, milestone):
    schedule = dataclasses.replace(SCHEDULE, milestones=(60, milestone))
    with pytest.raises(ValueError, match=f"schedule.milestones: expected below 240, the budget, got {milestone}"):
        training(tmp_path / "run", schedule=schedule)
    assert not (tmp_path / "run").exists()


def test_episodes_that_are_gone_are_noticed(tmp_path):
    training(tmp_path).run(Silent())
    shutil.rmtree(tmp_path / "episodes")
    with pytest.raises(ValueError, match="episodes: steps: expected at least 240, got 0"):
        training(tmp_path)
