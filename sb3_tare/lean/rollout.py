"""SB3's loop that collects a rollout, for policies that are written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from sb3_tare.lean.actor import Actor
from sb3_tare.lean.gae import advantages_of


def collect(self: Any, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int) -> bool:
    """``OnPolicyAlgorithm.collect_rollouts``, statement by statement, around an :class:`Actor` and without ``add()``.

    Names are SB3's, ``self`` included, for callbacks find them in their ``locals``.

    :param self: an on-policy algorithm whose policy is written out
    :return: False if a callback has stopped the training
    :raises ValueError: if an observation or the policy is NaN
    """
    assert self._last_obs is not None, "No previous observation was provided"
    self.policy.set_training_mode(False)
    n_steps = 0
    rollout_buffer.reset()
    callback.on_rollout_start()
    actor = Actor(self.policy, env.num_envs)
    while n_steps < n_rollout_steps:
        obs_tensor: Any = obs_as_tensor(self._last_obs, self.device)
        actions, values, log_probs = actor.act(obs_tensor)
        clipped_actions = actor.clipped(actions)
        new_obs, rewards, dones, infos = env.step(clipped_actions)
        self.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        self._update_info_buffer(infos, dones)
        n_steps += 1
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.reshape(-1, 1)
        for idx, done in enumerate(dones):
            if done and infos[idx].get("terminal_observation") is not None and infos[idx].get("TimeLimit.truncated", False):
                terminal_obs = self.policy.obs_to_tensor(infos[idx]["terminal_observation"])[0]
                with torch.no_grad():
                    terminal_value = self.policy.predict_values(terminal_obs)[0]
                rewards[idx] += self.gamma * terminal_value
        _add(rollout_buffer, self._last_obs, actions, rewards, self._last_episode_starts, values, log_probs)
        self._last_obs, self._last_episode_starts = new_obs, dones
    with torch.no_grad():
        values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))  # type: ignore[arg-type]
    _estimate(rollout_buffer, values, dones)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def _add(
    buffer: RolloutBuffer,
    observations: Any,
    actions: np.ndarray,
    rewards: np.ndarray,
    episode_starts: Any,
    values: Tensor,
    log_probs: Tensor,
) -> None:
    """``RolloutBuffer.add`` of arrays that are copied once."""
    at = buffer.pos
    buffer.observations[at] = observations.reshape(buffer.observations.shape[1:])
    buffer.actions[at] = actions.reshape(buffer.actions.shape[1:])
    buffer.rewards[at] = rewards
    buffer.episode_starts[at] = episode_starts
    buffer.values[at] = values.numpy()[:, 0]
    buffer.log_probs[at] = log_probs.numpy()
    buffer.pos = at + 1
    buffer.full = buffer.full or buffer.pos == buffer.buffer_size


def _estimate(buffer: RolloutBuffer, last_values: Tensor, dones: np.ndarray) -> None:
    """``RolloutBuffer.compute_returns_and_advantage``."""
    last = last_values.numpy().flatten()
    buffer.advantages[:] = advantages_of(
        buffer.rewards, buffer.values, buffer.episode_starts, last, dones, buffer.gamma, buffer.gae_lambda
    )
    buffer.returns = buffer.advantages + buffer.values
