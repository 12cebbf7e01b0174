"""SB3's loop that collects a rollout, with a policy and a buffer that are written out where they can be."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare.lean.actor import actor_of
from sb3_tare.lean.recording import recorder_of


def collect(self: Any, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int) -> bool:
    """Collect a rollout as ``OnPolicyAlgorithm.collect_rollouts`` does, statement by statement.

    Names are SB3's, ``self`` included, since callbacks find them in their ``locals``, along with ``actor`` and
    ``recorder``. What is written out is decided when all callbacks have seen the rollout begin.

    :param self: an on-policy algorithm
    :param env: N environments
    :param callback: called at the rollout's start, at each step and at its end
    :param rollout_buffer: emptied, then filled
    :param n_rollout_steps: steps of each environment
    :return: False if a callback has stopped the training
    :raises ValueError: if an observation or the policy is NaN
    """
    assert self._last_obs is not None, "No previous observation was provided"
    self.policy.set_training_mode(False)
    n_steps = 0
    rollout_buffer.reset()
    if self.use_sde:
        self.policy.reset_noise(env.num_envs)
    callback.on_rollout_start()
    actor, recorder = actor_of(self.policy, env.num_envs), recorder_of(rollout_buffer)
    while n_steps < n_rollout_steps:
        if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
            self.policy.reset_noise(env.num_envs)
        obs_tensor = obs_as_tensor(self._last_obs, self.device)
        actions, values, log_probs = actor.act(obs_tensor, self.num_timesteps)
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
        recorder.add(self._last_obs, actions, rewards, self._last_episode_starts, values, log_probs)
        self._last_obs, self._last_episode_starts = new_obs, dones
    with torch.no_grad():
        values = self.policy.predict_values(obs_as_tensor(new_obs, self.device))  # type: ignore[arg-type]
    recorder.compute_returns_and_advantage(last_values=values, dones=dones)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True
