"""Learned rewards that are saved beside the models that other callbacks save.

A model's file does not hold what a bare :class:`~sb3_tare.RewardLearner` has learned. SB3 tells a callback nothing of what
others save, but hands it the whole list: this looks whether one of them has saved since it last looked, which is right in any
order, as rewards change between rollouts only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_tare.utils.files import found_zip
from sb3_tare.utils.sums import parameter_sums
from sb3_tare.utils.zoo_settings import ARGUMENTS, keeps_settings

BESIDE = "beside"
"""Key under which a learner's file holds the checksums of the model's parameters beside which it was saved."""


def check_beside(name: str, saved: Mapping[str, int] | None, model: str | Path) -> None:
    """Check that the model beside a learner's file is the one that it was saved with.

    :param name: of the learner's file
    :param saved: what it holds under :data:`BESIDE`; empty or None where it does not tell
    :param model: path of the model, with or without suffix
    :raises ValueError: if it is not
    """
    if saved and dict(saved) != parameter_sums(model):
        raise ValueError(
            f"{name} was saved beside another {found_zip(model).name} than the one that is there now, as where a run was "
            "killed between the two: go on from an earlier pair, or load that reward by its own path"
        )


class Saver(ABC):
    """A callback that saves models.

    :param callback: it
    """

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self._counted = self._count()

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of its models."""

    @abstractmethod
    def _count(self) -> float:
        """A number that changes when it saves, and perhaps when it does not."""

    @abstractmethod
    def _file(self) -> Path | None:
        """The model that it saved when that number last changed, if it did."""

    def saved(self, until: int) -> Path | None:
        """The model that it has saved since it was last asked, if it was at most ``until`` steps into the run."""
        count = self._count()
        if count == self._counted or self.callback.num_timesteps > until:
            return None
        self._counted = count
        return self._file()


class _Checkpoints(Saver):
    """SB3's ``CheckpointCallback``."""

    @property
    def folder(self) -> Path:
        return Path(self.callback.save_path)

    def _count(self) -> float:
        return self.callback.n_calls

    def _file(self) -> Path | None:
        is_due = self.callback.n_calls % self.callback.save_freq == 0
        return Path(self.callback._checkpoint_path(extension="zip")) if is_due else None


class _Best(Saver):
    """SB3's ``EvalCallback``, where it keeps the best model."""

    @property
    def folder(self) -> Path:
        return Path(self.callback.best_model_save_path)

    def _count(self) -> float:
        return self.callback.best_mean_reward

    def _file(self) -> Path | None:
        return self.folder / "best_model.zip"


class Savers:
    """All that save models of a run.

    :param callback: the list that a run's ``learn`` made of its callbacks
    """

    def __init__(self, callback: BaseCallback) -> None:
        self._savers = list(_savers(callback))

    def saved(self, until: int) -> list[Path]:
        """Models that were saved since the last call, by callbacks that were at most ``until`` steps into the run."""
        return [file for saver in self._savers if (file := saver.saved(until)) is not None]

    def to_come(self, env: VecEnv | None) -> list[Path]:
        """Models that rl-zoo3 will save once training has ended, which it does without a callback.

        Its run's folder is known by the files of settings that it has put there.

        :param env: of training, whose monitors write into that folder too
        """
        folders = {saver.folder.resolve() for saver in self._savers} | set(_monitored(env))
        kept = [file.parent for folder in folders for file in folder.glob(f"*/{ARGUMENTS}") if keeps_settings(file.parent)]
        models = [settings.with_name(f"{settings.name}.zip") for settings in kept]
        return [model for model in models if not model.exists()]  # or it is of a run that is over


def _savers(callback: Any) -> Iterator[Saver]:
    for each in callbacks_in(callback):
        if isinstance(each, CheckpointCallback):
            yield _Checkpoints(each)
        elif isinstance(each, EvalCallback) and each.best_model_save_path is not None:
            yield _Best(each)


def callbacks_in(callback: Any) -> Iterator[BaseCallback]:
    """A callback and all that it passes on to."""
    yield callback
    below = (getattr(callback, name, None) for name in ("callback", "callback_on_new_best"))
    for child in [*getattr(callback, "callbacks", []), *below]:
        if isinstance(child, BaseCallback):
            yield from callbacks_in(child)


def _monitored(env: VecEnv | None) -> Iterator[Path]:
    """Folders of the files that monitors write, where environments live in this process."""
    single: Any
    for single in env.unwrapped.envs if env is not None and isinstance(env.unwrapped, DummyVecEnv) else []:
        while isinstance(single, gym.Wrapper):
            if isinstance(single, Monitor) and single.results_writer is not None:
                yield Path(single.results_writer.file_handler.name).parent.resolve()
            single = single.env
