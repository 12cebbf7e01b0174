"""A reward that is paid late."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class DelayedReward(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Pays the sum of rewards every ``delay`` steps, and what is still owed when the episode ends or is truncated.

    An episode's return is unchanged. ``info["undelayed_reward"]`` is what the step itself earned. The wrapper belongs
    outside every wrapper that ends episodes, such as a time limit: what is owed at an end that it does not see is lost.

    :param env: any environment
    :param delay: steps between payments, 20 as in LIRPG (Zheng et al., 2018); None pays at the episode's end only
    :raises ValueError: if ``delay`` is neither a positive whole number nor None
    """

    def __init__(self, env: gym.Env, delay: int | None = 20) -> None:
        if delay is not None and (not isinstance(delay, (int, np.integer)) or isinstance(delay, bool) or delay < 1):
            raise ValueError(f"delay must be a whole number of at least 1, or None, got {delay!r}")
        gym.utils.RecordConstructorArgs.__init__(self, delay=delay)
        gym.Wrapper.__init__(self, env)
        self.delay = delay
        self._owed, self._steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; nothing is owed."""
        self._owed, self._steps = 0.0, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, and pay its reward late."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._owed += float(reward)
        self._steps += 1
        is_pay_day = self.delay is not None and self._steps % self.delay == 0
        paid = self._owed if is_pay_day or terminated or truncated else 0.0
        self._owed -= paid
        return observation, paid, terminated, truncated, {**info, "undelayed_reward": float(reward)}
