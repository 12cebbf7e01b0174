"""The frame of all trials: a clock, a time limit, and observations of a few numbers."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Numbers = NDArray[np.float32]


class Trial(gym.Env[Numbers, Any]):
    """An environment of a few numbers that ends, truncated, after ``horizon`` steps.

    A class of this kind says how an episode begins, what is seen, and what a step earns.

    :param n_seen: numbers in an observation
    :param action_space: of the environment
    """

    horizon: ClassVar[int] = 20

    def __init__(self, n_seen: int, action_space: spaces.Space[Any]) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (n_seen,), dtype=np.float32)
        self.action_space = action_space
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Numbers, dict[str, Any]]:
        """Begin an episode; ``options`` are not used."""
        super().reset(seed=seed)
        self.time = 0
        self.begin()
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Numbers, float, bool, bool, dict[str, Any]]:
        """Take ``action``.

        :raises ValueError: if it is not of the action space
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action must be in {self.action_space}, got {action!r}")
        reward, terminated = self.earn(action)
        self.time += 1
        return self._seen(), float(reward), terminated, self.time >= self.horizon, {}

    def begin(self) -> None:
        """Set up what an episode begins with."""

    def see(self) -> list[float] | Numbers:
        """The observation, as numbers."""
        raise NotImplementedError

    def earn(self, action: Any) -> tuple[float, bool]:
        """Take a step; return its reward, and whether it ends the episode for good."""
        raise NotImplementedError

    def _seen(self) -> Numbers:
        return np.asarray(self.see(), dtype=np.float32)


def drifting(value: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """The next ``[k]`` of ``k`` slow random signals in [-1, 1], whose last ``value`` is ``[k]``."""
    return np.clip(0.95 * value + 0.2 * generator.standard_normal(value.shape), -1.0, 1.0)
