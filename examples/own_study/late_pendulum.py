"""A task of one's own for studies: Gymnasium's pendulum, which pays the whole return with the last step."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class PaidLate(gym.Wrapper):
    """Pays nothing until the episode ends, and then everything."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode that has earned nothing."""
        self.earned = 0.0
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step; its reward is held back."""
        observation, reward, terminated, truncated, info = super().step(action)
        self.earned += float(reward)
        return observation, self.earned if terminated or truncated else 0.0, terminated, truncated, info


def late_pendulum(**kwargs: Any) -> gym.Env:
    """The task."""
    return PaidLate(gym.make("Pendulum-v1", **kwargs))


gym.register("LatePendulum-v0", entry_point=late_pendulum)
