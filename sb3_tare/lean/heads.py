"""The distributions that a policy's outputs are parameters of, behind one interface."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sb3_tare.lean import categorical, gaussian


class Head(Protocol):
    """A distribution of actions, given outputs of the policy."""

    def prepare(self, actions: Tensor) -> Tensor:
        """Actions ``[n, A]`` of a rollout as :meth:`evaluate` takes them."""

    def evaluate(self, outputs: Tensor, actions: Tensor) -> Any:
        """Log-probabilities of ``actions`` ``[B, A]``, given ``outputs`` ``[B, m]``, and what :meth:`pull_back` needs."""

    def pull_back(self, given: Any, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """Gradient ``[B, m]`` of the loss by the outputs; the one by a parameter of the head's own is written to its place.

        :param given: result of :meth:`evaluate`
        :param log_prob_gradient: ``[B]``, of the loss by the log-probabilities
        :param entropy_gradient: of the loss by the entropy of any one row
        """


class GaussianHead:
    """Diagonal Gaussian whose means are the outputs.

    :param log_std: ``[A]``, a parameter
    :param gradient: ``[A]``, overwritten with the gradient by ``log_std``
    """

    def __init__(self, log_std: Tensor, gradient: Tensor) -> None:
        self.log_std, self.gradient = log_std, gradient

    def prepare(self, actions: Tensor) -> Tensor:
        """Actions ``[n, A]`` in float32."""
        return actions.float()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> gaussian.Gaussian:
        """Evaluate ``actions`` ``[B, A]`` under means ``[B, A]``, see :func:`gaussian.evaluate`."""
        return gaussian.evaluate(outputs.numpy(), gaussian.Spread.of(self.log_std), actions.numpy())

    def pull_back(self, given: gaussian.Gaussian, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """Gradient ``[B, A]`` of the loss by the means, see :func:`gaussian.pull_back`."""
        by_means, by_log_std = gaussian.pull_back(given, log_prob_gradient, entropy_gradient)
        self.gradient.copy_(by_log_std)
        return by_means


class CategoricalHead:
    """Categorical distribution whose logits are the outputs."""

    def prepare(self, actions: Tensor) -> Tensor:
        """Actions ``[n, 1]`` in int64."""
        return actions.float().long()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> categorical.Categorical:
        """Evaluate ``actions`` ``[B, 1]`` under logits ``[B, K]``, see :func:`categorical.evaluate`."""
        return categorical.evaluate(outputs, actions)

    def pull_back(self, given: categorical.Categorical, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """Gradient ``[B, K]`` of the loss by the logits, see :func:`categorical.pull_back`."""
        return categorical.pull_back(given, torch.from_numpy(log_prob_gradient), float(entropy_gradient))
