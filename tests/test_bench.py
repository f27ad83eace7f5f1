"""What the programs in bench/ compute before and after their runs."""

import dataclasses
import importlib
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes.point_task import PointTask, point_episode

from mbrl_core.adapter import Adapter
from mbrl_core.algorithms.me_ppo import MePpoConfig, me_ppo
from mbrl_core.algorithms.validation import ValidationConfig
from mbrl_core.models.ensemble import EnsembleConfig
from mbrl_core.models.imagination import ImaginationConfig
from mbrl_core.replay import Replay

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))  # they are programs, not a package
adaptation, adaptation_results, exploration, kept_results, learning = (
    importlib.import_module(name)
    for name in ("adaptation", "adaptation_results", "exploration", "kept_results", "learning")
)
model_bias, model_error, robustness, sac, training_runs = (
    importlib.import_module(name) for name in ("model_bias", "model_error", "robustness", "sac", "training_runs")
)
PLAIN = {"eval_return_mean": -4.0, "wall_s": 90.0, "zero_return": -12.0, "random_return": -43.0}
ADAPTED = PLAIN | {"adapted_return_mean": -3.5, "inner_kl": 0.0123}


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py")))
def test_everything_that_a_program_imports_is_there(name):
    importlib.import_module(name)


@pytest.mark.parametrize("number, text", [(None, "none"), (0.456, "0.46"), (-151.26, "-151.3"), (12345.6, "12,346")])
def test_numbers_have_the_places_that_their_size_needs(number, text):
    assert training_runs.number(number) == text


def test_the_inner_step_is_shown_where_there_is_one():
    assert training_runs.inner_cells([ADAPTED, ADAPTED | {"adapted_return_mean": -2.5}]) == ["-4.00 / -3.00", "0.012"]
    assert training_runs.inner_cells([PLAIN, PLAIN | {"adapted_return_mean": None}]) == ["none", "none"]


def test_a_seed_without_a_policy_has_no_share_in_the_mean():
    assert training_runs.return_cells([PLAIN, PLAIN | {"eval_return_mean": None}]) == ["-4.00", "0.00", "-4.00"]
    assert training_runs.return_cells([PLAIN | {"eval_return_mean": None}]) == ["none"] * 3


def run_folder(folder, commit, summary):
    """What the programs read of a run."""
    made = {"versions": {"numpy": "2"}, "machine": {"cpu": "X", "cores": 2, "system": "Linux"}, "commit": commit}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"made_with": made}))
    names = ("real_steps", "wall_s", "curve_return_mean", "curve_return_min", "collected_return", "imagined_return")
    (folder / "progress.csv").write_text(",".join(names) + "\n200,9.5,,,-30.5,-8.0\n")
    return summary | {"env": "Reacher-v5", "algorithm": "mb-mpo"}


def test_results_outlive_the_folders_of_their_runs(tmp_path):
    results = kept_results.KeptResults(tmp_path / "kept")
    for seed, (commit, summary) in enumerate(
        (("0123456789abc-dirty", PLAIN), ("fedcba987654", ADAPTED), (None, PLAIN))
    ):
        folder = tmp_path / str(seed)
        results.add("reach", 200, seed, run_folder(folder, commit, summary), folder)
        shutil.rmtree(folder)
    results.save()
    again = kept_results.KeptResults(tmp_path / "kept")
    assert again.has("reach", 200, 2)
    assert not again.has("reach", 200, 3)
    assert not again.has("reach", 100, 2)
    found = again.summaries("reach", 200, 5)
    assert [one["eval_return_mean"] for one in found] == [-4.0, -4.0, -4.0]
    assert [one["inner_kl"] for one in found] == [None, 0.0123, None]
    assert training_runs.commits(found) == "0123456-dirty, fedcba9, unknown"
    assert training_runs.made_with_lines(found) == "2 cores of X, Linux; numpy 2.\n"
    again.save()
    assert (tmp_path / "kept/curves.csv").read_text().splitlines()[
        1
    ] == "reach,Reacher-v5,mb-mpo,0,200,9.5,,,-30.5,-8.0"
    assert len((tmp_path / "kept/curves.csv").read_text().splitlines()) == 4


