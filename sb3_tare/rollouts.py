"""A host's rollout as the reward learner needs it: read out of its buffer as rows of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sb3_tare.buffers import flat_rows
from sb3_tare.episodes import Episodes, Part
from sb3_tare.objectives import DistributionParameters
from sb3_tare.recorder import Record
from sb3_tare.returns import Baseline

Observations = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Unit:
    """In which learned rewards are expressed: the extrinsic reward's running mean and size when they were first used."""

    mean: float
    scale: float


@dataclass(frozen=True)
class Rollout:
    """Steps of a rollout, or of a part of one, as rows; all that the reward learner ever uses of them.

    :param observations: ``[n, ...]`` as the host's buffer holds them, the policy's input
    :param states: what the reward sees of them: ``[n, observation_dim]`` features that the policy's extractor made before
        its update, or the observations themselves if the reward has an extractor of its own
    :param actions: ``[n, ...]`` as the policy evaluates them
    :param encoded_actions: ``[n, action_dim]`` as the reward network sees them
    :param action_masks: ``[n, ...]``, or None on hosts without
    :param old_log_probs: ``[n]`` under the policy that acted
    :param extrinsic_rewards: ``[n]`` as the environment gave them (through ``VecNormalize``, if there is one), in its dtype
    :param episodes: its pieces of episodes
    :param extrinsic: the host's critic
    :param unit: of the learned rewards, kept so that a later reward step is one on the rewards that trained the policy
    :param learned: the second critic, or None
    :param behaviour: parameters of the action distributions under the policy that acted, where the curvature needs them
    """

    observations: Observations
    states: Observations
    actions: Tensor
    encoded_actions: Tensor
    action_masks: Tensor | None
    old_log_probs: Tensor
    extrinsic_rewards: Tensor
    episodes: Episodes
    extrinsic: Baseline
    unit: Unit = Unit(0.0, 1.0)
    learned: Baseline | None = None
    behaviour: DistributionParameters | None = None

    def select(self, part: Part) -> Rollout:
        """The rows of ``part``, one behind the other."""
        return self._map(lambda tensor: take(tensor, part.rows), episodes=part.episodes)

    def to(self, device: torch.device) -> Rollout:
        """The same on another device; the episodes' bookkeeping stays on the CPU."""
        return self._map(lambda tensor: tensor.to(device))

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors, for ``torch.load(weights_only=True)``."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> Rollout:
        """The rollout whose :meth:`state_dict` this is, on ``device``."""
        learned = state["learned"]
        rollout = cls(
            **{
                **state,
                "episodes": Episodes(**{name: value.cpu() for name, value in state["episodes"].items()}),
                "extrinsic": Baseline(**state["extrinsic"]),
                "unit": Unit(**state["unit"]),
                "learned": None if learned is None else Baseline(**learned),
            }
        )
        return rollout.to(device)

    def _map(self, function: Callable[[Tensor], Tensor], **changes: Any) -> Rollout:
        mapped = {name: map_tensors(getattr(self, name), function) for name in self.__dataclass_fields__ if name != "episodes"}
        return replace(self, **{**mapped, **changes})


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


def take(values: Any, rows: Tensor) -> Any:
    """``rows`` of each tensor of a nested structure."""
    return map_tensors(values, lambda tensor: tensor[rows.to(tensor.device)])


def concatenated(parts: Sequence[Any]) -> Any:
    """One behind the other: tensors ``[n, ...]``, or dictionaries of them."""
    if isinstance(parts[0], dict):
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return torch.cat(list(parts))


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``function`` to every tensor of a nested structure."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [map_tensors(item, function) for item in value]
    if isinstance(value, Baseline):
        return Baseline(*(map_tensors(getattr(value, name), function) for name in Baseline.__dataclass_fields__))
    return value
