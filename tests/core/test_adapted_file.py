import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from fakes.point_task import PointTask

from mbrl_core.adapted_file import Adapted, Provenance, hashes_of, load_adapted, remove_adapted, save_adapted
from mbrl_core.bundle import Bundle, describe

PARAMETERS = 5000


def bundle(**changes) -> Bundle:
    metadata = describe(PointTask(), policy_version=3, real_steps=400, ensemble_id="abc")
    values = {
        "metadata": metadata,
        "act_onnx": b"not a graph",
        "theta": np.zeros(PARAMETERS, dtype=np.float32),
        "obs_mean": np.zeros(4, dtype=np.float32),
        "obs_scale": np.ones(4, dtype=np.float32),
    }
    return Bundle(**(values | changes))


def adapted(value: float = 1.0, **changes) -> Adapted:
    facts = {
        "bundle_files": hashes_of(bundle()),
        "policy_version": 3,
        "arm": "point",
        "task": "point",
        "inner_steps": 2,
        "inner_steps_before": 1,
        "episodes": (7, 8, 9),
        "kl": 0.01,
        "surrogate": 0.2,
        "gradient_norm": 3.0,
        "returns_before": (1.0, 2.0),
        "returns_after": (3.0,),
        "saved_at": "2026-01-01T00:00:00Z",
    }
    theta = np.full(PARAMETERS, value, dtype=np.float32)
    return Adapted(theta=theta, theta_before=theta - 1, provenance=Provenance(**(facts | changes)))


def test_it_comes_back_as_it_was_and_can_be_removed(tmp_path):
    path, original = tmp_path / "one", adapted()
    save_adapted(path, original)
    loaded = load_adapted(path, bundle())
    assert loaded.provenance == original.provenance
    assert np.array_equal(loaded.theta, original.theta)
    assert np.array_equal(loaded.theta_before, original.theta_before)
    for _ in range(2):
        remove_adapted(path)
        assert not path.exists()


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (
            bundle(theta=np.ones(PARAMETERS, dtype=np.float32)),
            "one: sha256 of the bundle's parameters.safetensors: exp",
        ),
        (bundle(act_onnx=b"another graph"), "one: sha256 of the bundle's act.onnx: expected"),
        (bundle(metadata=dataclasses.replace(bundle().metadata, policy_version=4)), "one: policy_version: expected 4"),
        (bundle(metadata=dataclasses.replace(bundle().metadata, arm="other")), "one: arm: expected other, got 'point'"),
    ],
)
def test_a_file_of_another_bundle_or_arm_is_refused(tmp_path, other, complaint):
    save_adapted(tmp_path / "one", adapted())
    with pytest.raises(ValueError, match=complaint):
        load_adapted(tmp_path / "one", other)


def test_a_file_of_another_schema_or_with_numbers_that_are_not_finite_is_refused(tmp_path):
    save_adapted(tmp_path / "one", adapted(schema_version=9))
    with pytest.raises(ValueError, match="one: schema_version: expected 1, got 9"):
        load_adapted(tmp_path / "one", bundle())
    save_adapted(tmp_path / "one", adapted(value=np.nan))
    with pytest.raises(ValueError, match="one: theta: expected .* finite"):
        load_adapted(tmp_path / "one", bundle())


def test_any_flipped_or_missing_byte_is_refused(tmp_path):
    path = tmp_path / "one"
    save_adapted(path, adapted())
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(0, header, 5), *range(header, len(data), 997)]
    damaged = [bytes((*data[:place], data[place] ^ 4, *data[place + 1 :])) for place in places]
    torn = [data[:length] for length in range(0, len(data), 997)]
    accepted = []
    for number, content in enumerate((*damaged, *torn)):
        path.write_bytes(content)
        try:
            accepted.append(load_adapted(path, bundle()))
        except ValueError:
            continue
        # blanks that pad the header mean nothing
        assert places[number] < header
        assert accepted[-1].provenance == adapted().provenance
        assert np.array_equal(accepted[-1].theta, adapted().theta)
    assert len(accepted) < 5


SAVE_FOR_EVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_adapted_file as own
count = 1
while True:
    own.save_adapted(Path(sys.argv[2]), own.adapted(float(count), inner_steps=count))
    print(count, flush=True)
    count += 1
"""


def test_kill_9_while_saving_leaves_the_old_or_the_new_file(tmp_path):
    path, here = tmp_path / "one", os.path.dirname(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((*sys.path, os.path.dirname(here)))}
    for kill in range(6):
        command = [sys.executable, "-c", SAVE_FOR_EVER, here, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            for _ in range(3):
                writer.stdout.readline()
            time.sleep(0.003 * kill)
            writer.send_signal(signal.SIGKILL)
            told = [int(line) for line in writer.stdout.read().split()]
        loaded = load_adapted(path, bundle())
        assert loaded.provenance.inner_steps == int(loaded.theta[0])
        assert loaded.provenance.inner_steps >= max(told, default=3)
