"""A reward with noise added."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np


class NoisyReward(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Adds Gaussian noise of mean zero to every reward, independent between steps.

    ``info["noiseless_reward"]`` is the reward without it. ``reset(seed=...)`` seeds the noise too; the environment's own
    draws are the same as without the wrapper.

    :param env: any environment
    :param std: standard deviation of the noise, in the environment's reward units
    :raises ValueError: if ``std`` is not a number of at least zero
    """

    def __init__(self, env: gym.Env, std: float = 3.0) -> None:
        if not isinstance(std, (int, float, np.number)) or isinstance(std, bool) or not math.isfinite(std) or std < 0:
            raise ValueError(f"std must be a number of at least 0, got {std!r}")
        gym.utils.RecordConstructorArgs.__init__(self, std=std)
        gym.Wrapper.__init__(self, env)
        self.std = std
        self._noise = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; ``seed`` starts the noise anew."""
        if seed is not None:
            # A child of the seed: the environment's own generator starts from the seed itself and must not be echoed.
            self._noise = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, and add noise to its reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        noisy = float(reward) + self.std * self._noise.standard_normal()
        return observation, noisy, terminated, truncated, {**info, "noiseless_reward": float(reward)}
