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

from sb3_tare.data.replay import begun_rows
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
        here, begins = self._model._last_obs, began if self._due is None else self._due
        # In place of the step of the last row, so that a call in which no step is noted leaves the next one what it knew.
        self._last = Step(here, here, begins, buffer.generation, buffer.n_written - 1)
        self._is_training = True

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
        if last is None:  # others have trained so far, and may have stopped anywhere
            return self._by_monitors(buffer, began)
        n_rows = last.rows_since(buffer)
        goes_on = any(self._model._last_obs is each for each in (last.before, last.after))
        if n_rows in (0, 1) and not goes_on:
            return np.ones_like(began)  # reset, and nothing was collected since
        if self._is_training or (goes_on and self._n_moves != monitored(self._model.get_env(), "total_steps")):
            return began  # interrupted, perhaps amid a step; or stepped by somebody else
        if n_rows == 1:
            return self._due  # of a call in which no step was noted
        return last.dones if goes_on else None

    def _by_monitors(self, buffer: PaysLearnedRewards, began: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
        """The seam ``[N]`` before the next row, where a ``Monitor`` is not as far into the episode that seems to go on.

        :param began: ``[N]`` where an episode is known to begin
        """
        rewards = monitored(self._model.get_env(), "rewards")
        if rewards is None or not buffer.n_written:
            return None
        rows = np.arange(buffer.n_written - buffer.size(), buffer.n_written)
        begins = np.ones((len(rows) + 1, buffer.n_envs), dtype=bool)
        begins[1:] = buffer.dones[rows % buffer.buffer_size]
        begins[1:-1] |= begun_rows(buffer, rows, buffer.n_written)[1:]
        n_steps, n_rows = np.array([len(each) for each in rewards]), begins[::-1].argmax(0)
        reset = self._shown_anew(buffer)
        return began | reset if ((n_steps != n_rows) & ~reset).any() else None

    def _shown_anew(self, buffer: PaysLearnedRewards) -> NDArray[np.bool_]:
        """Environments whose observation is not the one that followed the last row, ``[N]``: they were reset."""
        model, last = self._model, buffer.pos - 1
        now = model._last_obs if model.get_vec_normalize_env() is None else model._last_original_obs
        then: Any = buffer.next_observations
        pairs = [(now[key], then[key][last]) for key in then] if isinstance(then, dict) else [(now, then[last])]
        return np.any([(np.asarray(a, b.dtype).reshape(b.shape) != b).reshape(len(b), -1).any(1) for a, b in pairs], axis=0)

    def _warn_of_a_lost_end(self, last: Step, buffer: PaysLearnedRewards) -> None:
        if last.dones.any() and last.rows_since(buffer) == 0 and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "an episode ended with a step that did not enter the replay buffer, since a callback stopped training at it: "
                "nothing is learned from that episode. Stop training by total_timesteps, or a step after an episode's end",
                stacklevel=2,
            )