def test_rows_that_differ_in_their_steps_are_one_run():
    two = [row for row in learning.ROWS if (row.env, row.algorithm) == ("Reacher-v5", "mb-mpo")]
    assert [row.steps for row in two] == [5_000, 20_000]
    assert two[0].spec == two[1].spec
    assert two[0].spec.steps == 20_000
    assert dict(two[0].spec.flags)["schedule.milestones"] == (5_000,)
    summary = {
        "steps": 20_000,
        "eval_return_mean": -4.0,
        "milestones": [{"milestone": 5_000, "eval_return_mean": -5.0}],
    }
    assert [row.at_its_steps(summary)["eval_return_mean"] for row in two] == [-5.0, -4.0]


def test_every_row_and_case_is_a_run_that_can_begin():
    for row in learning.ROWS:
        settings = training_runs.settings(row.spec, 3, Path("folder"))
        assert (settings.env, settings.algorithm, settings.seed) == (row.env, row.algorithm, 3)

    for method in robustness.METHODS:
        case = robustness.Case(env="Reacher-v5", algorithm=method, bias=0.5, noise=0.1, steps=50)
        settings = training_runs.settings(case.spec, 0, Path("folder"))
        perturbation = getattr(settings, method.replace("-", "_")).ensemble.perturbation
        assert (perturbation.bias, perturbation.noise) == (0.5, 0.1)


def test_lines_have_a_cell_for_every_heading():
    case, made = robustness.Case(env="Reacher-v5", algorithm="mb-mpo", bias=0.5, noise=0.1, steps=50), {"commit": "abc"}
    assert len(robustness.table_line(case, 3, [ADAPTED | made])) == len(robustness.HEADINGS)
    assert len(learning.table_line(learning.ROWS[0], [PLAIN | made])) == len(learning.HEADINGS)


def curve(seed, *points, env="Reacher-v5", algorithm="vanilla"):
    names = ("env", "algorithm", "seed", "real_steps", "curve_return_mean", "imagined_return")
    return [dict(zip(names, (env, algorithm, seed, *point, "-1.0"), strict=True)) for point in points]


def test_a_band_is_mean_and_range_of_the_steps_that_all_seeds_cover():
    lines = curve("0", ("10", "1"), ("20", "3"), ("40", "5")) + curve("1", ("20", "7"), ("30", "8"))
    band = model_bias.band(lines, "curve_return_mean")
    assert band.steps.tolist() == [20, 30]
    assert band.mean.tolist() == [5.0, 6.0]
    assert (band.low.tolist(), band.high.tolist()) == ([3.0, 4.0], [7.0, 8.0])


def test_only_tasks_that_both_methods_were_trained_on_and_imagined_whole_are_compared():
    lines = curve("0", ("10", "1")) + curve("0", ("10", "1"), algorithm="me-ppo")
    assert model_bias.comparable(lines) == ["Reacher-v5"]
    assert model_bias.comparable(lines + curve("0", ("10", "1"), env="Pendulum-v1")) == ["Reacher-v5"]
    assert model_bias.comparable(curve("0", ("10", "1")) + curve("0", ("10", ""), algorithm="me-ppo")) == []
    assert not model_bias.too_long("Reacher-v5")
    assert model_bias.too_long("HalfCheetah-v5") == "episodes have 1000 steps, of which 200 are imagined"


def test_a_cell_is_new_once_and_only_where_no_random_step_was():
    states, edges = np.array([[0.1, 0.1], [0.2, 0.9], [0.9, 0.9], [1.1, 0.5], [1.9, 0.9], [-0.1, 0.5]]), np.ones(2)
    assert exploration.new_cells(states, edges, before=3) == 2
    assert exploration.new_cells(states, edges, before=4) == 1


