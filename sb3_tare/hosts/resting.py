"""Environments at rest between two calls of ``learn()``, in which others may move them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_tare.utils.monitors import places


class Resting:
    """Tells whether an algorithm's environments are where its last rollout has left them.

    They are not where that was broken off, where somebody has stepped or reset them since, as ``evaluate_policy`` does, or
    where the algorithm has trained without telling. SB3 tells of resets alone, by its ``_last_episode_starts``, which a step
    at which a callback stops the training does not enter.

    :param model: the algorithm
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._is_known = False
        """Whether a whole rollout, or a file, has told where they are"""
        self._before: tuple[bool, Any] | None = None
        """That, and the ``_old_starts``, when the rollout began; None once a step of it was noted"""
        self._last_obs: Any = None
        """Observations of the algorithm then, its own object"""
        self._places: list[tuple[int, bool]] | None = None
        """Counts of their monitors when training ended; None where nobody has told of that, or counts"""
        self._old_starts: Any = None
        """The ``_last_episode_starts`` of before the last step, its own object"""

    def __getstate__(self) -> dict[str, Any]:
        """Knowledge of a copy: where no step was noted since a rollout began, nobody has moved its environments since."""
        is_known, old_starts = self._before or (self._is_known, self._old_starts)
        return {**vars(self), "_is_known": is_known, "_old_starts": old_starts, "_before": None}

    def begin(self) -> None:
        """Note that a rollout begins, whose first step may fail before it is noted."""
        before = self._is_known, self._old_starts
        self.move()
        self._before = before

    def leave(self) -> None:
        """Note that the environments are where they are known to be, after a whole rollout or by a file."""
        self._is_known, self._before, self._last_obs, self._places = True, None, self._model._last_obs, None

    def end(self) -> None:
        """Note that training ends."""
        self._places = places(self._model.get_env())

    def move(self) -> None:
        """Note that the environments are about to be stepped, or were, before the algorithm has noted it."""
        self._is_known, self._before, self._old_starts = False, None, self._model._last_episode_starts

    def starts(self) -> NDArray[np.bool_]:
        """Environments ``[N]`` that were reset since the last step, as far as SB3 tells."""
        starts = np.array(self._model._last_episode_starts, dtype=bool)
        return np.zeros_like(starts) if self._model._last_episode_starts is self._old_starts else starts

    def begun(self, times: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Environments ``[N]`` that are at the beginning of an episode; None: all are where they were left.

        :param times: ``[N]`` steps that each was into its episode when the last step was noted
        """
        model, now = self._model, places(self._model.get_env())
        has_moved = self._places not in (None, now)
        if self._is_known and model._last_obs is self._last_obs and not has_moved:
            return None
        if now is None:
            return times == 0 if model._last_episode_starts is self._old_starts else self.starts()
        self._old_starts = model._last_episode_starts  # monitors know better
        return np.array([begins for _, begins in now])
