"""What a host's rollout buffer and a record of the rollout hold, read as rows of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sb3_tare.data.recorder import Record
from sb3_tare.data.rollout import Baseline, Rollout
from sb3_tare.hosts.buffers import flat_rows
from sb3_tare.utils.nested import Observations


class RolloutReader:
    """Turns what a host's buffer and a record hold into a :class:`Rollout`. The policy must be in evaluation mode.

    :param model: the host
    :param policy_features: whether the reward sees the features that the policy's extractor makes, or observations
    """

    def __init__(self, model: Any, policy_features: bool) -> None:
        self.model = model
        self.policy_features = policy_features

    @torch.no_grad()
    def read(self, record: Record) -> Rollout:
        """The host's rollout, without the second critic's baseline.

        :raises RuntimeError: if the buffer was consumed before, or does not hold what was recorded
        """
        buffer = self.model.rollout_buffer
        if buffer.generator_ready or record.rewards.shape != buffer.rewards.shape:
            raise RuntimeError(
                "the rollout buffer does not hold what the environment gave, step by step: either another RewardLearner has "
                "taken it (a model can have one), or a callback has read it with get()"
            )
        if not np.array_equal(buffer.rewards[~record.timeouts], record.rewards.astype(np.float32)[~record.timeouts]):
            raise RuntimeError(
                "rewards in the rollout buffer differ from those that the environment gave: something edits them in place, "
                "which a learned reward would undo. Let an environment wrapper change rewards instead"
            )
        observations = self._rows(buffer.observations)
        actions = self._rows(buffer.actions).float()
        discrete = isinstance(self.model.action_space, spaces.Discrete)
        policy_actions = actions.long().flatten() if discrete else actions
        masks = getattr(buffer, "action_masks", None)
        return Rollout(
            observations=observations,
            states=self._states(observations),
            actions=policy_actions,
            encoded_actions=preprocess_obs(policy_actions, self.model.action_space, normalize_images=False).flatten(1),  # type: ignore[union-attr]
            action_masks=None if masks is None else self._rows(masks),
            old_log_probs=self._rows(buffer.log_probs),
            extrinsic_rewards=self._rows(record.rewards),
            episodes=record.episodes(),
            extrinsic=self._host_baseline(buffer, record),
        )

    def new_rewards(self, rollout: Rollout, record: Record) -> Tensor:
        """``[n]`` extrinsic rewards that were not seen before."""
        return rollout.extrinsic_rewards

    @torch.no_grad()
    def baseline(self, rollout: Rollout, record: Record, critic: Callable[[Observations], Tensor]) -> Baseline:
        """What ``critic``, a map from states to values ``[n]``, says about a whole rollout."""
        values = critic(rollout.states)
        last_values = critic(self._states(obs_as_tensor(record.last_observations, self.model.device)))
        bootstraps = torch.zeros_like(values, dtype=torch.float64)
        n_steps = len(record.dones)
        for (step, env), observation in record.terminal_observations.items():
            terminal_state = self._states(self.model.policy.obs_to_tensor(observation)[0])
            bootstraps[env * n_steps + step] = self.model.gamma * critic(terminal_state)[0]
        return Baseline(values, _next_values(values, last_values, record.dones), bootstraps)

    def _host_baseline(self, buffer: RolloutBuffer, record: Record) -> Baseline:
        last_observations = obs_as_tensor(record.last_observations, self.model.device)
        last_values = self.model.policy.predict_values(last_observations).flatten()
        # The host has added its bootstrapped values to the rewards in place. Their difference is exact in float64, so
        # that adding it to the recorded rewards gives the host's own back to the bit.
        added = buffer.rewards.astype(np.float64) - record.rewards.astype(np.float64)
        bootstraps = self._rows(np.where(record.timeouts, added, 0.0))
        values = self._rows(buffer.values)
        return Baseline(values, _next_values(values, last_values, record.dones), bootstraps)

    def _states(self, observations: Observations) -> Observations:
        if not self.policy_features:
            return observations
        policy = self.model.policy
        extractor = getattr(policy, "pi_features_extractor", policy.features_extractor)
        return extractor(preprocess_obs(observations, policy.observation_space, normalize_images=policy.normalize_images))

    def _rows(self, arrays: Any) -> Any:
        if isinstance(arrays, dict):
            return {key: self._rows(array) for key, array in arrays.items()}
        return torch.as_tensor(flat_rows(arrays).copy(), device=self.model.device)


def _next_values(values: Tensor, last_values: Tensor, dones: np.ndarray) -> Tensor:
    """``[n]`` values of the observations that follow each row, zero where the row ended its episode."""
    n_steps, n_envs = dones.shape
    by_env = values.view(n_envs, n_steps)
    following = torch.cat([by_env[:, 1:], last_values.to(values).view(n_envs, 1)], dim=1)
    return following.masked_fill(torch.as_tensor(dones.T, device=values.device), 0.0).flatten()
