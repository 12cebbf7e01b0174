"""Places of environments in their episodes, as SB3's monitors count them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv


def monitored(env: VecEnv, name: str) -> list[Any] | None:
    """An attribute of each environment's ``Monitor``; None where they have none."""
    return env.get_attr(name) if all(env.env_is_wrapped(Monitor)) else None


def begun(env: VecEnv) -> NDArray[np.bool_]:
    """Environments ``[N]`` that are known to stand at the beginning of an episode."""
    rewards = monitored(env, "rewards")
    return np.zeros(env.num_envs, dtype=bool) if rewards is None else np.array([len(each) == 0 for each in rewards])


def places(env: VecEnv) -> list[tuple[int, bool]] | None:
    """Steps that each environment has taken in all, and whether it is at the beginning of an episode; None: nobody counts.

    They tell whether somebody has moved an environment.
    """
    totals = monitored(env, "total_steps")
    return None if totals is None else list(zip(totals, begun(env).tolist(), strict=True))
