"""What a host's rollout buffer does not keep, noted while a rollout is collected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sb3_tare.episodes import Episodes, cut_rollout


@dataclass(frozen=True)
class Record:
    """A rollout's ``[T, N]`` arrays beside those that the buffer holds.

    :param rewards: as the environment gave them, in its dtype
    :param dones: bool
    :param timeouts: bool, where a time limit ended the episode
    :param times: int64, time step in the episode
    :param terminal_observations: of the timeouts, by (step, environment)
    :param last_observations: those that follow the last step, of all environments
    """

    rewards: np.ndarray
    dones: np.ndarray
    timeouts: np.ndarray
    times: np.ndarray
    terminal_observations: dict[tuple[int, int], Any]
    last_observations: Any

    def episodes(self) -> Episodes:
        """The rollout cut into pieces of episodes."""
        return cut_rollout(*(torch.from_numpy(array) for array in (self.dones, self.timeouts, self.times)))


class Recorder:
    """Notes at each step what a rollout buffer does not keep: rewards before bootstrapping, timeouts, time steps.

    :param n_envs: number of environments
    """

    def __init__(self, n_envs: int) -> None:
        self.times = np.zeros(n_envs, dtype=np.int64)
        self.clear()

    def clear(self) -> None:
        """Forget the rollout, but not how far its episodes have come."""
        self._rewards: list[np.ndarray] = []
        self._dones: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._terminal_observations: dict[tuple[int, int], Any] = {}
        self._last_observations: Any = None

    def begin(self, episode_starts: np.ndarray) -> None:
        """Start a rollout; ``episode_starts`` ``[N]`` is True where an environment was reset since the last one."""
        self.clear()
        self.times[episode_starts.astype(bool)] = 0

    def add(self, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]], observations: Any) -> None:
        """Record one step of all environments, before SB3 adds bootstrapped values to ``rewards`` in place.

        :raises ValueError: if a reward or an observation is not finite
        """
        check_finite(rewards, "reward")
        check_finite(observations, "observation")
        for env in np.nonzero(dones)[0]:
            terminal_observation = infos[env].get("terminal_observation")
            if terminal_observation is not None:
                check_finite(terminal_observation, "terminal observation")
                if infos[env].get("TimeLimit.truncated", False):
                    self._terminal_observations[len(self._rewards), int(env)] = terminal_observation
        self._rewards.append(rewards.copy())
        self._dones.append(dones.astype(bool))
        self._times.append(self.times.copy())
        self.times = np.where(dones, 0, self.times + 1)
        self._last_observations = observations

    def record(self) -> Record:
        """What was recorded since :meth:`begin`."""
        shape = (len(self._rewards), len(self.times))
        rewards, dones, times = (np.concatenate(rows).reshape(shape) for rows in (self._rewards, self._dones, self._times))
        timeouts = np.zeros_like(dones)
        for step, env in self._terminal_observations:
            timeouts[step, env] = True
        return Record(rewards, dones, timeouts, times, self._terminal_observations, self._last_observations)


def check_finite(values: Any, name: str) -> None:
    """:raises ValueError: if ``values``, an array or a dictionary of arrays, holds NaN or infinity"""
    arrays = values if isinstance(values, dict) else {"": values}
    for key, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            where = f"{name} {key!r}" if key else name
            raise ValueError(
                f"the environment returned a {where} that is not finite: {array[~np.isfinite(array)][:3]}; "
                "mend the environment, or wrap it so that NaN and infinity never leave it"
            )
