import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fakes.point_task import point_episode
from safetensors.numpy import save

from mbrl_core.replay import Replay, is_holdout, read_episode, write_episode
from mbrl_core.types import StepFlag

TESTS = Path(__file__).parents[1]


def episodes(count: int):
    rng = np.random.default_rng(0)
    return [point_episode(rng, index=index) for index in range(count)]


def same(one, other) -> bool:
    pairs = ((getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return all(np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype for a, b in pairs)


def test_an_episode_comes_back_from_its_file_as_it_was(tmp_path):
    episode = dataclasses.replace(episodes(1)[0], member=3, inner_steps=2, exploring=True)
    write_episode(tmp_path / "one.safetensors", episode)
    assert same(read_episode(tmp_path / "one.safetensors"), episode)


def test_it_knows_an_episode_that_it_holds_from_others_with_the_same_number(tmp_path):
    first, second = episodes(2)
    Replay(tmp_path).add(first)
    replay = Replay(tmp_path)
    assert replay.holds(first)
    assert not replay.holds(second)
    assert not replay.holds(dataclasses.replace(first, stamps_s=first.stamps_s + 1.0))
    assert not replay.holds(dataclasses.replace(first, states=first.states + 1e-9))


def write_as(path, episode, version, without=()):
    """A file as another version of this package wrote it, without the fields that it did not have."""
    tensors = ("states", "goal", "actions_asked", "actions_sent", "rewards", "stamps_s", "flags", "policy_versions")
    header = {name: value for name, value in vars(episode).items() if name not in (*tensors, *without)}
    metadata = {"episode": json.dumps({"schema_version": version} | header)}
    path.write_bytes(save({name: getattr(episode, name) for name in tensors}, metadata=metadata))


def test_an_episode_of_the_first_schema_is_read_as_not_exploring(tmp_path):
    (episode,) = episodes(1)
    path = tmp_path / "episode-000000.safetensors"
    write_as(path, dataclasses.replace(episode, inner_steps=2), 1, without=("exploring",))
    assert same(read_episode(path), dataclasses.replace(episode, inner_steps=2, exploring=False))
    replay = Replay(tmp_path)
    replay.add(dataclasses.replace(episode, exploring=True))
    assert [kept.exploring for kept in Replay(tmp_path).episodes] == [False, True]


@pytest.mark.parametrize(
    ("version", "without", "expected"),
    [
        (1, ("exploring", "inner_steps"), "fields: expected"),
        (2, ("exploring",), "fields: expected"),
        (3, (), "schema_version: expected \\[1, 2\\], got 3"),
        (0, (), "schema_version: expected \\[1, 2\\], got 0"),
        (None, (), "schema_version: expected \\[1, 2\\], got None"),
        ([1], (), "schema_version: expected \\[1, 2\\], got"),
    ],
)
def test_an_episode_of_no_known_schema_is_refused(tmp_path, version, without, expected):
    write_as(tmp_path / "one.safetensors", episodes(1)[0], version, without)
    with pytest.raises(ValueError, match=f"one.safetensors: {expected}"):
        read_episode(tmp_path / "one.safetensors")


def test_an_episode_file_is_never_overwritten(tmp_path):
    (episode,) = episodes(1)
    write_episode(tmp_path / "one.safetensors", episode)
    with pytest.raises(ValueError, match="expected a new name"):
        write_episode(tmp_path / "one.safetensors", episode)


def test_a_buffer_is_loaded_from_its_directory_in_order(tmp_path):
    replay = Replay(tmp_path)
    for episode in episodes(12):
        replay.add(episode)
    loaded = Replay(tmp_path)
    assert loaded.real_steps == replay.real_steps == 240
    assert all(same(one, other) for one, other in zip(loaded.episodes, replay.episodes, strict=True))


def test_hold_out_is_by_whole_episode_and_never_changes(tmp_path):
    replay, held_before = Replay(), {}
    for count, episode in enumerate(episodes(25), 1):
        replay.add(episode)
        if count < 2:
            continue
        held, train = replay.transitions(holdout=True), replay.transitions(holdout=False)
        assert len(held) + len(train) == replay.real_steps
        rows = {row.tobytes() for row in held.next_states}
        assert rows.isdisjoint({row.tobytes() for row in train.next_states})
        assert rows >= set(held_before)
        held_before = rows
    assert [index for index in range(25) if is_holdout(index)] == [1, 11, 21]


def test_one_episode_cannot_be_shared_between_training_and_hold_out():
    replay = Replay()
    replay.add(episodes(1)[0])
    with pytest.raises(ValueError, match=r"replay.episodes: expected at least 2, got 1"):
        replay.transitions(holdout=True)


def test_hold_out_by_blocks_of_steps_runs_through_all_episodes_and_never_changes():
    replay, first = Replay(holdout_block=5), None
    for episode in episodes(4):  # of 20 steps: blocks 1 and 11 are held out, the latter at steps 55 to 59
        replay.add(episode)
        held, train = replay.transitions(holdout=True), replay.transitions(holdout=False)
        assert len(held) + len(train) == replay.real_steps
        first = held if first is None else first
        assert np.array_equal(held.states[:5], first.states)
    assert np.array_equal(held.states[:5], replay.episodes[0].states[5:10])
    assert np.array_equal(held.states[5:], replay.episodes[2].states[15:20])


def test_demonstrations_stand_first_are_held_out_by_place_and_are_no_real_steps(tmp_path):
    shown = episodes(4)
    replay = Replay(tmp_path / "episodes", demonstrations=tmp_path / "demonstrations")
    for episode in shown[:2]:
        replay.add_demonstration(episode)
    held = replay.transitions(holdout=True)
    assert np.array_equal(held.states, shown[1].states[:-1])
    for episode in shown[2:]:
        replay.add(episode)
    again = Replay(tmp_path / "episodes", demonstrations=tmp_path / "demonstrations")
    for buffer in (replay, again):
        assert all(same(one, other) for one, other in zip(buffer.episodes, shown, strict=True))
        assert (len(buffer.demonstrations), len(buffer.collected)) == (2, 2)
        assert (buffer.demonstration_steps, buffer.real_steps) == (40, 40)
        assert np.array_equal(buffer.transitions(holdout=True).states, held.states)


def test_demonstrations_that_come_too_late_would_move_others_and_are_refused():
    first, late = episodes(2)
    replay = Replay()
    replay.add(first)
    with pytest.raises(ValueError, match="demonstrations: expected before the first collected episode, got 'after 1'"):
        replay.add_demonstration(late)


def test_without_demonstrations_no_folder_is_made_for_them(tmp_path):
    Replay(tmp_path / "episodes", demonstrations=tmp_path / "demonstrations").add(episodes(1)[0])
    assert [path.name for path in tmp_path.iterdir()] == ["episodes"]


def test_too_few_steps_for_a_block_to_hold_out_are_refused():
    replay = Replay(holdout_block=20)
    replay.add(episodes(1)[0])
    with pytest.raises(ValueError, match="replay.real_steps: expected more than 20, got 20"):
        replay.transitions(holdout=True)


def test_steps_with_a_gap_are_left_out():
    first, second = episodes(2)
    flags = np.zeros(20, dtype=np.uint8)
    flags[[3, 7]] = StepFlag.GAP, StepFlag.GAP | StepFlag.CLAMPED
    flags[9] = StepFlag.CLAMPED
    replay = Replay()
    replay.add(dataclasses.replace(first, flags=flags))
    replay.add(second)
    kept = replay.transitions(holdout=False)
    assert len(kept) == 18
    whole = np.delete(np.arange(20), [3, 7])
    assert np.array_equal(kept.states, first.states[:-1][whole])
    assert np.array_equal(kept.next_states, first.states[1:][whole])
    assert np.array_equal(kept.actions, first.actions_sent[whole])


def test_an_episode_of_another_width_is_refused():
    first, second = episodes(2)
    replay = Replay()
    replay.add(first)
    with pytest.raises(ValueError, match="episode.states: expected width 2, got 3"):
        replay.add(dataclasses.replace(second, states=np.zeros((21, 3))))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "one.safetensors"
    write_episode(path, episodes(1)[0])
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-9], "flip": b"\xff" * 8 + data[8:], "empty": b""}[damage])
    with pytest.raises(ValueError, match="one.safetensors: expected a whole episode file"):
        read_episode(path)


