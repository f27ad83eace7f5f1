import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from fakes.point_task import PointTask

from mbrl_core.bundle import (
    ACT,
    MAX_MEMBER_BYTES,
    METADATA,
    PARAMETERS,
    AdaptationMetadata,
    Bundle,
    DisagreementMetadata,
    check_fits,
    describe,
)


def bundle(**changes) -> Bundle:
    metadata = describe(PointTask(), policy_version=3, real_steps=400, ensemble_id="abc")
    values = {
        "metadata": metadata,
        "act_onnx": b"not a graph" * 50,
        "theta": np.arange(7, dtype=np.float32),
        "obs_mean": np.zeros(4, dtype=np.float32),
        "obs_scale": np.ones(4, dtype=np.float32),
    }
    return Bundle(**(values | changes))


def single(*shape) -> np.ndarray:
    return np.full(shape, 0.5, dtype=np.float32)


def whole_bundle(adaptation=None, disagreement=None, **changes) -> Bundle:
    """With the two optional parts: an inner step with a critic of (4, 3, 1), and an ensemble."""
    step = {"form": "lvc", "discount": 0.98, "trace": 0.95, "max_kl": 0.05, "value_layers": 2}
    metadata = dataclasses.replace(
        bundle().metadata,
        adaptation=AdaptationMetadata(**(step | (adaptation or {}))),
        disagreement=DisagreementMetadata(**({"slow_above": 0.1, "hold_above": 0.5} | (disagreement or {}))),
    )
    shapes = {"weight0": (4, 3), "bias0": (3,), "weight1": (3, 1), "bias1": (1,), "mean": (), "scale": ()}
    parts = {
        "metadata": metadata,
        "adapt_onnx": b"no graph either",
        "ensemble_onnx": b"nor this",
        "step_sizes": single(7),
        "value": {name: single(*shape) for name, shape in shapes.items()},
    }
    return bundle(**(parts | changes))


