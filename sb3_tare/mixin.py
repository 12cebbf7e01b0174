"""What makes an on-policy algorithm of SB3 learn its reward."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_tare.learner import RewardLearner
from sb3_tare.persistence import generator_states, restore_generators, write_atomically, zip_path


class LearnsReward:
    """Mixed in before a supported algorithm, it installs a :class:`~sb3_tare.RewardLearner` and saves it in the zip.

    :param reward_kwargs: see :class:`~sb3_tare.settings.RewardSettings`
    """

    learner_class: ClassVar[type[RewardLearner]] = RewardLearner
    reward_learner: RewardLearner

    def __init__(self, *args: Any, reward_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if reward_kwargs is not None and not isinstance(reward_kwargs, Mapping):
            raise TypeError(f"reward_kwargs must be a mapping of settings, got {reward_kwargs!r}")
        self.reward_kwargs = dict(reward_kwargs or {})
        self.learner_class.settings_class(**self.reward_kwargs)  # complain before an environment is made
        self._continuation: dict[str, Any] | None = None
        """Of a loaded model: where its environments and the global random generators were."""
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        continuation = self._continuation
        super()._setup_model()  # type: ignore[misc]
        self.reward_learner = self.learner_class(**self.reward_kwargs)
        self.reward_learner.attach(self, drives_host=False)
        if continuation is not None:
            self.reward_learner.go_on_from(continuation["times"])
            same_seed = continuation["seed"] == self.seed  # type: ignore[attr-defined]
            self._continuation = continuation if same_seed else None

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the global generators, which then do not go on where a loaded model's were."""
        super().set_random_seed(seed)  # type: ignore[misc]
        self._continuation = None

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> tuple[int, BaseCallback]:
        prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)  # type: ignore[misc]
        if self._continuation is not None and not reset_num_timesteps:
            restore_generators(self._continuation["generators"])
        self._continuation = None
        return prepared

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        """The learner comes first: it must see rewards before any other callback can touch them."""
        if callback is None:
            callbacks = []
        elif isinstance(callback, BaseCallback):
            callbacks = [callback]
        elif isinstance(callback, list):
            callbacks = callback
        else:
            callbacks = [ConvertCallback(callback)]
        return super()._init_callback([self.reward_learner, *callbacks], progress_bar)  # type: ignore[misc]

    def train(self) -> None:
        """Update the policy on the learned reward, and the reward on held-out extrinsic returns."""
        self.reward_learner.phase(super().train)  # type: ignore[misc]

    def save(
        self, path: str | Path | io.BufferedIOBase, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Save all that a continued run needs; a file is written whole or not at all.

        The states of the global random generators are saved too. ``learn(..., reset_num_timesteps=False)`` on the loaded
        model takes them up, so that the run goes on as if it had not been interrupted, unless it is given another seed.
        """
        save = super().save  # type: ignore[misc]
        to_be_taken_up = self._continuation  # of a loaded model that has not gone on yet
        self._continuation = to_be_taken_up or {
            "generators": generator_states(),
            "times": self.reward_learner.times,
            "seed": self.seed,  # type: ignore[attr-defined]
        }
        try:
            if isinstance(path, (str, Path)):
                write_atomically(zip_path(path), lambda file: save(file, exclude, include))
            else:
                save(path, exclude, include)
        finally:
            self._continuation = to_be_taken_up

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()  # type: ignore[misc]
        return [*state_dicts, "reward_learner"], variables