def test_a_folder_of_other_settings_is_not_taken_for_the_run(tmp_path):
    spec = training_runs.Spec(name="row", env="Pendulum-v1", algorithm="me-ppo", steps=200)
    folder = training_runs.folder_of(spec, 0, tmp_path)
    folder.mkdir(parents=True)
    made = dataclasses.asdict(training_runs.settings(spec, 0, folder)) | {"steps": 400}
    (folder / "config.json").write_text(json.dumps({"settings": made}))
    (folder / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="settings: expected .*steps=200.* got .*steps=400"):
        training_runs.run_seed(spec, 0, tmp_path)


def test_another_librarys_action_is_scaled_to_what_episodes_send():
    class Model:
        def predict(self, obs, deterministic):
            assert deterministic
            return np.array([-2.0, 0.0, 3.0], dtype=np.float32), None

    actor = sac.SacActor(Model(), np.array([-2.0, -2.0, -1.0]), np.array([2.0, 2.0, 3.0]))
    assert actor.draw(np.zeros(1)).tolist() == [-1.0, 0.0, 1.0]


RETURNS = """seed,case,method,route,episodes,steps,taken_back,success,distance_mm,commit,made_with,returns
0,none,mb-mpo,before,0,0,False,1.0,10.0,abc,X.,-1 -1 -1 -1
0,heavy,mb-mpo,before,0,0,False,0.0,30.0,abc,X.,-3 -3 -3 -3
0,heavy,mb-mpo,imagined,1,40,False,0.0,25.0,abc,X.,-2.5 -2.5 -2.5 -2.5
0,heavy,mb-mpo,imagined,2,40,False,0.0,20.0,abc,X.,-2 -2 -2 -2
0,heavy,mb-mpo,imagined,5,40,False,1.0,12.0,abc,X.,-1.4 -1.6 -1.4 -1.6
0,heavy,mb-mpo,real,5,1,True,0.0,40.0,abc,X.,-3.4 -3.6 -3.4 -3.6
0,none,me-ppo,before,0,0,False,1.0,10.0,abc,Y.,-1 -1 -1 -1
0,heavy,me-ppo,before,0,0,False,0.0,30.0,abc,Y.,-2 -2 -2 -2
0,heavy,me-ppo,real,5,1,False,0.0,35.0,abc,Y.,-2.5 -2.5 -2.5 -2.5
0,heavy,me-ppo,trained there,16,0,False,1.0,9.0,abc,Y.,-0.9 -0.9 -0.9 -0.9
1,none,mb-mpo,before,0,0,False,1.0,10.0,abc,X.,-1 -1 -1 -1
1,heavy,mb-mpo,before,0,0,False,0.0,20.0,abc,X.,-2 -2 -2 -2
1,heavy,mb-mpo,imagined,5,40,False,1.0,14.0,abc,X.,-2 -2.2 -2 -2.2
"""


@pytest.fixture
def returns(tmp_path):
    (tmp_path / "adaptation.csv").write_text(RETURNS)
    return adaptation_results.Results(tmp_path / "adaptation.csv")


def test_what_was_won_back_is_a_share_of_what_was_lost_over_all_seeds(returns):
    """Lost 2 and 1; after 1 and 2 episodes one seed alone has won back 0.5 and 1 of 2, after 5 both 1.5 - 0.1 of 3."""
    cells = dict(zip(adaptation_results.HEADINGS, adaptation_results.case_line(returns, "heavy"), strict=True))
    assert list(cells.values())[:2] == ["heavy", "1.50"]
    assert [cells[f"Won back after {count}"] for count in (1, 2, 3, 5)] == ["25 %", "50 %", "none", "47 %"]
    assert cells["One real step, 5"] == "-25 %"
    assert (cells["ME-PPO lost"], cells["ME-PPO, imagined, 5"], cells["ME-PPO, one real step, 5"]) == (
        "1.00",
        "none",
        "-50 %",
    )
    assert cells["Distance before / after 5"] == "25.0 / 13.0 mm"
    assert cells["Trained there"] == "+0.10"


