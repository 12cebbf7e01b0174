"""Writing a rollout into its buffer."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from sb3_tare.lean.gae import advantages_of


class Recorder(Protocol):
    """The methods of a ``RolloutBuffer`` that a rollout needs."""

    def add(
        self, obs: Any, action: np.ndarray, reward: np.ndarray, episode_start: Any, value: Tensor, log_prob: Tensor
    ) -> None:
        """Keep a step of N environments.

        :param obs: ``[N, ...]``, an array or a dictionary of arrays
        :param action: ``[N, ...]``
        :param reward: ``[N]``
        :param episode_start: ``[N]``, whether the step is the first of its episode
        :param value: ``[N, 1]``
        :param log_prob: ``[N]``
        """

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Fill in advantages and returns.

        :param last_values: ``[N, 1]``, of the observations behind the last step
        :param dones: ``[N]`` bool, whether the last step ended its episode
        """


class DirectRecorder:
    """Writes into a buffer's arrays what its own methods would, copying each once.

    :param buffer: of the class ``RolloutBuffer`` itself
    """

    def __init__(self, buffer: RolloutBuffer) -> None:
        self.buffer = buffer
        self._shapes = buffer.observations.shape[1:], buffer.actions.shape[1:]

    def add(
        self, obs: Any, action: np.ndarray, reward: np.ndarray, episode_start: Any, value: Tensor, log_prob: Tensor
    ) -> None:
        """Keep a step of N environments as ``RolloutBuffer.add`` does.

        :param obs: ``[N, ...]``
        :param action: ``[N, ...]``
        :param reward: ``[N]``
        :param episode_start: ``[N]``, whether the step is the first of its episode
        :param value: ``[N, 1]``
        :param log_prob: ``[N]``
        """
        buffer, at = self.buffer, self.buffer.pos
        buffer.observations[at] = obs.reshape(self._shapes[0])
        buffer.actions[at] = action.reshape(self._shapes[1])
        buffer.rewards[at] = reward
        buffer.episode_starts[at] = episode_start
        buffer.values[at] = value.numpy()[:, 0]
        buffer.log_probs[at] = log_prob.numpy()
        buffer.pos = at + 1
        buffer.full = buffer.full or buffer.pos == buffer.buffer_size

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Fill in advantages and returns as ``RolloutBuffer.compute_returns_and_advantage`` does.

        :param last_values: ``[N, 1]``, of the observations behind the last step
        :param dones: ``[N]`` bool, whether the last step ended its episode
        """
        if last_values.dtype != torch.float32:  # in whose type SB3 goes on
            self.buffer.compute_returns_and_advantage(last_values, dones)
            return
        buffer, last = self.buffer, last_values.numpy().flatten()
        buffer.advantages[:] = advantages_of(
            buffer.rewards, buffer.values, buffer.episode_starts, last, dones, buffer.gamma, buffer.gae_lambda
        )
        buffer.returns = buffer.advantages + buffer.values


def is_written_out(buffer: Any) -> bool:
    """Whether the buffer is SB3's own, on the CPU, with no method replaced."""
    is_own = type(buffer) is RolloutBuffer and not any(hasattr(RolloutBuffer, name) for name in vars(buffer))
    return is_own and buffer.device.type == "cpu"


def recorder_of(buffer: Any) -> Recorder:
    """Recorder that fills ``buffer``: the buffer itself where it is not exactly SB3's."""
    return DirectRecorder(buffer) if is_written_out(buffer) else buffer
