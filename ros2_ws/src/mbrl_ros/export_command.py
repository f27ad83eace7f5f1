"""`mbrl export`: the policy bundle of a run folder, in today's format. No ROS."""

import dataclasses
from pathlib import Path

from mbrl_core.algorithms.learner_state import own_generators
from mbrl_core.bundle import Bundle
from mbrl_core.checkpoint import Checkpoint, read_checkpoint
from mbrl_core.config import refuse, setting
from mbrl_ros.retask_command import is_retask
from mbrl_ros.train_command import CONFIG, make_learner, read_settings
from mbrl_sim.environment import open_environment
from mbrl_sim.gym_task import GymTask
from mbrl_sim.training import BUNDLE, CHECKPOINT


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write the last good policy of a run as a bundle.

    A run of `mbrl train` is asked anew, so that one of an earlier version gets today's format; of any other run the
    bundle that it left is checked and copied.
    """

    run: str = setting("", doc="folder of a run")
    out: str = setting("", doc="policy file (.mbrl), new")


def export(config: ExportConfig) -> int:
    """Write the bundle and say what it is; return the exit status.

    Raises:
      ValueError: the folder is none of a run, has no good policy or something damaged, or the file is there already.
    """
    run, out = Path(config.run), Path(config.out)
    if not config.run or not run.is_dir():
        raise refuse("run", "a folder of a run", config.run)
    if not config.out or out.exists() or not out.absolute().parent.is_dir():
        raise refuse("out", "a new policy file (.mbrl) in a folder that exists", config.out)
    bundle = _trained(run) if (run / CHECKPOINT).is_file() and not is_retask(run) else _left(run)
    bundle.save(out)
    parts = {"inner step": bundle.metadata.adaptation, "ensemble": bundle.metadata.disagreement}
    extras = ", ".join(name if there is not None else f"no {name}" for name, there in parts.items())
    print(f"{out}: version {bundle.version} for {bundle.metadata.arm or bundle.metadata.task}; {extras}")
    return 0


def _trained(run: Path) -> Bundle:
    """What the learner of a run of `mbrl train` has to show."""
    settings, checkpoint = dataclasses.replace(read_settings(run), device="cpu"), read_checkpoint(run / CHECKPOINT)
    learner = make_learner(GymTask(open_environment(settings.env, episode_steps=settings.episode_steps)), settings)
    trained = Checkpoint(arrays=checkpoint.arrays, facts=checkpoint.facts["learner"])
    learner.restore(own_generators(trained, learner.checkpoint()))
    return learner.bundle()


def _left(run: Path) -> Bundle:
    if not (run / BUNDLE).is_file():
        raise refuse("run", f"a folder with {CONFIG} and {CHECKPOINT}, or with {BUNDLE}", str(run))
    return Bundle.load(run / BUNDLE)
