"""What the programs in bench/ compute before and after their runs."""

import dataclasses
import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))  # they are programs, not a package
exploration, kept_results, learning, model_bias, robustness, sac, training_runs = (
    importlib.import_module(name)
    for name in ("exploration", "kept_results", "learning", "model_bias", "robustness", "sac", "training_runs")
)
PLAIN = {"eval_return_mean": -4.0, "wall_s": 90.0, "zero_return": -12.0, "random_return": -43.0}
ADAPTED = PLAIN | {"adapted_return_mean": -3.5, "inner_kl": 0.0123}


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
