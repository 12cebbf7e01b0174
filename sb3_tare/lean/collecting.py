"""Rollouts, and word of which loops are in use: all that algorithms with leaner loops share."""

from __future__ import annotations

import logging
from typing import Any

from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare.lean.dispatch import HostLoop, sb3_obstacle
from sb3_tare.lean.rollout import collect

log = logging.getLogger("sb3_tare")


class CollectsLeanly:
    """Mixed in before an on-policy algorithm of SB3, it makes rollouts leaner.

    :param lean: False for SB3's own loops
    :raises TypeError: if ``lean`` is not a bool
    """

    def __init__(self, *args: Any, lean: bool = True, **kwargs: Any) -> None:
        if not isinstance(lean, bool):
            raise TypeError(f"lean must be True or False, got {lean!r}")
        self.lean = lean
        super().__init__(*args, **kwargs)

    @property
    def host_loop(self) -> HostLoop:
        """Loops in use, and why."""
        raise NotImplementedError

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill ``rollout_buffer``, as ``OnPolicyAlgorithm.collect_rollouts`` does.

        :return: False if a callback has stopped the training
        :raises ValueError: if an observation or the policy is NaN
        """
        if sb3_obstacle(self) is None:
            return collect(self, env, callback, rollout_buffer, n_rollout_steps)
        return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)  # type: ignore[misc]

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        result = super()._setup_learn(*args, **kwargs)  # type: ignore[misc]
        log.debug("%s: %s", type(self).__name__, self.host_loop)
        return result
