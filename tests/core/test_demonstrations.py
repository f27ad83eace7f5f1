import dataclasses

import numpy as np
import pytest
from fakes.point_task import PointTask, point_episode

from mbrl_core.demonstrations import begin_with, fingerprint, read_demonstrations
from mbrl_core.replay import Replay, write_episode


def episodes(count):
    rng = np.random.default_rng(0)
    return [point_episode(rng, index=index) for index in range(count)]


def write(folder, *shown):
    folder.mkdir(parents=True, exist_ok=True)
    for index, episode in enumerate(shown):
        write_episode(folder / f"episode-{index:06d}.safetensors", episode)
    return folder


def starts(episodes):
    return [episode.states[1].tolist() for episode in episodes]


def test_they_are_read_in_order_from_a_folder_of_episodes_or_of_a_run(tmp_path):
    shown = episodes(3)
    write(tmp_path / "run/episodes", *shown)
    for folder in (tmp_path / "run", tmp_path / "run/episodes"):
        assert starts(read_demonstrations(folder, PointTask())) == starts(shown)


def test_episodes_picked_from_a_run_keep_their_names(tmp_path):
    shown = episodes(3)
    write(tmp_path, *shown)
    (tmp_path / "episode-000001.safetensors").unlink()
    assert starts(read_demonstrations(tmp_path, PointTask())) == starts([shown[0], shown[2]])


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": "pull"}, "task: expected 'point', got 'pull'"),
        ({"arm": "spear"}, "arm: expected 'point', got 'spear'"),
        ({"states": np.zeros((21, 3))}, r"states: expected width 2, got \(21, 3\)"),
        ({"actions_sent": np.zeros((20, 1))}, r"actions_sent: expected width 2, got \(20, 1\)"),
        ({"goal": np.zeros(3)}, r"goal: expected width 2, got \(3,\)"),
    ],
)
def test_an_episode_of_something_else_is_refused(tmp_path, changes, complaint):
    write(tmp_path, dataclasses.replace(episodes(1)[0], **changes))
    with pytest.raises(ValueError, match=f"demonstrations: episode-000000.safetensors: {complaint}"):
        read_demonstrations(tmp_path, PointTask())


def test_an_episode_with_a_number_that_is_not_finite_is_refused(tmp_path):
    (episode,) = episodes(1)
    episode.states[3, 0] = np.nan
    write(tmp_path, episode)
    with pytest.raises(ValueError, match=r"episode.states: expected finite numbers, got 'NaN or infinity'"):
        read_demonstrations(tmp_path, PointTask())


def test_a_folder_without_episodes_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match="demonstrations: expected a folder with episode-"):
            read_demonstrations(folder, PointTask())


def test_an_episode_that_is_there_twice_would_be_trained_on_and_held_out_and_is_refused(tmp_path):
    one, other = episodes(2)
    write(tmp_path, one, other, dataclasses.replace(one, episode=7))
    with pytest.raises(ValueError, match=r"-000002.*: expected an episode of its own, got 'the same as .*-000000"):
        read_demonstrations(tmp_path, PointTask())


def test_a_restart_adds_what_is_missing_and_nothing_twice(tmp_path):
    shown = tuple(episodes(3))
    begin_with(Replay(tmp_path / "episodes", demonstrations=tmp_path / "shown"), shown[:2])  # killed before the third
    for _ in range(2):
        replay = Replay(tmp_path / "episodes", demonstrations=tmp_path / "shown")
        begin_with(replay, shown)
        assert starts(replay.demonstrations) == starts(shown)
    replay.add(episodes(1)[0])
    begin_with(replay, shown)
    assert len(replay.episodes) == 4


def test_a_run_that_began_with_other_demonstrations_is_refused():
    one, two, three = episodes(3)
    replay = Replay()
    begin_with(replay, (one, two))
    for others in ((two, one), (one,), (one, three)):
        with pytest.raises(ValueError, match="demonstrations: expected the 2 that the run began with"):
            begin_with(replay, others)


def test_a_fingerprint_names_what_happened_and_not_who_counted_it():
    one, other = episodes(2)
    assert fingerprint((one,)) == fingerprint((dataclasses.replace(one, episode=9),))
    assert len({fingerprint(pair) for pair in ((one,), (other,), (one, other), (other, one), ())}) == 5
