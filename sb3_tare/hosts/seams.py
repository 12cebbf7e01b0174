"""Seams in a replay buffer: rows that do not go on from the row before, since somebody else moved the environments.

Stable-Baselines3 asks callbacks before it stores a step, so that the step at which one of them stops training never enters the
buffer. Between two calls of ``learn()`` environments may be reset, stepped by others or exchanged, and the buffer emptied or
filled. Observations alone do not tell: a task may begin where the last episode stood.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_tare.hosts.replay_buffers import PaysLearnedRewards
from sb3_tare.utils.monitors import begun, monitored


@dataclass(frozen=True)
class Step:
    """A step of all environments that was noted, which enters the buffer right after unless training stops.

    :param before: observations that it was taken from, the algorithm's own object
    :param after: those that it led to, likewise
    :param dones: ``[N]``
    :param generation: of the rows in the buffer then
    :param row: that it was to be
    """

    before: Any
    after: Any
    dones: NDArray[np.bool_]
    generation: int
    row: int

    def rows_since(self, buffer: PaysLearnedRewards) -> int | None:
        """Rows that entered since, its own among them; None if the buffer was filled or emptied by others."""
        return buffer.n_written - self.row if buffer.generation == self.generation else None


class Seams:
    """Finds the seams of an algorithm's replay buffer and marks them in it.

    :param model: the algorithm
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._last: Step | None = None
        self._due: NDArray[np.bool_] | None = None
        """``[N]`` of the seam before the next row, if there is one: where an episode begins with it"""
        self._is_training = False
        self._n_moves: list[int] | None = None
        """Steps of each environment when training ended, where they are counted"""
        self._has_warned = False

    def start(self, buffer: PaysLearnedRewards, was_reset: bool) -> None:
        """Find out, as training starts, whether the environments are where the last row left them.

        :param was_reset: whether they are known to be at the beginning of an episode
        """
        began = np.ones(buffer.n_envs, dtype=bool) if was_reset else begun(self._model.get_env())
        if self._last is not None:
            self._warn_of_a_lost_end(self._last, buffer)
        self._due = began if began.all() else self._between_calls(buffer, began)
        self._last, self._is_training = None, True

    def end(self) -> None:
        """Note where the environments are, as training ends."""
        self._is_training, self._n_moves = False, monitored(self._model.get_env(), "total_steps")

    def note(self, buffer: PaysLearnedRewards, step: Mapping[str, Any]) -> None:
        """Note a step, given the locals of the algorithm's own loop, and mark a seam before it if there is one."""
        last = self._last
        if self._due is None and last is not None and last.rows_since(buffer) != 1:
            self._due = last.dones
        buffer.seam, self._due = self._due, None
        dones = np.array(step["dones"], dtype=bool)
        self._last = Step(self._model._last_obs, step["new_obs"], dones, buffer.generation, buffer.n_written)

    def _between_calls(self, buffer: PaysLearnedRewards, began: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """The seam ``[N]`` between what was noted last and what is collected now; None: there is none, or observations tell.

        :param began: ``[N]`` where an episode is known to begin
        """
        last = self._last
        if last is None:
            return None
        n_rows = last.rows_since(buffer)
        goes_on = self._model._last_obs is (last.before if n_rows == 0 else last.after)
        if n_rows in (0, 1) and not goes_on:
            return np.ones_like(began)  # reset, and nothing was collected since
        if self._is_training or (n_rows in (0, 1) and self._n_moves != monitored(self._model.get_env(), "total_steps")):
            return began  # interrupted, perhaps amid a step; or stepped by somebody else
        return last.dones if goes_on and n_rows != 1 else None

    def _warn_of_a_lost_end(self, last: Step, buffer: PaysLearnedRewards) -> None:
        if last.dones.any() and last.rows_since(buffer) == 0 and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "an episode ended with a step that did not enter the replay buffer, since a callback stopped training at it: "
                "nothing is learned from that episode. Stop training by total_timesteps, or a step after an episode's end",
                stacklevel=2,
            )
