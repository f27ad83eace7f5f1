"""The command `mbrl`: one verb, its flags, one line when something is wrong. Heavy imports wait until needed.

Exit status: 0 done, 1 the run failed, 2 bad input, 128 + n ended by signal n (130 = Ctrl-C).
"""

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mbrl_core.robots.errors import RobotError

USAGE = """usage: mbrl COMMAND [FLAGS]       (mbrl COMMAND --help lists a command's flags)

commands:
  sim         the main job: train on the twin, evaluate, write runs/<stamp>/
  up sim      start the training graph on the twin and keep it up until Ctrl-C
  up real     start the training graph on an arm: mbrl up real --port /dev/ttyUSB0
  up deploy   run a policy without learning, on an arm (--port) or on the twin: mbrl up deploy --bundle FILE
  call VERB   ask a running arm to start, stop, rearm, reset or park; its policy to adapt or rollback;
              estop presses the emergency stop, release lets it out

on an arm's servos (--profile so101 --port /dev/ttyUSB0), without ROS:
  find-port   which serial port is the arm's: pull its cable and see, or --list who answers where
  setup-motor give one motor its id and baud rate: mbrl setup-motor shoulder_pan
  calibrate   zeros, directions and ranges of one arm, by hand, into a YAML file; --check, --from-lerobot FILE
  doctor      look at an arm without moving it; name each problem and its remedy
  teleop      move the arm by keyboard or a leader arm (--leader-port), record episodes: --out FOLDER
  replay      do again what an episode did, and say how far the arm deviated: mbrl replay FILE

on policy bundles (.mbrl):
  inspect     what a bundle is and what it fits: mbrl inspect FILE --profile so101
  adapt       take inner steps on recorded episodes: mbrl adapt --bundle FILE --episodes FOLDER --out FILE2
  export      the policy of a run folder as a bundle: mbrl export --run FOLDER --out FILE

on any Gymnasium environment with a continuous action space, without ROS:
  train       learn a policy: mbrl train --env Pendulum-v1 --steps 1000 --out FOLDER
              --demonstrations FOLDER begins with episodes that were recorded before
  resume      go on with a run that was stopped: mbrl resume FOLDER
  retask      another reward, no new real step: mbrl retask --run FOLDER --reward FILE.py:function --out FOLDER
  eval        try a policy: mbrl eval --bundle FOLDER/policy.mbrl --env Pendulum-v1
"""
FAILED, BAD_INPUT = 1, 2


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line and return the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else BAD_INPUT
    try:
        return _verb(arguments)
    except ValueError as error:
        print(f"mbrl: {error}", file=sys.stderr)
        return BAD_INPUT
    except RobotError as error:
        print(f"mbrl: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            return 128 + signal.SIGPIPE
        print(f"mbrl: {error}", file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as error:
        print(f"mbrl: expected Python module {error.name!r}, which is not installed", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130


def _reader_has_gone() -> bool:
    """Whether nobody reads what is printed any more; the rest of it then goes nowhere."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    gone = any(events & select.POLLERR for _, events in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def _verb(arguments: list[str]) -> int:
    from mbrl_core.config import refuse

    verbs: dict[str, Callable[[list[str]], int]] = {
        "setup-motor": _setup_motor,
        "sim": _sim,
        "up": _up,
        "call": _call,
        "train": _train,
        "resume": _resume,
        "replay": _replay,
        "retask": _retask,
        "teleop": _teleop,
        "eval": _eval,
        "inspect": _inspect,
        "adapt": _adapt,
        "export": _export,
        "calibrate": _calibrate,
        "doctor": _doctor,
        "find-port": _find_port,
    }
    name, *rest = arguments
    if name not in verbs:
        raise refuse("command", f"one of {sorted(verbs)}", name)
    return verbs[name](rest)


def _sim(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.sim_job import SimJobConfig, run_sim_job

    return run_sim_job(parse(SimJobConfig, arguments, "mbrl sim"))


def _up(arguments: list[str]) -> int:
    from mbrl_core.config import refuse
    from mbrl_ros.flags import parse
    from mbrl_ros.graph import DeployGraph, RealGraph, SimGraph

    graphs = {"sim": SimGraph, "real": RealGraph, "deploy": DeployGraph}
    if not arguments or arguments[0] not in graphs:
        raise refuse("mbrl up", f"one of {sorted(graphs)}", arguments[0] if arguments else "nothing")
    config = parse(graphs[arguments[0]], arguments[1:], f"mbrl up {arguments[0]}")

    from mbrl_ros.up import keep_up

    return keep_up(config)


def _call(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.up import CallConfig, call

    return call(parse(CallConfig, arguments, "mbrl call"))


def _train(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.train_command import TrainConfig, train

    return train(parse(TrainConfig, arguments, "mbrl train"))


def _resume(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.train_command import ResumeConfig, resume

    config = parse(ResumeConfig, arguments, "mbrl resume")

    from mbrl_ros.retask_command import is_retask, resume_retask

    return resume_retask(config) if is_retask(Path(config.folder)) else resume(config)


def _retask(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.retask_command import RetaskConfig, retask

    return retask(parse(RetaskConfig, arguments, "mbrl retask"))


def _eval(arguments: list[str]) -> int:
    from mbrl_ros.eval_command import EvalConfig, evaluate_bundle
    from mbrl_ros.flags import parse

    return evaluate_bundle(parse(EvalConfig, arguments, "mbrl eval"))


def _inspect(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.inspect_command import InspectConfig, inspect

    return inspect(parse(InspectConfig, arguments, "mbrl inspect"))


def _adapt(arguments: list[str]) -> int:
    from mbrl_ros.adapt_command import AdaptConfig, adapt
    from mbrl_ros.flags import parse

    return adapt(parse(AdaptConfig, arguments, "mbrl adapt"))


def _export(arguments: list[str]) -> int:
    from mbrl_ros.export_command import ExportConfig, export
    from mbrl_ros.flags import parse

    return export(parse(ExportConfig, arguments, "mbrl export"))


def _teleop(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.teleop_command import TeleopConfig, teleop

    return teleop(parse(TeleopConfig, arguments, "mbrl teleop"))


def _replay(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.replay_command import ReplayConfig, replay

    return replay(parse(ReplayConfig, arguments, "mbrl replay"))


def _find_port(arguments: list[str]) -> int:
    from mbrl_ros.find_port_command import FindPortConfig, find_port
    from mbrl_ros.flags import parse

    return find_port(parse(FindPortConfig, arguments, "mbrl find-port"))


def _setup_motor(arguments: list[str]) -> int:
    from mbrl_ros.flags import parse
    from mbrl_ros.setup_motor_command import SetupMotorConfig, setup_motor

    return setup_motor(parse(SetupMotorConfig, arguments, "mbrl setup-motor"))


def _calibrate(arguments: list[str]) -> int:
    from mbrl_ros.calibrate_command import CalibrateConfig, calibrate
    from mbrl_ros.flags import parse

    return calibrate(parse(CalibrateConfig, arguments, "mbrl calibrate"))


def _doctor(arguments: list[str]) -> int:
    from mbrl_ros.doctor_command import DoctorConfig, doctor
    from mbrl_ros.flags import parse

    return doctor(parse(DoctorConfig, arguments, "mbrl doctor"))


if __name__ == "__main__":
    main()
