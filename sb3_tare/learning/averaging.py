"""The mean of several gradients, which is used once: the gradient of one rollout is nearly all noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class GradientAverage:
    """Collects gradients ``[p]`` until there are enough of them for a step.

    :param n_gradients: that make a mean
    """

    def __init__(self, n_gradients: int) -> None:
        self.n_gradients = n_gradients
        self._sum = torch.zeros(0)
        self._count = 0

    def add(self, gradient: Tensor) -> float:
        """Add a gradient ``[p]``.

        :return: its norm
        :raises FloatingPointError: if that is not finite, before anything is changed
        """
        norm = float(gradient.norm())
        if not math.isfinite(norm):
            raise FloatingPointError(f"a gradient of the reward is not finite ({norm}); nothing was updated with it")
        self._sum = gradient.clone() if self._count == 0 else self._sum + gradient
        self._count += 1
        return norm

    def take(self) -> Tensor | None:
        """The mean ``[p]`` of those added since it was last taken; None while they are too few."""
        if self._count < self.n_gradients:
            return None
        mean, self._sum, self._count = self._sum / self._count, torch.zeros(0), 0
        return mean

    def state_dict(self) -> dict[str, Any]:
        """Sum and number of what was added."""
        return {"sum": self._sum.clone(), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Take everything over, to ``device``."""
        self._sum, self._count = state["sum"].to(device), state["count"]
