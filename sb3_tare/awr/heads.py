"""The distributions of AWR's actions that LeanPPO's heads do not cover, behind the same interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from sb3_tare.lean import categorical, gaussian
from sb3_tare.lean.heads import CategoricalHead, GaussianHead, Head


def head_of(policy: Any, gradients: dict[Tensor, tuple[Tensor, Tensor]]) -> Head:
    """Distribution of the actions of ``policy``.

    :param policy: one that is written out
    :param gradients: value and gradient of each parameter that is learned, to be read and written in place
    """
    space = policy.action_space
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategoricalHead(policy.action_dist.action_dims)
    if isinstance(space, spaces.Discrete):
        return CategoricalHead()
    return (
        GaussianHead(*gradients[policy.log_std]) if policy.log_std in gradients else FixedGaussianHead(policy.log_std.detach())
    )


class FixedGaussianHead:
    """Diagonal Gaussian whose means are the outputs, with a deviation that is not learned.

    :param log_std: ``[A]``
    """

    def __init__(self, log_std: Tensor) -> None:
        self._spread = gaussian.Spread.of(log_std)

    def prepare(self, actions: Tensor) -> Tensor:
        """Actions ``[n, A]`` in float32."""
        return actions.float()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> gaussian.Gaussian:
        """Evaluate ``actions`` ``[B, A]`` under means ``[B, A]``, see :func:`gaussian.evaluate`."""
        return gaussian.evaluate(outputs.numpy(), self._spread, actions.numpy())

    def pull_back(self, given: gaussian.Gaussian, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """Gradient ``[B, A]`` of the loss by the means; the entropy does not depend on them."""
        return gaussian.pull_back_to_means(given, log_prob_gradient)


class MultiCategorical:
    """Log-probabilities of a mini-batch of several independent actions.

    :param parts: one for each action
    """

    def __init__(self, parts: Sequence[categorical.Categorical]) -> None:
        self.parts = parts
        self.log_probs = torch.stack([part.log_probs for part in parts], dim=1).sum(dim=1)

    @property
    def entropies(self) -> np.ndarray:
        """Entropies ``[B]``."""
        return np.stack([part.entropies for part in self.parts]).sum(0)


class MultiCategoricalHead:
    """Independent categorical distributions, whose logits are the outputs, those of one action behind those of another.

    :param sizes: number of choices of each action
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)

    def prepare(self, actions: Tensor) -> Tensor:
        """Actions ``[n, A]`` in int64."""
        return actions.long()

    def evaluate(self, outputs: Tensor, actions: Tensor) -> MultiCategorical:
        """Evaluate ``actions`` ``[B, A]`` under logits ``[B, K]``, see :func:`categorical.evaluate`."""
        splits = zip(outputs.split(self._sizes, dim=1), actions.split(1, dim=1), strict=True)
        return MultiCategorical([categorical.evaluate(logits, chosen) for logits, chosen in splits])

    def pull_back(self, given: MultiCategorical, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> Tensor:
        """Gradient ``[B, K]`` of the loss by the logits, see :func:`categorical.pull_back`."""
        rows = torch.from_numpy(log_prob_gradient)
        return torch.cat([categorical.pull_back(part, rows, float(entropy_gradient)) for part in given.parts], dim=1)
