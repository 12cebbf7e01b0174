"""Whole runs in a file: a run that was killed goes on from its last checkpoint as if nothing had happened, bit by bit.

Between two rollouts everything that a run's future depends on is in its model, with its environment, its evaluations'
environment, what was recorded, and the global random generators. Environments and ``VecNormalize`` are pickled as they are:
their own ways to be pickled make them anew, or leave the environment out.
"""

from __future__ import annotations

import copyreg
import inspect
import pickle
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
from gymnasium.utils import EzPickle
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper

from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.provenance import Making, commit, versions
from sb3_tare.utils.files import write_atomically
from sb3_tare.utils.generators import generator_states, restore_generators


class Checkpointing(NamedTuple):
    """Folder and frequency of checkpoints.

    :param folder: of results
    :param every: steps between two of them, at least; they are written between rollouts
    """

    folder: Path
    every: int


class Checkpoints(BaseCallback):
    """Writes a run down before a rollout, once so many steps have gone by.

    :param checkpointing: where and how often
    :param job: the run
    :param making: tells what it has cost so far
    :param run: all that its future depends on
    """

    def __init__(self, checkpointing: Checkpointing, job: Job, making: Making, run: dict[str, Any]) -> None:
        super().__init__()
        self.path, self.every = checkpoint_path(checkpointing.folder, job), checkpointing.every
        self.making, self.run = making, run
        self.identity = _identity(job)  # of the code that runs, whatever becomes of its files

    def _on_training_start(self) -> None:
        self.last = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self.last >= self.every:
            self.last = self.model.num_timesteps
            run = {**self.run, **self.identity, "generators": generator_states(), "made": self.making.ended()}
            write_atomically(self.path, partial(write_run, run))

    def _on_step(self) -> bool:
        return True


def checkpoint_path(folder: Path, job: Job) -> Path:
    """The file of a job's checkpoint in a folder of results."""
    return folder / f"{job.stem}.checkpoint"


def restored(folder: Path, job: Job) -> dict[str, Any] | None:
    """A run of this job as it was last written down, with the global generators put back; None if it never was.

    :param folder: of results
    :raises ValueError: if that was with other settings, versions, or code, or the file cannot be read
    """
    path = checkpoint_path(folder, job)
    if not path.exists():
        return None
    try:
        run = pickle.loads(path.read_bytes())
    except Exception as error:  # whatever pickle says to bytes that it did not write
        raise ValueError(f"{path} cannot be read: {error}; remove it, and the run begins anew") from error
    if others := [name for name, value in _identity(job).items() if run[name] != value]:
        raise ValueError(f"{path} is of a run with other {' and '.join(others)}; remove it, and the run begins anew")
    restore_generators(run["generators"])
    return run


def write_run(run: dict[str, Any], file: Any) -> None:
    """Pickle everything in a run to an open file.

    :raises TypeError: if something in it cannot be pickled
    """
    _Whole(file).dump(run)


def can_be_kept(model: BaseAlgorithm) -> bool:
    """Whether all of a run is in its model between two rollouts; a learner that is a callback waits for the next one."""
    return not isinstance(getattr(model, "learner", None), BaseCallback)


def _identity(job: Job) -> dict[str, Any]:
    return {"settings": job.settings, "versions": versions(), "commit": commit()}


class _Whole(cloudpickle.Pickler):
    """Pickles environments with all that they hold."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, EzPickle | VecEnvWrapper):
            state = {name: value for name, value in vars(obj).items() if name != "class_attributes"}
            return copyreg.__newobj__, (type(obj),), state, None, None, _fill  # type: ignore[attr-defined]
        return super().reducer_override(obj)


def _fill(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).update(state)
    if isinstance(obj, VecEnvWrapper):
        obj.class_attributes = dict(inspect.getmembers(type(obj)))  # of which some cannot be pickled