def test_a_missing_episode_is_noticed(tmp_path):
    replay = Replay(tmp_path)
    for episode in episodes(3):
        replay.add(episode)
    (tmp_path / "episode-000001.safetensors").unlink()
    with pytest.raises(ValueError, match="expected 'episode-000001.safetensors'|episode-000001"):
        Replay(tmp_path)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from fakes.point_task import point_episode
from mbrl_core.replay import Replay
replay, rng = Replay(Path(sys.argv[1])), np.random.default_rng(0)
while True:
    replay.add(point_episode(rng, index=len(replay.episodes)))
    print(len(replay.episodes), flush=True)
"""

STOPS_HALFWAY = """
import os, sys
from pathlib import Path
import numpy as np
from fakes.point_task import point_episode
from mbrl_core.replay import Replay
replay, rng = Replay(Path(sys.argv[1])), np.random.default_rng(0)
for index in range(3):
    replay.add(point_episode(rng, index=index))
os.fsync = lambda file: (print("writing", flush=True), sys.stdin.read())
replay.add(point_episode(rng, index=3))
"""


def child(code: str, directory: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(directory)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env=environment,
        text=True,
    )


def test_a_process_killed_halfway_through_a_file_leaves_the_earlier_episodes(tmp_path):
    with child(STOPS_HALFWAY, tmp_path) as process:
        lines = iter(process.stdout.readline, "")
        while next(lines).strip() != "writing":
            pass
        # the first three episodes print it too, and wait: let them go on until the last is being written
        process.send_signal(signal.SIGKILL)
    replay = Replay(tmp_path)
    assert len(replay.episodes) == 3
    assert replay.ignored == ("episode-000003.safetensors.partial",)
    replay.add(episodes(1)[0])  # and the buffer goes on
    assert len(Replay(tmp_path).episodes) == 4


@pytest.mark.parametrize("delay_s", [0.0, 0.013, 0.031])
def test_every_episode_reported_as_added_survives_a_kill(tmp_path, delay_s):
    with child(WRITER, tmp_path) as process:
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        added = [int(line) for line in process.stdout.read().split()]
    assert len(Replay(tmp_path).episodes) >= max([1, *added])
