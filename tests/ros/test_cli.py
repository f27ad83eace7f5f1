"""The command line: what it refuses, and how it says so."""

import json
import signal
import subprocess
import sys

import pytest

from mbrl_ros import cli


def mbrl(*arguments):
    command = [sys.executable, "-m", "mbrl_ros.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command(capsys):
    assert cli.run(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("sim", "up sim", "up real", "up deploy", "call VERB"))


def test_a_reader_that_leaves_early_gets_no_complaint():
    command = [sys.executable, "-m", "mbrl_ros.cli", "train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 128 + signal.SIGPIPE


@pytest.mark.parametrize("command", ["find-port", "setup-motor", "calibrate", "doctor", "teleop", "replay"])
def test_every_command_for_an_arm_is_listed_and_has_a_help_of_its_own(command, capsys):
    cli.run(["--help"])
    assert f"\n  {command} " in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        cli.run([command, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert f"usage: mbrl {command}" in shown
    assert "--port" in shown or "--pattern" in shown


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["trian"], "command: expected one of ['adapt', 'calibrate', 'call', 'doctor', "),
        (["up"], "mbrl up: expected one of ['deploy', 'real', 'sim'], got 'nothing'"),
        (["up", "real"], "port: expected a serial port, for example /dev/ttyUSB0, got ''"),
        (["up", "deploy", "--bundle", "none.mbrl"], "bundle: expected a policy file (.mbrl), got 'none.mbrl'"),
        (["up", "sim", "--speed", "0"], "mbrl up sim.speed: expected at least 0.1, got 0.0"),
        (["sim", "--steps", "4000"], "mbrl sim.steps: expected at most 3000, got 4000"),
        (["sim", "--seed", "1000000007"], "seed: expected a seed other than the evaluation's, got 1000000007"),
        (["sim", "--profile", "no-such-arm"], "profile: expected a file"),
        (
            ["call", "go"],
            "mbrl call.verb: expected one of ['start', 'stop', 'rearm', 'reset', 'park', 'estop', 'release', 'adapt', "
            "'rollback'], got 'go'",
        ),
        (["call", "adapt", "--inner-steps", "-1"], "mbrl call.inner_steps: expected at least 0, got -1"),
        (["call", "adapt", "--inner-steps", "201"], "mbrl call.inner_steps: expected at most 200, got 201"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(arguments, complaint, capsys, tmp_path, monkeypatch):
    pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mbrl: {complaint}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir()), "nothing may be left by a command that was refused"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("train --out run", "env: expected the id of a Gymnasium environment, got ''"),
        ("train --env Pendulum-v1", "out: expected a new folder, got ''"),
        ("train --env CartPole-v1 --out run", "CartPole-v1: action_space: expected continuous"),
        ("train --env Nowhere-v7 --out run", "env: expected an environment that Gymnasium knows"),
        ("train --env Pendulum-v1 --steps 199 --out run", "steps: expected at least 200, one episode of Pendulum-v1"),
        (
            "train --env Pendulum-v1 --out run --steps 400 --schedule.milestones 200 400",
            "schedule.milestones: expected below 400, the budget, got 400",
        ),
        ("train --env Pendulum-v1 --out run --algorithm sac", "mbrl train.algorithm: expected one of"),
        (
            "train --env Pendulum-v1 --out run --me-ppo.ensemble.members 0",
            "mbrl train.me_ppo.ensemble.members: expected",
        ),
        ("train --env Pendulum-v1 --out run --me-ppo.imagination.rollouts 7", "imagination.rollouts: exp"),
        ("train --env Pendulum-v1 --out run --demonstrations none", "demonstrations: expected a folder with episode-"),
        (
            "train --env Pendulum-v1 --out run --algorithm mb-mpo --me-ppo.imagination.horizon 7",
            "me_ppo.imagination.horizon: expected its default, 40: mb-mpo has its settings in mb_mpo, got 7",
        ),
        (
            "train --env Pendulum-v1 --out run --bptt.learning-rate 0.5",
            "bptt.learning_rate: expected its default, 0.003: me-ppo has its settings in me_ppo, got 0.5",
        ),
        (
            "train --env Pendulum-v1 --out run --algorithm vanilla --me-ppo.ensemble.members 7",
            "me_ppo.ensemble.members: expected its default, 5: vanilla has one model",
        ),
        ("retask --out new", "run: expected a folder of `mbrl train`, with config.json, got ''"),
        ("retask --run . --out new", "run: expected a folder of `mbrl train`, with config.json, got '"),
        ("retask --run .", "out: expected a new folder, got ''"),
        ("resume nothing", "folder: expected one of `mbrl train`, with config.json, got 'nothing'"),
        ("eval --env Pendulum-v1", "bundle: expected a policy file (.mbrl), got ''"),
        ("eval --env Pendulum-v1 --bundle none.mbrl", "bundle: expected a file, got 'none.mbrl'"),
    ],
)
def test_bad_input_to_training_is_one_line_and_leaves_nothing(arguments, complaint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mbrl: {complaint}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_policy_is_trained_shown_again_and_evaluated_and_fits_no_other_environment(tmp_path, capsys):
    out, bundle = str(tmp_path / "run"), str(tmp_path / "run/policy.mbrl")
    small = "--me-ppo.ensemble.hidden 8 --me-ppo.ensemble.max-steps 50 --me-ppo.imagination.rollouts 10"
    few = "--me-ppo.iterations 5 --me-ppo.validation.ratio 0 --schedule.eval-episodes 2 --schedule.curve-episodes 1"
    command = f"train --env Pendulum-v1 --steps 200 --episode-steps 100 --out {out} {small} {few}"
    assert cli.run(command.split()) == 0
    shown = capsys.readouterr().out
    assert "200 real steps" in shown
    assert cli.run(["resume", out]) == 0
    again = capsys.readouterr().out
    assert "learned" in again
    assert shown.endswith(again)
    assert cli.run(command.split()) == 2
    assert "out: expected a new or empty folder" in capsys.readouterr().err
    evaluation = f"eval --bundle {bundle} --episodes 2 --episode-steps 100 --env"
    assert cli.run([*evaluation.split(), "Pendulum-v1"]) == 0
    assert "random" in capsys.readouterr().out
    assert cli.run([*evaluation.split(), "MountainCarContinuous-v0"]) == 2
    assert "bundle.task: expected MountainCarContinuous-v0, got 'Pendulum-v1'" in capsys.readouterr().err
    again_in_its_models(out, tmp_path, capsys)


def again_in_its_models(run, folder, capsys):
    """Retask what was trained, show it again, and see what is refused."""
    (folder / "mine.py").write_text("def still(obs, action, next_obs):\n    return -next_obs[..., 2] ** 2\n")
    command = f"retask --run {run} --out {folder / 'new'} --rounds 2 --reward {folder / 'mine.py'}:"
    assert cli.run(f"{command}missing".split()) == 2
    assert "expected a function missing, got ['still']" in capsys.readouterr().err
    assert not (folder / "new").exists()
    assert cli.run(f"{command}still".split()) == 0
    shown = capsys.readouterr().out
    assert "0 real steps" in shown
    assert "old policy" in shown
    assert cli.run(["resume", str(folder / "new")]) == 0
    again = capsys.readouterr().out
    assert "learned" in again
    assert shown.endswith(again)
    summary = json.loads((folder / "new/summary.json").read_text())
    assert (summary["real_steps"], summary["model_real_steps"], summary["rounds"]) == (0, 200, 2)
    assert cli.run(f"retask --run {folder / 'new'} --out {folder / 'third'} --reward x.py:y".split()) == 2
    assert "run: expected a folder of `mbrl train`" in capsys.readouterr().err


def test_flags_come_from_the_dataclass_with_unit_bounds_and_default():
    ended = mbrl("sim", "--help")
    assert ended.returncode == 0
    text = " ".join(ended.stdout.replace("│", "").split())
    assert "--speed FLOAT speed of the twin while training (at least 0.1, at most 100) (default: 1.0)" in text
    assert "learning after the last real step [s]" in text


def test_an_unknown_flag_is_refused_with_exit_status_2():
    ended = mbrl("sim", "--sped", "2")
    assert ended.returncode == 2
    assert "--sped" in ended.stderr


def test_calling_an_arm_that_is_not_there_fails_in_one_line(unique_domain, monkeypatch, capsys):
    pytest.importorskip("mbrl_msgs", reason="mbrl_msgs is not built")
    monkeypatch.setenv("ROS_DOMAIN_ID", unique_domain)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    assert cli.run(["call", "start"]) == 1
    assert capsys.readouterr().err == "no robot_interface offers start (waited 5.0 s)\n"


def test_the_command_itself_imports_nothing_heavy():
    code = "import sys, mbrl_ros.cli; print([m for m in ('rclpy', 'numpy', 'tyro', 'torch') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "[]\n"
