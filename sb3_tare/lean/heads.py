"""The distributions behind a policy's outputs, one face for both."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sb3_tare.lean import categorical, gaussian


class Head(Protocol):
    """A distribution of actions, given outputs of the policy."""

    def prepare(self, actions: Tensor) -> Tensor:
        """Actions of a rollout as :meth:`evaluate` takes them."""

    def evaluate(self, outputs: Tensor, actions: Tensor) -> Any:
        """Log-probabilities of ``actions``, given ``outputs`` ``[B, m]``, and what :meth:`pull_back` needs."""

    def pull_back(self, given: Any, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """The loss's gradient ``[B, m]`` by the outputs; that by the head's own parameter goes where it belongs."""


class GaussianHead:
    """Outputs are means.

    :param log_std: ``[A]``, a parameter
    :param gradient: ``[A]``, where its gradient goes
    """

    def __init__(self, log_std: Tensor, gradient: Tensor) -> None:
        self.log_std, self.gradient = log_std, gradient

    def prepare(self, actions: Tensor) -> Tensor:
        """``[n, A]`` float32"""
        return actions.float()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> gaussian.Gaussian:
        """See :func:`gaussian.evaluate`."""
        return gaussian.evaluate(outputs.numpy(), gaussian.Spread.of(self.log_std), actions.numpy())

    def pull_back(self, given: gaussian.Gaussian, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """See :func:`gaussian.pull_back`."""
        by_means, by_log_std = gaussian.pull_back(given, log_prob_gradient, entropy_gradient)
        self.gradient.copy_(by_log_std)
        return by_means


class CategoricalHead:
    """Outputs are logits."""

    def prepare(self, actions: Tensor) -> Tensor:
        """``[n, 1]`` int64"""
        return actions.float().long()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> categorical.Categorical:
        """See :func:`categorical.evaluate`."""
        return categorical.evaluate(outputs, actions)

    def pull_back(self, given: categorical.Categorical, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """See :func:`categorical.pull_back`."""
        return categorical.pull_back(given, torch.from_numpy(log_prob_gradient), float(entropy_gradient))
