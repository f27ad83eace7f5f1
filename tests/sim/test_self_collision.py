"""How near an arm is to itself, for every profile: against MuJoCo's distances of single pairs."""

import dataclasses
import itertools

import mujoco
import numpy as np
import pytest

from mbrl_core.arm import load_profile
from mbrl_sim import ASSETS
from mbrl_sim.self_collision import FAR_M, SelfCollision, strangers

NAMES = ("koch", "open_manipulator_x", "so100", "so101", "so101_ros2_control")


@pytest.fixture(scope="module", params=NAMES)
def profile(request):
    return load_profile(ASSETS / f"{request.param}.yaml")


def poses(profile, count, seed=0):
    return np.random.default_rng(seed).uniform(
        profile.vector("lower_rad"), profile.vector("upper_rad"), (count, len(profile.joints))
    )


def distances(profile, pose):
    """Of every pair that is measured, from the MJCF as it is: {(geom, geom): m}."""
    model = mujoco.MjModel.from_xml_path(str(profile.mjcf_path))
    data = mujoco.MjData(model)
    data.qpos[[model.jnt_qposadr[model.joint(joint.name).id] for joint in profile.joints]] = pose
    mujoco.mj_forward(model, data)
    pairs = [pair for pair in itertools.combinations(range(model.ngeom), 2) if strangers(model, *pair)]
    least = {pair: profile.clearance_m * bool(model.geom_bodyid[list(pair)].all()) for pair in pairs}
    return {pair: mujoco.mj_geomDistance(model, data, *pair, 0.3, None) - least[pair] for pair in pairs}


def test_the_nearest_pair_counts(profile):
    clear, most = SelfCollision(profile), FAR_M - profile.clearance_m
    for pose in poses(profile, 60):
        assert clear(pose[None])[0] == pytest.approx(min(most, *distances(profile, pose).values()), abs=1e-9)


def test_home_is_free(profile):
    assert SelfCollision(profile)(profile.vector("home_rad")[None])[0] > 0.005


def test_of_a_whole_path_no_more_is_promised_than_there_is_and_what_is_too_near_is_told_exactly(profile):
    clear = SelfCollision(profile)
    rng = np.random.default_rng(3)
    for start in poses(profile, 60, seed=2):
        path = start + np.cumsum(rng.uniform(-0.03, 0.03, (12, len(start))), axis=0)
        told, single = clear(path), np.array([clear(pose[None])[0] for pose in path])
        assert (told <= single + 1e-12).all()
        assert ((told > 0) | (told == single)).all()
        assert told[0] == single[0]


def test_a_pair_that_is_nearer_than_the_clearance_at_home_need_be_no_further_apart_than_there(profile):
    close = dataclasses.replace(profile, clearance_m=0.06)
    home = profile.vector("home_rad")
    assert min(distances(close, home).values()) < 0
    assert SelfCollision(close)(home[None])[0] == pytest.approx(0.0, abs=1e-9)


def test_links_that_touch_the_table_are_too_near_only_when_they_are_in_it():
    profile = load_profile(ASSETS / "so101.yaml")
    clear = SelfCollision(profile)
    reaching = [pose for pose in poses(profile, 400) if clear(pose[None])[0] < 0]
    into = [pose for pose in reaching if min(distances(profile, pose), key=distances(profile, pose).get)[0] == 0]
    assert into  # geom 0 is the table


def test_a_joint_that_the_mjcf_does_not_have_is_refused(profile):
    first = dataclasses.replace(profile.joints[0], name="tail")
    with pytest.raises(ValueError, match="tail"):
        SelfCollision(dataclasses.replace(profile, joints=(first, *profile.joints[1:])))
