"""The summary and the table, from episodes that can be computed by hand."""

import csv
import json

import numpy as np
import pytest

from mbrl_core.types import Episode, StepFlag
from mbrl_ros.evaluation_report import row, table, write_csv
from mbrl_ros.run_record import Counts, RunRecord, statistics
from mbrl_ros.run_view import episode_line


def episode(number, *, distance_m=0.1, rewards=(1.0, 2.0), success=False, version=0, reset_s=0.5):
    steps = len(rewards)
    return Episode(
        states=np.zeros((steps + 1, 15)),
        goal=np.array([0.2, 0.0, 0.1]),
        actions_asked=np.zeros((steps, 5)),
        actions_sent=np.zeros((steps, 5)),
        rewards=np.array(rewards),
        stamps_s=100.0 + 0.05 * np.arange(steps + 1),
        flags=np.array([StepFlag.LATE | StepFlag.GAP] + [0] * (steps - 1), dtype=np.uint8),
        policy_versions=np.full(steps, version, dtype=np.uint32),
        episode=number,
        arm="so101",
        task="reach",
        terminated=False,
        truncated=True,
        end_reason="time limit",
        success=success,
        final_distance_m=distance_m,
        reset_s=reset_s,
    )


FIVE = [episode(number, distance_m=0.01 * (number + 1), success=number < 2) for number in range(5)]


def test_statistics_by_hand():
    numbers = statistics(FIVE)
    assert (numbers.episodes, numbers.success_rate, numbers.return_mean) == (5, 0.4, 3.0)
    assert numbers.final_distance_m_median == pytest.approx(0.03)
    assert numbers.final_distance_m_mean == pytest.approx(0.03)
    assert numbers.final_distance_m_p95 == pytest.approx(0.048)  # 0.04 + 0.8 * 0.01
    assert statistics([]) is None


def test_table_row_by_hand():
    cells = ("learned", "40 %", "30.0 mm", "30.0 mm", "48.0 mm", "3.0", "5")
    assert row("learned", statistics(FIVE)) == cells
    assert table({"learned": FIVE, "zero": []}).row_count == 1


def test_summary_by_hand(tmp_path):
    record = RunRecord(settings={"seed": 3}, provenance={"git_commit": None})
    record.collected = [episode(0), episode(1, rewards=(1.0, 1.0, 1.0), version=2)]
    record.collection_wall_s = 1.5
    record.counts = Counts(watchdog_trips=1, updates_rejected=4)
    record.evaluations = {"learned": FIVE, "zero": FIVE[3:]}
    record.ended = "completed"
    record.write(tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["ended"], summary["seed"], summary["real_steps"], summary["episodes"]) == ("completed", 3, 5, 2)
    assert summary["random_episodes"] == 1
    assert summary["episode_time_s"] == pytest.approx(0.10 + 0.15)
    assert summary["reset_time_s"] == pytest.approx(1.0)
    assert summary["robot_time_s"] == pytest.approx(1.25)
    assert summary["collection_ratio"] == pytest.approx(1.25 / 1.5)
    assert (summary["watchdog_trips"], summary["updates_rejected"]) == (1, 4)
    assert (summary["success_rate"], summary["zero_success_rate"], summary["random_success_rate"]) == (0.4, 0.0, None)
    assert summary["zero_final_distance_m_median"] == pytest.approx(0.045)
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_that_has_just_begun_has_a_summary(tmp_path):
    RunRecord(settings={}, provenance={}).write(tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["ended"], summary["success_rate"], summary["collection_ratio"]) == ("running", None, None)


def test_csv_has_one_row_per_episode(tmp_path):
    write_csv(tmp_path / "new" / "learned.csv", FIVE[:2])
    with (tmp_path / "new" / "learned.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["final_distance_m"] for row in rows] == ["0.010000", "0.020000"]
    assert (rows[0]["goal_x_m"], rows[0]["return"], rows[0]["success"]) == ("0.200000", "3.000000", "1")
    assert (rows[0]["clamped_steps"], rows[0]["late_steps"], rows[0]["gap_steps"]) == ("0", "1", "1")
    assert rows[0]["slowed_steps"] == "0"


def test_an_episode_is_one_line():
    line = episode_line(episode(7, version=3), robot_time_s=12.34, real_steps=200, max_steps=2400)
    assert "episode   7" in line
    assert "12.3 s" in line
    assert "200/2400" in line
    assert "10.0 cm" in line
    assert line.endswith("policy v3")


def test_the_picture_is_drawn_from_any_record(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from mbrl_core.arm import load_profile
    from mbrl_core.tasks.reach import ReachTask
    from mbrl_ros.plots import draw_run
    from mbrl_sim import profile_path

    task = ReachTask(load_profile(profile_path("so101")))
    record = RunRecord(settings={}, provenance={})
    draw_run(tmp_path / "empty.png", record, task)
    record.collected, record.evaluations = [episode(0), episode(1, version=1)], {"learned": FIVE}
    draw_run(tmp_path / "full.png", record, task)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("empty.png", "full.png"))