def rezipped(data: bytes, **members: bytes) -> bytes:
    """The same zip with some members replaced, as an attacker or a broken disk would."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.split(".")[0], old.read(name)))
    return buffer.getvalue()


def test_a_bundle_comes_back_as_it_was(tmp_path):
    original = bundle()
    original.save(tmp_path / "one.mbrl")
    loaded = Bundle.load(tmp_path / "one.mbrl")
    assert loaded.version == 3
    assert loaded.act_onnx == original.act_onnx
    for name in ("theta", "obs_mean", "obs_scale"):
        assert np.array_equal(getattr(loaded, name), getattr(original, name))
    assert dataclasses.replace(loaded.metadata, files=(), parameters=0) == original.metadata


def test_the_optional_parts_come_back_as_they_were():
    original = whole_bundle()
    loaded = Bundle.from_bytes(original.to_bytes())
    assert (loaded.adapt_onnx, loaded.ensemble_onnx) == (original.adapt_onnx, original.ensemble_onnx)
    assert np.array_equal(loaded.step_sizes, original.step_sizes)
    assert set(loaded.value) == set(original.value)
    assert all(np.array_equal(array, loaded.value[name]) for name, array in original.value.items())
    assert loaded.metadata.adaptation == original.metadata.adaptation
    assert loaded.metadata.disagreement == original.metadata.disagreement


def test_a_bundle_without_them_is_smaller_and_says_so():
    loaded = Bundle.from_bytes(bundle().to_bytes())
    assert (loaded.adapt_onnx, loaded.ensemble_onnx, loaded.step_sizes, loaded.value) == (b"", b"", None, {})
    assert loaded.metadata.adaptation is loaded.metadata.disagreement is None
    with zipfile.ZipFile(io.BytesIO(bundle().to_bytes())) as archive:
        assert archive.namelist() == [ACT, PARAMETERS, METADATA]


def test_a_critic_may_have_several_members():
    value = {name: np.stack([array, array]) if array.ndim else array for name, array in whole_bundle().value.items()}
    loaded = Bundle.from_bytes(whole_bundle(value=value).to_bytes())
    assert loaded.value["weight0"].shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapt_onnx": b""}, "adaptation: expected all of adapt_onnx, step_sizes, value, got .'step_sizes', 'value'."),
        ({"step_sizes": None}, "adaptation: expected all of adapt_onnx, step_sizes, value"),
        ({"value": {}}, "adaptation: expected all of adapt_onnx, step_sizes, value"),
        ({"ensemble_onnx": b""}, "disagreement: expected ensemble.onnx, got '0 bytes'"),
        ({"metadata": bundle().metadata}, "adaptation: expected none of adapt_onnx, step_sizes, value"),
        ({"step_sizes": single(6)}, r"step_sizes: expected \(7,\) float32"),
        ({"step_sizes": -single(7)}, "step_sizes: expected at least 0, got -0.5"),
        ({"step_sizes": single(7) * np.nan}, "step_sizes: expected finite numbers"),
        ({"value": {"weight0": single(4, 1)}}, "value: expected .*'bias0'.*, got .'weight0'."),
        ({"value": whole_bundle().value | {"weight0": single(5, 3)}}, r"value.weight0: expected \(4, 3\) float32"),
        ({"value": whole_bundle().value | {"bias1": single(2)}}, r"value.bias1: expected \(1,\) float32"),
        ({"value": whole_bundle().value | {"bias0": single()}}, r"value.weight0: expected \(4, 0\) float32"),
        ({"value": whole_bundle().value | {"mean": single() * np.inf}}, "value.mean: expected finite numbers"),
        ({"value": whole_bundle().value | {"scale": single() * 0}}, "scale above 0"),
        ({"adaptation": {"max_kl": -1.0}}, "adaptation.max_kl: expected at least 0"),
        ({"adaptation": {"form": "dice"}}, "adaptation.form: expected one of .'lvc', 'log_likelihood'., got 'dice'"),
        ({"adaptation": {"value_layers": 3}}, "value: expected .*'bias2'"),
        ({"disagreement": {"hold_above": 0.1}}, "hold_above: expected above slow_above 0.1, got 0.1"),
        ({"disagreement": {"hold_above": float("nan")}}, "hold_above: expected a finite number"),
    ],
)
def test_half_a_part_or_one_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=rf"bundle.*{message}"):
        whole_bundle(**changes)


def test_the_same_bundle_gives_the_same_bytes():
    for make in (bundle, whole_bundle):
        assert make().to_bytes() == make().to_bytes()
        assert Bundle.from_bytes(make().to_bytes()).to_bytes() == make().to_bytes()


@pytest.mark.parametrize("member", ["act", "adapt", "ensemble", "parameters"])
def test_a_changed_member_is_refused_with_both_hashes(member):
    hashes = "sha256: expected [0-9a-f]{64}, got '[0-9a-f]{64}'"
    with pytest.raises(ValueError, match=rf"bundle.{member}\..*: {hashes}"):
        Bundle.from_bytes(rezipped(whole_bundle().to_bytes(), **{member: b"something else"}))


def test_any_flipped_byte_is_refused_or_harmless():
    data = whole_bundle().to_bytes()
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        try:
            loaded = Bundle.from_bytes(bytes(damaged))
        except ValueError:
            continue
        assert loaded.to_bytes() == data


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 1000, bundle().to_bytes()[:-30]])
def test_what_is_no_zip_is_refused(data):
    with pytest.raises(ValueError, match="bundle: expected an undamaged .mbrl file"):
        Bundle.from_bytes(data)


def test_a_zip_bomb_is_refused_before_it_is_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(ACT, bytes(MAX_MEMBER_BYTES + 1))
        archive.writestr(PARAMETERS, b"")
        archive.writestr(METADATA, b"{}")
    assert len(buffer.getvalue()) < 100_000
    with pytest.raises(ValueError, match="bundle.act.onnx: size: expected at most"):
        Bundle.from_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema_version: expected 2, got 99"),
        ({"schema_version": 1}, "schema_version: expected 2, got 1"),
        ({"adaptation": {"form": "lvc"}}, "metadata.json.adaptation.discount: expected a value, got 'nothing'"),
        ({"surprise": 1}, "metadata.json.surprise: expected one of"),
        ({"policy_version": "3"}, "policy_version: expected int, got '3'"),
        ({"joint_names": 5}, "joint_names: expected a list, got 5"),
        ({"parameters": 8}, r"bundle.theta: expected \(8,\), got \(7,\)"),
    ],
)
def test_bad_metadata_is_refused_by_field(change, message):
    with zipfile.ZipFile(io.BytesIO(bundle().to_bytes())) as archive:
        metadata = json.loads(archive.read(METADATA)) | change
    with pytest.raises(ValueError, match=message):
        Bundle.from_bytes(rezipped(bundle().to_bytes(), metadata=json.dumps(metadata).encode()))


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="bundle.theta: expected finite numbers"):
        bundle(theta=np.array([0.0, np.nan], dtype=np.float32))


def test_a_bundle_fits_the_arm_and_task_it_was_made_for():
    task = PointTask()
    check_fits(bundle(), task.profile, task)


def test_a_task_without_an_arm_has_bundles_too():
    task = PointTask()
    task.profile = None
    made = describe(task, policy_version=3, real_steps=400, ensemble_id="abc")
    assert (made.arm, made.joint_names, made.action_scale_rad) == ("", (), 0.0)
    check_fits(Bundle.from_bytes(bundle(metadata=made).to_bytes()), None, task)
    with pytest.raises(ValueError, match="bundle.arm: expected 'point', got ''|bundle.arm: expected point, got ''"):
        check_fits(bundle(metadata=made), PointTask().profile, PointTask())


def test_every_mismatch_with_the_arm_is_refused_by_field():
    task = PointTask()
    names = [field.name for field in dataclasses.fields(bundle().metadata)]
    free = {"schema_version", "policy_version", "real_steps", "ensemble_id", "parameters", "files"}
    free |= {"reward", "adaptation", "disagreement"}
    for name in set(names) - free:
        value = getattr(bundle().metadata, name)
        other = "other" if isinstance(value, str) else value[::-1] + value if isinstance(value, tuple) else value + 1
        fields = {"metadata": dataclasses.replace(bundle().metadata, **{name: other})}
        if name == "obs_dim":
            fields |= {part: np.ones(other, dtype=np.float32) for part in ("obs_mean", "obs_scale")}
        with pytest.raises(ValueError, match=f"^bundle.{name}: expected .*, got "):
            check_fits(bundle(**fields), task.profile, task)


def test_joints_in_another_order_are_refused():
    task = PointTask()
    metadata = dataclasses.replace(bundle().metadata, joint_names=("y", "x"))
    with pytest.raises(ValueError, match=r"bundle.joint_names: expected \('x', 'y'\), got \('y', 'x'\)"):
        check_fits(bundle(metadata=metadata), task.profile, task)
