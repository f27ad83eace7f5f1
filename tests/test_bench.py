"""What the programs in bench/ compute before and after their runs."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))  # they are programs, not a package
learning, model_bias, robustness, sac, training_runs = (
    importlib.import_module(name) for name in ("learning", "model_bias", "robustness", "sac", "training_runs")
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


def test_commits_and_machines_are_those_of_the_runs(tmp_path):
    for name, commit in (("a", "0123456789abc-dirty"), ("b", "fedcba987654"), ("c", "fedcba987654"), ("d", None)):
        made = {"versions": {"numpy": "2"}, "machine": {"cpu": "X", "cores": 2, "system": "Linux"}, "commit": commit}
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"made_with": made}))
    folders = sorted(tmp_path.iterdir())
    assert training_runs.commits(folders) == "0123456-dirty, fedcba9, unknown"
    assert training_runs.made_with_lines(folders) == "2 cores of X, Linux; numpy 2.\n"


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
    case = robustness.Case(env="Reacher-v5", algorithm="mb-mpo", bias=0.5, noise=0.1, steps=50)
    assert len(robustness.table_line(case, 3, [ADAPTED], "abc")) == len(robustness.HEADINGS)
    assert len(learning.table_line(learning.ROWS[0], [PLAIN], "abc")) == len(learning.HEADINGS)


def curve(seed, *points, env="Reacher-v5", algorithm="vanilla"):
    names = ("env", "algorithm", "budget", "seed", "real_steps", "curve_return_mean")
    return [dict(zip(names, (env, algorithm, "100", seed, *point), strict=True)) for point in points]


def test_a_band_is_mean_and_range_of_the_steps_that_all_seeds_cover():
    lines = curve("0", ("10", "1"), ("20", "3"), ("40", "5")) + curve("1", ("20", "7"), ("30", "8"))
    band = model_bias.band(lines, "curve_return_mean")
    assert band.steps.tolist() == [20, 30]
    assert band.mean.tolist() == [5.0, 6.0]
    assert (band.low.tolist(), band.high.tolist()) == ([3.0, 4.0], [7.0, 8.0])


def test_only_tasks_that_both_methods_were_trained_on_and_imagined_whole_are_compared():
    lines = curve("0", ("10", "1")) + curve("0", ("10", "1"), algorithm="me-ppo")
    assert model_bias.comparable(lines) == [("Reacher-v5", 100)]
    assert model_bias.comparable(lines + curve("0", ("10", "1"), env="Pendulum-v1")) == [("Reacher-v5", 100)]
    assert model_bias.comparable(curve("0", ("10", "1")) + curve("0", ("10", ""), algorithm="me-ppo")) == []
    assert not model_bias.too_long("Reacher-v5")
    assert model_bias.too_long("HalfCheetah-v5") == "episodes have 1000 steps, of which 200 are imagined"


def test_another_librarys_action_is_scaled_to_what_episodes_send():
    class Model:
        def predict(self, obs, deterministic):
            assert deterministic
            return np.array([-2.0, 0.0, 3.0], dtype=np.float32), None

    actor = sac.SacActor(Model(), np.array([-2.0, -2.0, -1.0]), np.array([2.0, 2.0, 3.0]))
    assert actor.draw(np.zeros(1)).tolist() == [-1.0, 0.0, 1.0]
