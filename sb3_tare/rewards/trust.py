"""Trust in a learned reward, as far as what the environment pays goes up where it foretells more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

REMEMBERED = 50
"""Payments that the slope is measured on, about; those of older rollouts lose weight."""
LEAST_KEPT = 0.5
"""Weight of the past beside a rollout with as many payments or more."""
LEAST = 5.0
"""Degrees of freedom without which a slope says little."""


class Trust:
    """Slope of payments on what a reward foretold of them, before it was fitted to them.

    The slope is one where foretold rewards are right up to a constant, *however noisy the payments are*; above one where they
    are shrunk; zero where they say nothing of what is paid, and below where they are wrong. A correlation would take noise for
    error. *Only payments of the same rollout are compared*: that a policy is better as a whole than the one before does not
    say which of its actions made it so.

    :param full: slope from which on the reward is trusted fully, less a standard error
    """

    def __init__(self, full: float) -> None:
        self.full = full
        self._products = torch.zeros(2, 2, dtype=torch.float64)
        self._freedom = 0.0

    def add(self, foretold: Tensor, paid: Tensor) -> None:
        """Add the payments of one rollout; those that are all the same say nothing.

        :param foretold: ``[K]``
        :param paid: ``[K]``
        """
        if len(paid) < 2 or bool((paid == paid[0]).all()):
            return
        pairs = torch.stack([foretold, paid]).double()
        deviations = pairs - pairs.mean(1, keepdim=True)
        kept = max(LEAST_KEPT, 1.0 - len(paid) / REMEMBERED)
        self._products = kept * self._products + deviations @ deviations.T
        self._freedom = kept * self._freedom + len(paid) - 1

    @property
    def slope(self) -> float:
        """NaN while there are too few payments, and where nothing that was foretold varies."""
        foretold, common = float(self._products[0, 0]), float(self._products[0, 1])
        return common / foretold if foretold > 0.0 and self._freedom >= LEAST else math.nan

    @property
    def error(self) -> float:
        """Standard error of the slope; NaN where there is none."""
        foretold, common, paid = (float(self._products[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        if math.isnan(self.slope):
            return math.nan
        return math.sqrt(max(0.0, paid - common * common / foretold) / (foretold * (self._freedom - 1.0)))

    @property
    def weight(self) -> float:
        """Share of trust, from 0, with a slope of a standard error or less or none, to 1."""
        slope = self.slope
        return 0.0 if math.isnan(slope) else min(1.0, max(0.0, (slope - self.error) / self.full))

    def state_dict(self) -> dict[str, Any]:
        """A number and a tensor."""
        return {"products": self._products.clone(), "freedom": self._freedom}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over."""
        self._products, self._freedom = state["products"].cpu().clone(), state["freedom"]
