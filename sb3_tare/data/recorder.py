"""Notes of a rollout that the host's buffer does not keep, taken while it is collected."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sb3_tare.data.cutting import cut_rollout
from sb3_tare.data.episodes import Episodes
from sb3_tare.utils.checks import at_step, check_finite

UNDISTORTED = ("undelayed_reward", "noiseless_reward")
"""Entries of ``info`` in which the environments of :mod:`sb3_tare.envs` tell what a step earned before its reward was
delayed or made noisy."""


@dataclass(frozen=True)
class Record:
    """A rollout's ``[T, N]`` arrays beside those that the buffer holds.

    :param rewards: ``[T, N]`` as the environment gave them (through ``VecNormalize``, if there is one), in its dtype
    :param original_rewards: ``[T, N]`` as they were before ``VecNormalize``
    :param undistorted_rewards: ``[T, N]`` what each step earned beneath a delay or noise, NaN where nobody tells
    :param dones: ``[T, N]`` bool, where the step ended its episode
    :param timeouts: ``[T, N]`` bool, where a time limit ended the episode
    :param times: ``[T, N]`` int64, time step in the episode
    :param terminal_observations: of the timeouts, by (step, environment)
    :param last_observations: ``[N, ...]`` those that follow the last step
    :param original_observations: ``[T, N, ...]`` those of the steps before ``VecNormalize``, or None if nobody told them
    """

    rewards: np.ndarray
    original_rewards: np.ndarray
    undistorted_rewards: np.ndarray
    dones: np.ndarray
    timeouts: np.ndarray
    times: np.ndarray
    terminal_observations: dict[tuple[int, int], Any]
    last_observations: Any
    original_observations: np.ndarray | None = None

    def episodes(self) -> Episodes:
        """The rollout cut into pieces of episodes."""
        return cut_rollout(*(torch.from_numpy(array) for array in (self.dones, self.timeouts, self.times)))


class Recorder:
    """Notes at each step what a rollout buffer does not keep: rewards before bootstrapping, timeouts, time steps.

    :param n_envs: number of environments
    """

    _first_times: np.ndarray
    _rewards: list[np.ndarray]
    _original_rewards: list[np.ndarray]
    _undistorted_rewards: list[list[float]]
    _dones: list[np.ndarray]
    _terminal_observations: dict[tuple[int, int], Any]
    _last_observations: Any
    _original_observations: list[np.ndarray | None]

    def __init__(self, n_envs: int) -> None:
        self.go_on_from(np.zeros(n_envs, dtype=np.int64))

    @property
    def times(self) -> np.ndarray:
        """Time step ``[N]`` of the next observation in its episode."""
        return self._all_times()[-1]

    def begin(self, episode_starts: np.ndarray, original_observations: np.ndarray | None = None) -> None:
        """Start a rollout.

        :param episode_starts: ``[N]`` bool, where an environment was reset since the last one
        :param original_observations: ``[N, ...]`` the first ones before ``VecNormalize``; None: nobody asks for them
        """
        self.go_on_from(np.where(episode_starts, 0, self.times))
        self._original_observations = [original_observations]

    def go_on_from(self, times: np.ndarray) -> None:
        """Start anew with environments that are ``times`` ``[N]`` steps into their episodes."""
        self._first_times = times
        self._rewards, self._original_rewards, self._undistorted_rewards, self._dones = [], [], [], []
        self._terminal_observations = {}
        self._last_observations = None
        self._original_observations = [None]

    def go_on_elsewhere(self, begun: np.ndarray) -> None:
        """Start anew with environments that were moved, such that nothing goes on from where they were left.

        :param begun: ``[N]`` bool, where an episode begins; elsewhere it is under way, and its first steps were not seen
        """
        self.go_on_from(np.where(begun, 0, np.maximum(self._first_times, self.times) + 1))

    def add(
        self,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
        observations: Any,
        original_rewards: np.ndarray | None = None,
        original_observations: np.ndarray | None = None,
        step: int | None = None,
    ) -> None:
        """Record one step of all environments, before SB3 adds bootstrapped values to ``rewards`` in place.

        :param rewards: ``[N]`` numbers, or truth values, as the environments gave them
        :param dones: ``[N]`` bool, where the step ended its episode
        :param infos: of each environment
        :param observations: ``[N, ...]`` those that follow the step
        :param original_rewards: ``[N]`` before ``VecNormalize``; None: the same
        :param original_observations: ``[N, ...]`` those that follow the step before ``VecNormalize``; None: nobody asks
        :param step: that the run has reached, for errors; None: that of the rollout
        :raises ValueError: if a reward or an observation is not finite, naming the environment and the step
        """
        place = at_step(len(self._rewards) + 1 if step is None else step)
        check_finite(rewards, "reward", place=place)
        if original_rewards is not None:  # statistics that no longer move clip infinity away
            check_finite(original_rewards, "reward", place=place)
        check_finite(observations, "observation", place=place)
        for env in dones.nonzero()[0] if dones.any() else ():
            terminal_observation = infos[env].get("terminal_observation")
            if terminal_observation is not None:
                check_finite(terminal_observation, "terminal observation", place=lambda *_, env=env: place(env))
                if infos[env].get("TimeLimit.truncated", False):
                    # Copies, as an environment may write all that it returns into the same arrays each time.
                    self._terminal_observations[len(self._rewards), int(env)] = deepcopy(terminal_observation)
        self._rewards.append(_numbers(rewards))
        self._original_rewards.append(self._rewards[-1] if original_rewards is None else _numbers(original_rewards))
        self._undistorted_rewards.append(undistorted_rewards(infos, len(dones)))
        self._dones.append(dones.copy())
        self._last_observations = deepcopy(observations)
        self._original_observations.append(original_observations)

    def record(self) -> Record:
        """The rollout recorded since :meth:`begin`.

        :raises RuntimeError: if nothing was recorded
        """
        if not self._rewards:
            raise RuntimeError("no rollout was recorded: train() can only follow a rollout, in learn()")
        rewards = np.concatenate(self._rewards).reshape(len(self._rewards), -1)
        dones = self._all_dones()
        timeouts = np.zeros_like(dones)
        for step, env in self._terminal_observations:
            timeouts[step, env] = True
        return Record(
            rewards,
            np.concatenate(self._original_rewards).reshape(rewards.shape),
            np.array(self._undistorted_rewards),
            dones,
            timeouts,
            self._all_times()[:-1],
            self._terminal_observations,
            self._last_observations,
            None if self._original_observations[0] is None else np.stack(self._original_observations[:-1]),  # type: ignore[arg-type]
        )

    def _all_dones(self) -> np.ndarray:
        shape = (len(self._dones), len(self._first_times))
        return np.concatenate(self._dones).astype(bool).reshape(shape) if self._dones else np.zeros(shape, dtype=bool)

    def _all_times(self) -> np.ndarray:
        """Steps ``[T + 1, N]`` since the last end, or since the start of the episode that was under way."""
        dones = self._all_dones()
        steps = np.arange(len(dones) + 1)[:, None]
        begins = np.concatenate([-self._first_times[None], np.where(dones, steps[1:], np.iinfo(np.int64).min)])
        return steps - np.maximum.accumulate(begins)


def undistorted_rewards(infos: Sequence[dict[str, Any]], n_envs: int) -> list[float]:
    """Rewards ``[N]`` that each environment's step earned beneath a delay or noise; NaN where nobody tells.

    :param infos: of each environment; some batched simulators give none while no episode ends
    """
    told = infos if len(infos) == n_envs else [{}] * n_envs
    return [_undistorted(info) for info in told]


def _undistorted(info: dict[str, Any]) -> float:
    for key in UNDISTORTED:
        if key in info:
            return float(info[key])
    return np.nan


def _numbers(rewards: Any) -> np.ndarray:
    """A copy of rewards in their dtype; True is 1."""
    array = np.array(rewards)
    return array.astype(np.float32) if array.dtype.kind == "b" else array
