"""docs/new-arm.md adds an arm without code: what its reader writes is written here, and run."""

import re
from pathlib import Path

import numpy as np
import pytest

from mbrl_core.actor import RandomActor
from mbrl_core.arm import ArmProfile, load_profile
from mbrl_core.kinematics import Chain
from mbrl_core.robots.servo_arm import ServoArm
from mbrl_sim import profile_check
from mbrl_sim.emulated_bus import Twin
from mbrl_sim.physics import ArmPhysics
from mbrl_sim.reach_env import ReachEnv, run_episode

GUIDE = Path(__file__).parents[2] / "docs" / "new-arm.md"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    text = GUIDE.read_text()
    for kind in ("xml", "yaml"):
        (block,) = re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        (name,) = re.findall(rf"^## .*`(\w+\.{kind})`$", text, re.MULTILINE)
        (tmp_path / name).write_text(block)
    return tmp_path / "lamp.yaml"


@pytest.fixture
def profile(path: Path) -> ArmProfile:
    return load_profile(path)


def test_command_of_the_guide_approves_of_it(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile_check.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert "lamp agrees with lamp.xml" in shown
    assert "tip at home 0.197, 0.000, 0.123 m" in shown


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("{name: lift", "{name: shoulder"),
        ("upper_rad: 1.85, home_rad: 0.9", "upper_rad: 2.1, home_rad: 0.9"),
        ("lower_rad: -0.15, upper_rad: 1.85, home_rad: 0.9", "lower_rad: -1.85, upper_rad: 0.15, home_rad: -0.9"),
        ("sign: -1", "sign: 1"),
        ("home_rad: 0.9", "home_rad: 0.0"),
        ("[0.26, 0.25, 0.32]", "[0.16, 0.25, 0.32]"),
        ("[0.19, 0.09, 0.14]", "[0.23, 0.09, 0.14]"),
    ],
)
def test_refusals_are_those_that_the_guide_quotes(
    path: Path, capsys: pytest.CaptureFixture[str], right: str, wrong: str
) -> None:
    assert path.read_text().count(right) == 1
    path.write_text(path.read_text().replace(right, wrong))
    assert profile_check.main([str(path)]) == 2
    refusal = capsys.readouterr().err.removeprefix(f"{path}: ").strip()
    assert f"`{refusal}`" in GUIDE.read_text()


def test_physics_stands_and_forward_kinematics_is_mujocos(profile: ArmProfile) -> None:
    arm, rng = ArmPhysics(profile), np.random.default_rng(0)
    arm.advance(2.0)
    np.testing.assert_allclose(arm.position, profile.vector("home_rad"), atol=0.02)
    for _ in range(20):
        pose = rng.uniform(profile.vector("lower_rad"), profile.vector("upper_rad"))
        arm.reset(pose)
        np.testing.assert_allclose(Chain(profile).tip(pose), arm.tip, atol=1e-9)


def test_episodes_can_be_collected_on_it(profile: ArmProfile) -> None:
    env = ReachEnv(profile)
    env.reset(seed=0)
    episode = run_episode(env, RandomActor(3), rng=np.random.default_rng(0))
    assert episode.truncated
    assert np.isfinite(episode.states).all()
    assert np.abs(np.diff(episode.states[:, :3], axis=0)).max() > 0.01


def test_driver_finds_it_behind_the_emulated_bus(profile: ArmProfile) -> None:
    with Twin(profile) as twin:
        arm = ServoArm(profile, twin.port)
        arm.connect()
        try:
            np.testing.assert_allclose(arm.read().position, profile.vector("home_rad"), atol=0.005)
        finally:
            arm.close()
