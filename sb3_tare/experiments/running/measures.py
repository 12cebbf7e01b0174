"""Measures that a study may record at each evaluation beside returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare import LearnedReward
from sb3_tare.analysis.trajectories import Trajectories, collect, learned_rewards

Measure = Callable[[BaseAlgorithm, VecEnv], dict[str, Any]]
"""Function from the algorithm and the evaluation's environment, whose normalisation is the training's, to plain data."""

TRAJECTORIES = 10
"""Episodes that a measure looks at (section 2.3)."""


def rewards_along_training(model: BaseAlgorithm, env: VecEnv) -> dict[str, Any]:
    """Mean learned and extrinsic reward of a step, and their correlation over steps (figure 5).

    Rewards are in the unit in which the algorithm sees them. What is not there is None: the learned reward of an algorithm
    that learns none, and a correlation where either reward never varies.
    """
    trajectories = collect(model, env, TRAJECTORIES)
    extrinsic, learned = trajectories.rewards.double().numpy(), _learned(model, trajectories)
    varies = learned is not None and min(learned.std(), extrinsic.std()) > 0
    return {
        "extrinsic": float(extrinsic.mean()),
        "learned": None if learned is None else float(learned.mean()),
        "correlation": float(np.corrcoef(learned, extrinsic)[0, 1]) if learned is not None and varies else None,
    }


def rewards_by_action(model: BaseAlgorithm, env: VecEnv) -> dict[str, Any]:
    """Learned rewards of every step by its action, and how many steps took each action (figure 4).

    Rewards are in the unit in which the algorithm sees them.

    :raises TypeError: if actions are not discrete
    """
    if not isinstance(env.action_space, spaces.Discrete):
        raise TypeError(f"rewards by action need discrete actions, got {env.action_space}")
    trajectories = collect(model, env, TRAJECTORIES)
    actions, learned = trajectories.actions.numpy(), _learned(model, trajectories)
    names = range(int(env.action_space.n))
    return {
        "counts": [int((actions == action).sum()) for action in names],
        "learned": None if learned is None else [learned[actions == action].round(5).tolist() for action in names],
    }


def _learned(model: Any, trajectories: Trajectories) -> NDArray[np.float64] | None:
    if not hasattr(model, "reward_learner"):
        return None
    return learned_rewards(LearnedReward.of(model), trajectories).double().numpy()


MEASURES: dict[str, Measure] = {
    "rewards_along_training": rewards_along_training,
    "rewards_by_action": rewards_by_action,
}
"""Measures by name, as a study gives it."""
