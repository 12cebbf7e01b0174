"""Trust in a reward that is fitted to totals, as far as it foresees which of one policy's episodes will be better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

REMEMBERED = 50
"""Episodes that the correlation is a mean over, about; those of older rollouts lose weight."""
LEAST = 5.0
"""Degrees of freedom without which a correlation says little."""


class Trust:
    """Correlation between the totals that a reward predicts of new episodes, before it is fitted to them, and those paid.

    *Only episodes that ended in the same rollout are compared*: that a policy is better as a whole than the one before does
    not say which of its actions made it so. Each rollout's means are subtracted, and products of what is left are summed.
    Levels do not matter either: a reward that is too high for all episodes leads the policy as well.

    :param full: correlation from which on the reward is trusted fully
    """

    def __init__(self, full: float) -> None:
        self.full = full
        self._products = torch.zeros(2, 2, dtype=torch.float64)
        self._freedom = 0.0

    def add(self, predicted: Tensor, totals: Tensor) -> None:
        """Add the episodes that ended in one rollout; those whose totals are all the same say nothing.

        :param predicted: ``[E]``
        :param totals: ``[E]``
        """
        if len(totals) < 2 or bool((totals == totals[0]).all()):
            return
        pairs = torch.stack([predicted, totals]).double()
        deviations = pairs - pairs.mean(1, keepdim=True)
        kept = max(0.0, 1.0 - len(totals) / REMEMBERED)
        self._products = kept * self._products + deviations @ deviations.T
        self._freedom = kept * self._freedom + len(totals) - 1

    @property
    def correlation(self) -> float:
        """From -1 to 1; NaN while there are too few episodes, and where predictions do not vary."""
        size = float(self._products[0, 0] * self._products[1, 1])
        return float(self._products[0, 1]) / math.sqrt(size) if size > 0.0 and self._freedom >= LEAST else math.nan

    @property
    def weight(self) -> float:
        """Share of trust, from 0, with a correlation of zero or less or none, to 1."""
        correlation = self.correlation
        return 0.0 if math.isnan(correlation) else min(1.0, max(0.0, correlation / self.full))

    def state_dict(self) -> dict[str, Any]:
        """A number and a tensor."""
        return {"products": self._products.clone(), "freedom": self._freedom}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over."""
        self._products, self._freedom = state["products"].cpu().clone(), state["freedom"]
