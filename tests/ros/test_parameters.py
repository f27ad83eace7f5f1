"""Parameters come from the dataclasses; what they do not know is refused before anything moves."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mbrl_core.replay import write_episode

pytest.importorskip("rclpy", reason="rclpy is not installed")


def start(module, *parameters, domain="0"):
    arguments = [part for parameter in parameters for part in ("-p", parameter)]
    environment = {**os.environ, "ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    return subprocess.run(
        [sys.executable, "-m", f"mbrl_ros.{module}", "--ros-args", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "parameter", "complaint"),
    [
        ("twin", "sped:=2.0", "twin.sped: expected one of ["),
        ("twin", "speed:=-1.0", "twin.speed: expected at least 0.01, got -1.0"),
        ("twin", "perturbation.stiffness:=0.5", "perturbation.joint: expected one of ['shoulder_pan'"),
        ("twin", "speed:=fast", "twin.speed: expected float, got 'fast'"),
        ("robot_interface", "command_timeout_s:=.nan", "robot_interface.command_timeout_s: expected a finite number"),
        ("policy", "actor:=best", "policy.actor: expected one of ['learned', 'zero', 'random'], got 'best'"),
        (
            "policy",
            "adaptation.imagined.step_kl:=2.0",
            "policy.adaptation.imagined.step_kl: expected at most 1.0, got 2.0",
        ),
        (
            "policy",
            "adaptation.route:=both",
            "policy.adaptation.route: expected one of ['imagined', 'real'], got 'both'",
        ),
        ("model_learning", "seed:=1", "model_learning.run_dir: expected a folder, got ''"),
        ("model_learning", "me_ppo.iterations:=0", "model_learning.me_ppo.iterations: expected at least 1, got 0"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(module, parameter, complaint, unique_domain):
    ended = start(module, parameter, domain=unique_domain)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


def test_demonstrations_of_another_task_are_refused_by_the_learner(tmp_path, unique_domain):
    from fakes.point_task import point_episode

    write_episode(tmp_path / "episode-000000.safetensors", point_episode(np.random.default_rng(0)))
    given = (f"run_dir:={tmp_path / 'run'}", f"demonstrations:={tmp_path}")
    ended = start("model_learning", *given, domain=unique_domain)
    assert ended.returncode == 2
    assert "demonstrations: episode-000000.safetensors: task: expected 'reach', got 'point'" in ended.stderr
    assert not (tmp_path / "run/demonstrations").exists()


def test_a_profile_with_a_joint_that_the_model_lacks_is_refused(tmp_path, unique_domain):
    from mbrl_sim import ASSETS

    text = (ASSETS / "so101.yaml").read_text().replace("name: elbow_flex", "name: elbow_flexx")
    (tmp_path / "arm.yaml").write_text(text)
    (tmp_path / "so101.xml").write_text((ASSETS / "so101.xml").read_text())
    ended = start("twin", f"profile:={tmp_path / 'arm.yaml'}", domain=unique_domain)
    assert ended.returncode == 2
    assert "elbow_flexx" in ended.stderr
    assert "expected" in ended.stderr