def test_a_share_of_hardly_anything_is_no_share():
    given = np.array([0.02, 0.04])
    assert adaptation_results.share([(np.array([0.0, 0.1]), given)]) == "+0.03"
    assert adaptation_results.share([(np.array([0.1, 0.1]), given)]) == "30 %"


def test_a_summary_counts_what_got_better_and_what_got_worse_by_more_than_noise(returns):
    """Of four goals that differ by 0.2, one standard error is 0.058: -0.1 is less than two of it, -0.5 is more."""
    imagined = adaptation_results.summary(returns, ["heavy"], "mb-mpo", "imagined")
    assert "2 pairs of seed and arm: 47 % won back; better in 1, worse by more than 2 standard errors in 0" in imagined
    assert imagined.endswith("; 0 taken back\n")
    real = adaptation_results.summary(returns, ["heavy"], "mb-mpo", "real")
    assert "1 pairs of seed and arm: -25 % won back; better in 0, worse by more than 2 standard errors in 1" in real
    assert real.endswith("; 1 taken back\n")


def test_the_table_has_the_cases_that_were_run_and_says_what_made_it(returns):
    text = adaptation_results.whole_table(returns, ["light", "heavy"])
    assert text.count("\n| heavy |") == 1
    assert "light" not in text
    assert text.endswith("\nX. Commit abc.\nY. Commit abc.\n")


def test_what_is_added_is_found_again_and_says_whether_a_robot_would_have_taken_it_back(tmp_path):
    results = adaptation_results.Results(tmp_path / "new/adaptation.csv")
    plain = [point_episode(np.random.default_rng(seed)) for seed in range(adaptation_results.GOALS)]
    worse = [dataclasses.replace(one, rewards=one.rewards - 10.0) for one in plain]
    key = {"seed": 0, "case": "heavy", "method": "mb-mpo"}
    results.add(plain, **key, route="before", episodes=0)
    before = results.returns(**key, route="before")
    results.add(plain, **key, route="imagined", episodes=1, steps=40, before=before)
    results.add(worse, **key, route="imagined", episodes=5, steps=40, before=before)
    again = adaptation_results.Results(results.path)
    assert again.returns(**key, route="before") == pytest.approx([one.episode_return for one in plain], abs=1e-4)
    assert again.find(**key, route="imagined", episodes=1)["taken_back"] == "False"
    assert again.find(**key, route="imagined", episodes=5)["taken_back"] == "True"
    assert again.find(**key, route="real") is None
    assert again.seeds == ["0"]


def test_a_policy_of_me_ppo_is_given_the_inner_step_to_be_compared_by():
    task, replay = PointTask(), Replay()
    for index in range(3):
        replay.add(point_episode(np.random.default_rng(index), index=index))
    config = MePpoConfig(
        iterations=1,
        ensemble=EnsembleConfig(hidden=(8,), max_steps=20),
        imagination=ImaginationConfig(rollouts=25, horizon=5),
        validation=ValidationConfig(ratio=0.0),
    )
    learner = me_ppo(task, config, seed=0)
    learner.round(replay)
    bundle = adaptation.able_to_adapt(learner)
    assert np.array_equal(bundle.theta, learner.bundle().theta)
    assert Adapter(bundle, task).metadata.form == adaptation.MbMpoConfig().inner.form
    assert (bundle.step_sizes >= 0).all()
    assert bundle.step_sizes.any()


def test_variance_explained_is_1_for_what_is_known_0_for_the_mean_and_none_where_nothing_varies():
    targets = torch.tensor([[1.0, 1.0, 5.0], [3.0, 3.0, 5.0]])
    means = torch.tensor([[[0.0, 2.0, 5.0], [2.0, 2.0, 5.0]], [[2.0, 2.0, 5.0], [4.0, 2.0, 5.0]]])  # of two members
    ensemble = SimpleNamespace(predict=lambda inputs: (means, None))
    shares = model_error.explained(ensemble, SimpleNamespace(held_inputs=None, held_targets=targets))
    assert shares[:2].tolist() == [1.0, 0.0]
    assert np.isnan(shares[2])
