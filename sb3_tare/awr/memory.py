"""The replay memory of AWR: SB3's replay buffer, read as paths in time order."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from sb3_tare.data.cutting import cut_rollout
from sb3_tare.data.episodes import Episodes
from sb3_tare.data.replay import begun_rows
from sb3_tare.utils.checks import Place, check_finite
from sb3_tare.utils.nested import Observations


class Paths(NamedTuple):
    """All steps of a memory in time order, environment by environment."""

    rows: np.ndarray
    """``[n]`` int64, where each step lies in the memory's flat arrays, which have ``size * n_envs`` rows"""
    episodes: Episodes
    """The memory's pieces of episodes, n steps in all"""


class PathMemory(ReplayBuffer):
    """A ring of steps for each environment, in which the oldest step makes room for the newest.

    Beside what SB3's :class:`~stable_baselines3.common.buffers.ReplayBuffer` keeps, it knows each step's time in its
    episode and where a path was left unfinished. A path that has lost its oldest steps keeps the others: returns look
    forward in time, so that they are whole.

    Actions are stored as the policy drew them, those of a ``Box`` in units in which its bounds are -1 and 1, unclipped.
    Arguments are those of SB3's class.
    """

    paid_by: ClassVar[str] = "TAREAWR, which relabels it in each iteration"
    """Words for what pays learned rewards for its steps, of which no rewards in it are replaced"""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.times = np.zeros((self.buffer_size, self.n_envs), dtype=np.int64)
        """Time step of each row in its episode"""
        self.cuts = np.zeros((self.buffer_size, self.n_envs), dtype=bool)
        """True where the row behind does not go on from this one although no episode ended"""
        self.n_new = 0
        """Rows added since the memory was last trained on, all environments together; at most all"""
        self._next_times = np.zeros(self.n_envs, dtype=np.int64)

    def add(
        self, obs: Any, next_obs: Any, action: np.ndarray, reward: np.ndarray, done: np.ndarray, infos: list[dict[str, Any]]
    ) -> None:
        """Add a step of all environments, arrays ``[N, ...]``.

        :raises ValueError: if a number is not finite, naming the environment and the time step of its episode
        """

        def place(env: int = 0, *_: int) -> str:
            return f"in environment {env} at step {self._next_times[env] + 1} of its episode"

        check_finite(obs, "observation", place=place)
        check_finite(next_obs, "observation", place=place)
        check_finite(reward, "reward", place=place)
        check_finite(action, "action", "the policy drew", "lower the learning rates", place)
        self.times[self.pos], self.cuts[self.pos] = self._next_times, False
        self._next_times = np.where(done, 0, self._next_times + 1)
        self.n_new = min(self.n_new + self.n_envs, self.buffer_size * self.n_envs)
        super().add(obs, next_obs, action, reward, done, infos)

    def cut(self, begun: np.ndarray | None = None) -> None:
        """Leave the paths under way unfinished, as when all environments are reset.

        :param begun: ``[N]`` bool, where an episode begins with the next step; elsewhere one is under way, and some of its
            steps are not here. None: everywhere
        """
        self._next_times = np.where(True if begun is None else begun, 0, self._next_times + 1)
        if self.size() > 0:
            self.cuts[self.pos - 1] = True

    def fill(
        self,
        observations: Any,
        next_observations: Any,
        actions: np.ndarray,
        rewards: np.ndarray,
        dones: np.ndarray,
        timeouts: np.ndarray,
    ) -> None:
        """Replace all that the memory holds by ``[size, n_envs, ...]`` arrays in time order.

        A step whose next observation is not the one behind it, though its episode had not ended, leaves its path unfinished.

        :raises ValueError: if a number is not finite
        """
        arrays = {
            "observations": observations,
            "next_observations": next_observations,
            "actions": actions,
            "rewards": rewards,
            "dones": dones,
            "timeouts": timeouts,
        }
        for name, array in arrays.items():
            check_finite(array, f"number among the {name}", "the data holds", "leave such episodes out", _in_data)
            _copy(array, getattr(self, name))
        ended = self.dones.astype(bool)
        goes_on = ~begun_rows(self, np.arange(self.buffer_size), self.buffer_size)[1:]
        self.cuts = np.concatenate([~goes_on & ~ended[:-1], np.zeros((1, self.n_envs), dtype=bool)])
        steps = np.arange(1, self.buffer_size + 1)[:, None]
        begins = np.maximum.accumulate(np.where(ended | self.cuts, steps, 0))
        self.times[0], self.times[1:] = 0, (steps[:-1] - begins[:-1])
        self._next_times = np.where(ended[-1], 0, self.times[-1] + 1)
        self.pos, self.full, self.n_new = 0, True, self.buffer_size * self.n_envs

    def paths(self, n_newest: int | None = None) -> Paths:
        """All steps, or the newest ``n_newest`` of all environments together, in time order.

        Reading costs a few operations on whole arrays, whatever the number of episodes.
        """
        size = self.size()
        n_steps = size if n_newest is None else -(-n_newest // self.n_envs)
        steps = (self.pos - n_steps + np.arange(n_steps)) % self.buffer_size
        dones = self.dones[steps].astype(bool)
        timeouts = dones & self.timeouts[steps].astype(bool)
        arrays = (torch.from_numpy(array) for array in (dones, timeouts, self.times[steps], self.cuts[steps]))
        rows = steps[:, None] * self.n_envs + np.arange(self.n_envs)
        return Paths(rows.T.reshape(-1), cut_rollout(*arrays))

    def place(self, rows: Any) -> Place:
        """Words for where steps were taken, given their numbers among flat ``rows`` ``[n]``."""

        def words(number: int) -> str:
            step, env = divmod(int(rows[number]), self.n_envs)
            return f"in environment {env} at step {self.times[step, env] + 1} of its episode"

        return words

    def observations_at(self, rows: np.ndarray, env: VecNormalize | None = None) -> Observations:
        """Observations ``[n, ...]`` at flat ``rows`` ``[n]``, normalised by ``env``, on the memory's device."""
        return self._observations(self.observations, rows, env)

    def next_observations_at(self, rows: np.ndarray, env: VecNormalize | None = None) -> Observations:
        """Observations ``[n, ...]`` that followed those at flat ``rows`` ``[n]``; the terminal one where the episode ended."""
        return self._observations(self.next_observations, rows, env)

    def actions_at(self, rows: np.ndarray) -> Tensor:
        """Actions at flat ``rows`` as the policy's distribution takes them: ``[n]`` if discrete, else ``[n, action_dim]``."""
        actions = self.to_torch(_flat(self.actions)[rows], copy=False)
        return actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else actions.float()

    def rewards_at(self, rows: np.ndarray, env: VecNormalize | None = None) -> Tensor:
        """Rewards ``[n]`` at flat ``rows`` ``[n]``, normalised by ``env``."""
        return self.to_torch(self._normalize_reward(self.rewards.reshape(-1)[rows], env), copy=False)

    def _observations(self, arrays: Any, rows: np.ndarray, env: VecNormalize | None) -> Observations:
        if isinstance(arrays, dict):
            chosen = self._normalize_obs({key: _flat(array)[rows] for key, array in arrays.items()}, env)
            return {key: self.to_torch(array, copy=False) for key, array in chosen.items()}  # type: ignore[union-attr]
        return self.to_torch(self._normalize_obs(_flat(arrays)[rows], env), copy=False)  # type: ignore[arg-type]


class DictPathMemory(PathMemory, DictReplayBuffer):
    """A :class:`PathMemory` of ``Dict`` observations."""


def memory_class_for(observation_space: spaces.Space) -> type[PathMemory]:
    """The class whose memories hold observations of this space."""
    return DictPathMemory if isinstance(observation_space, spaces.Dict) else PathMemory


def check_fits(memory: Any, model: Any) -> None:
    """Check that ``model`` can learn from ``memory``.

    :raises TypeError: if ``memory`` is no :class:`PathMemory`
    :raises ValueError: if its observations, actions or number of environments are not those of ``model``
    """
    if not isinstance(memory, PathMemory):
        raise TypeError(
            f"AWR needs a memory of paths, got a {type(memory).__name__}: "
            "sb3_tare.awr.offline.memory_from_replay_buffer makes one of a replay buffer"
        )
    for name in ("observation_space", "action_space"):
        theirs, ours = getattr(memory, name), getattr(model, name)
        if theirs != ours:
            raise ValueError(f"the memory's {name} is {theirs}, the model's is {ours}: load a memory of the same environment")


def _in_data(step: int, env: int = 0, *_: int) -> str:
    return f"in environment {env} at step {step + 1} of the data"


def _copy(source: Any, target: Any) -> None:
    if isinstance(target, dict):
        for key, array in target.items():
            _copy(source[key], array)
    else:
        target[...] = np.asarray(source).reshape(target.shape)


def _flat(array: np.ndarray) -> np.ndarray:
    """Flatten ``[T, N, ...]`` to ``[T * N, ...]`` without copying, row = step * N + env."""
    return array.reshape(-1, *array.shape[2:])
