"""Whole episodes of a policy as it is, collected outside of training, and their learned rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor

from sb3_tare import LearnedReward
from sb3_tare.data.episodes import End, Episodes
from sb3_tare.data.recorder import UNDISTORTED
from sb3_tare.utils.nested import Observations, concatenated, on_cpu

LONGEST = 100_000
"""Steps after which an episode is taken for one that never ends."""


@dataclass(frozen=True)
class Trajectories:
    """Steps of whole episodes, one behind the other.

    :param observations: ``[n, ...]`` as the policy sees them
    :param actions: ``[n, ...]`` as the policy draws them, before any clipping
    :param rewards: ``[n]`` extrinsic, as the algorithm sees them in training
    :param episodes: where each begins and ends
    :param original_rewards: ``[n]`` extrinsic, in the environment's own units
    :param undistorted_rewards: ``[n]`` what steps earned beneath a delay or noise, NaN where the environment does not tell
    """

    observations: Observations
    actions: Tensor
    rewards: Tensor
    episodes: Episodes
    original_rewards: NDArray[np.float64]
    undistorted_rewards: NDArray[np.float64]


@torch.no_grad()
def collect(
    model: Any,
    env: VecEnv,
    n_episodes: int,
    deterministic: bool = False,
    before_step: Callable[[int], None] = lambda episode: None,
) -> Trajectories:
    """Let the policy act in a single environment.

    :param model: an algorithm of SB3, on-policy or off-policy
    :param env: of one copy; normalised as in training
    :param deterministic: leave the policy's exploration out
    :param before_step: is told before each step to which episode it belongs, from 0
    :raises ValueError: if an episode has not ended after 100,000 steps
    """
    normalizer = unwrap_vec_normalize(env)
    observations, actions, rewards, originals, undistorted = [], [], [], [], []
    lengths: list[int] = []
    ends: list[int] = []
    length = 0
    model.policy.set_training_mode(False)
    observation = env.reset()
    while len(lengths) < n_episodes:
        check_length(length)
        before_step(len(lengths))
        observed, _ = model.policy.obs_to_tensor(observation)
        masks = {"action_masks": get_action_masks(env)} if isinstance(model, MaskablePPO) else {}
        action = model.policy._predict(observed, deterministic=deterministic, **masks)
        observations.append(observed)
        actions.append(action)
        observation, reward, done, infos = env.step(_to_environment(action, model.policy))
        rewards.append(float(reward[0]))
        originals.append(float((reward if normalizer is None else normalizer.get_original_reward())[0]))
        undistorted.append(next((float(infos[0][key]) for key in UNDISTORTED if key in infos[0]), np.nan))
        length += 1
        if done[0]:
            lengths.append(length)
            ends.append(End.TIMEOUT if infos[0].get("TimeLimit.truncated", False) else End.TERMINATION)
            length = 0
    return Trajectories(
        on_cpu(concatenated(observations)),
        torch.cat(actions).cpu(),
        torch.tensor(rewards),
        Episodes(torch.tensor(lengths), torch.zeros(n_episodes, dtype=torch.long), torch.tensor(ends)),
        np.array(originals),
        np.array(undistorted),
    )


def check_length(length: int) -> None:
    """Check that an episode may go on after ``length`` steps.

    :raises ValueError: if it is taken for one that never ends
    """
    if length >= LONGEST:
        raise ValueError(
            f"an episode has not ended after {LONGEST:,} steps: wrap the environment in gymnasium.wrappers.TimeLimit, or make "
            "it with max_episode_steps"
        )


def learned_rewards(reward: LearnedReward, steps: Trajectories) -> Tensor:
    """Learned rewards ``[n]`` in the unit of ``steps.rewards``."""
    return reward(steps.observations, steps.actions, steps.rewards, steps.episodes)


def _to_environment(action: Tensor, policy: Any) -> NDArray[Any]:
    array, space = action.cpu().numpy(), policy.action_space
    if not isinstance(space, spaces.Box):
        return array
    if policy.squash_output:
        return policy.unscale_action(np.clip(array, -1.0, 1.0))
    return np.clip(array, space.low, space.high)
