"""Whole episodes of a policy as it is, and what its learned reward says about each of their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sb3_tare.episodes import End, Episodes
from sb3_tare.returns import Baseline
from sb3_tare.rollouts import Rollout


@dataclass(frozen=True)
class Trajectories:
    """Steps of whole episodes, one behind the other.

    :param observations: ``[n, ...]`` as the policy sees them
    :param actions: ``[n, ...]`` as the policy draws them, before any clipping
    :param rewards: ``[n]`` extrinsic, as the algorithm sees them in training
    :param episodes: where each begins and ends
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    episodes: Episodes


@torch.no_grad()
def collect(model: Any, env: VecEnv, n_episodes: int) -> Trajectories:
    """Let the policy act, with its exploration, in a single environment.

    :param model: an on-policy algorithm
    :param env: of one copy, with observations that are not dictionaries; normalised as in training
    """
    observations: list[Tensor] = []
    actions: list[Tensor] = []
    rewards: list[float] = []
    dones: list[bool] = []
    timeouts: list[bool] = []
    model.policy.set_training_mode(False)
    observation = env.reset()
    while sum(dones) < n_episodes:
        observed, _ = model.policy.obs_to_tensor(observation)
        action = model.policy(observed)[0]
        observations.append(observed)
        actions.append(action)
        observation, reward, done, infos = env.step(_to_environment(action, env.action_space))
        rewards.append(float(reward[0]))
        dones.append(bool(done[0]))
        timeouts.append(bool(infos[0].get("TimeLimit.truncated", False)))
    last = np.flatnonzero(dones)
    lengths = torch.from_numpy(np.diff(last, prepend=-1))
    ends = torch.tensor([int(End.TIMEOUT if timeouts[row] else End.TERMINATION) for row in last])
    episodes = Episodes(lengths, torch.zeros_like(lengths), ends)
    return Trajectories(torch.cat(observations), torch.cat(actions), torch.tensor(rewards), episodes)


@torch.no_grad()
def learned_rewards(model: Any, trajectories: Trajectories) -> NDArray[np.float64] | None:
    """``[n]`` learned rewards in the unit of ``trajectories.rewards``; None if the model learns none.

    :param model: an algorithm whose ``reward_learner`` is a :class:`~sb3_tare.RewardLearner`, or one without
    """
    learner = getattr(model, "reward_learner", None)
    if learner is None:
        return None
    trainer, policy = learner.trainer, model.policy
    states = trajectories.observations
    if trainer.settings.features == "policy":
        states = policy.extract_features(states, getattr(policy, "pi_features_extractor", policy.features_extractor))
    encoded = preprocess_obs(trajectories.actions, model.action_space, normalize_images=False)
    assert isinstance(encoded, Tensor)
    nothing = torch.zeros_like(trajectories.rewards)
    rollout = Rollout(
        observations=trajectories.observations,
        states=states,
        actions=trajectories.actions,
        encoded_actions=encoded.flatten(1),
        action_masks=None,
        old_log_probs=nothing,
        extrinsic_rewards=trajectories.rewards,
        episodes=trajectories.episodes,
        extrinsic=Baseline(nothing, nothing, nothing),
        unit=trainer.reward_model.unit,
    )
    return trainer.reward_model(rollout).double().numpy()


def _to_environment(action: Tensor, space: spaces.Space[Any]) -> NDArray[Any]:
    array = action.cpu().numpy()
    return np.clip(array, space.low, space.high) if isinstance(space, spaces.Box) else array
