import numpy as np
import pytest

from mbrl_core.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


def checkpoint() -> Checkpoint:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "scalar": np.array(1.5, np.float32), "empty": np.zeros((2, 0))}
    generator = np.random.default_rng(3).bit_generator.state
    return Checkpoint(arrays=arrays, facts={"generator": generator, "third": 1 / 3, "words": ["one", None]})


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    write_checkpoint(tmp_path / "one", checkpoint())
    write_checkpoint(tmp_path / "one", checkpoint())  # and may be replaced
    loaded = read_checkpoint(tmp_path / "one")
    assert loaded.facts == checkpoint().facts
    assert set(loaded.arrays) == set(checkpoint().arrays)
    for name, array in checkpoint().arrays.items():
        assert np.array_equal(loaded.arrays[name], array)
        assert (loaded.arrays[name].dtype, loaded.arrays[name].shape) == (array.dtype, array.shape)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    write_checkpoint(tmp_path / "one", checkpoint())
    (tmp_path / "one").write_bytes((tmp_path / "one").read_bytes()[:-5])
    with pytest.raises(ValueError, match="one: expected a whole checkpoint"):
        read_checkpoint(tmp_path / "one")
