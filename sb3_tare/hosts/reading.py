"""A host's rollout buffer and the record of its rollout, read as rows of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from sb3_tare.advantages.generalised import generalised_advantages
from sb3_tare.data.recorder import Record
from sb3_tare.data.rollout import Baseline, Edits, PolicySteps, RewardSteps, Rollout
from sb3_tare.hosts.buffers import flat_rows
from sb3_tare.utils.checks import LOWER_RATES, at_step, check_finite
from sb3_tare.utils.nested import Observations

COARSE = 1e-3
"""Distance of neighbouring numbers in single precision from which on a reward, of 16,384 or more, swallows too much of the
value that the host has added to it: a learned reward that takes its place may be much smaller."""


def read_rollout(model: Any, record: Record, states: Callable[[Observations], Observations]) -> Rollout:
    """The rollout of an algorithm, without the learner's critic.

    :param model: an algorithm with a rollout buffer
    :param record: what the buffer does not keep
    :param states: from observations ``[n, ...]`` to what the reward sees of them
    :raises RuntimeError: if the buffer was consumed before, or does not hold what was recorded
    :raises ValueError: if what the policy gave is not finite, naming the environment and the step
    """
    buffer = model.rollout_buffer
    _check_buffer(buffer, record)
    _check_finite(model, buffer)

    def rows(arrays: Any) -> Any:
        return _rows(arrays, model.device)

    observations = rows(buffer.observations)
    actions = rows(buffer.actions).float()
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    masks = getattr(buffer, "action_masks", None)
    encoded = preprocess_obs(actions, model.action_space, normalize_images=False)
    assert isinstance(encoded, Tensor)
    rollout = Rollout(
        rows=torch.arange(record.rewards.size, device=model.device),
        policy=PolicySteps(observations, actions, rows(buffer.log_probs), None if masks is None else rows(masks)),
        reward=RewardSteps(
            states(observations),
            encoded.flatten(1),
            rows(record.rewards),
            record.episodes(),
            rows(record.original_rewards),
        ),
        policy_critic=_own_baseline(model, record),
    )
    return replace(rollout, edits=_edits(rollout, buffer))


def next_values(values: Tensor, last_values: Tensor, dones: np.ndarray) -> Tensor:
    """Values ``[n]`` of the observations that follow each row, zero where the row ended its episode.

    :param values: ``[n]`` of the rows' own observations
    :param last_values: ``[N]`` of those behind the last step of each environment
    :param dones: ``[T, N]``
    """
    n_steps, n_envs = dones.shape
    by_env = values.view(n_envs, n_steps)
    following = torch.cat([by_env[:, 1:], last_values.to(values).view(n_envs, 1)], dim=1)
    return following.masked_fill(torch.as_tensor(dones.T, device=values.device), 0.0).flatten()


def _own_baseline(model: Any, record: Record) -> Baseline:
    buffer = model.rollout_buffer
    last_values = model.policy.predict_values(obs_as_tensor(record.last_observations, model.device)).flatten()
    # The host has added its bootstrapped values to the rewards in place. Their difference is exact in float64, so that
    # adding it to the recorded rewards gives the host's own back to the bit.
    added = np.where(record.timeouts, buffer.rewards.astype(np.float64) - record.rewards.astype(np.float64), 0.0)
    for place, observation in record.terminal_observations.items():
        if np.spacing(np.float32(abs(record.rewards[place]))) > COARSE:
            value = model.policy.predict_values(model.policy.obs_to_tensor(observation)[0])
            added[place] = float(model.gamma * value)
    bootstraps = _rows(added, model.device)
    values = _rows(buffer.values, model.device)
    return Baseline(values, next_values(values, last_values, record.dones), bootstraps)


def _edits(rollout: Rollout, buffer: Any) -> Edits | None:
    """Differences of the buffer's advantages and returns from the host's own, exact in float64; None if there are none."""
    critic, reward = rollout.policy_critic, rollout.reward
    own = generalised_advantages(reward.rewards, critic, reward.episodes, buffer.gamma, buffer.gae_lambda)
    advantages, returns = (_rows(array, own.device) for array in (buffer.advantages, buffer.returns))
    if torch.equal(advantages, own) and torch.equal(returns, advantages + critic.values):
        return None
    return Edits(advantages.double() - own.double(), returns.double() - (advantages + critic.values).double())


def _rows(arrays: Any, device: torch.device) -> Any:
    if isinstance(arrays, dict):
        return {key: _rows(array, device) for key, array in arrays.items()}
    return torch.as_tensor(flat_rows(arrays).copy(), device=device)


def _check_finite(model: Any, buffer: Any) -> None:
    """Check what the policy gave for a rollout, before anything is learned from it.

    :raises ValueError: if it is not finite
    """
    n_steps, n_envs = buffer.rewards.shape

    def place(step: int, env: int, *_: int) -> str:
        return at_step(model.num_timesteps - (n_steps - 1 - step) * n_envs)(env)

    names = {
        "actions": "action",
        "log_probs": "log-probability",
        "values": "value",
        "rewards": "reward with a bootstrapped value",
        "advantages": "advantage",
    }
    for attribute, name in names.items():
        check_finite(getattr(buffer, attribute), name, "the policy gave", LOWER_RATES, place)


def _check_buffer(buffer: Any, record: Record) -> None:
    """Check that the buffer holds what was recorded.

    :raises RuntimeError: if it was consumed before, or holds something else
    """
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
