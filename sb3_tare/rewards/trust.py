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
PRIOR = 10.0
"""Degrees of freedom that the belief weighs with which it begins, a slope of one. Where payments are rare, little is known of
them for long, and the extrinsic reward is hard to learn from; where they are not, ten are soon outweighed."""


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
        """Slope of what was seen, NaN where nothing that was foretold varies."""
        foretold, common = float(self._products[0, 0]), float(self._products[0, 1])
        return common / foretold if foretold > 0.0 else math.nan

    @property
    def error(self) -> float:
        """Standard error of the slope; NaN where there is none, or too little was seen for one."""
        foretold, common, paid = (float(self._products[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        if math.isnan(self.slope) or self._freedom <= 1.0:
            return math.nan
        return math.sqrt(max(0.0, paid - common * common / foretold) / (foretold * (self._freedom - 1.0)))

    @property
    def weight(self) -> float:
        """Share of trust, from 0 to 1: the slope less a standard error, by what was seen and what was believed before it.

        Nothing, where no payments have been seen that differ.
        """
        if self._freedom == 0.0:
            return 0.0
        low = self.slope - self.error
        seen = self._freedom / (self._freedom + PRIOR)
        believed = 1.0 if math.isnan(low) else seen * max(-1.0, low) + (1.0 - seen)  # few payments may have any slope
        return min(1.0, max(0.0, believed / self.full))

    def state_dict(self) -> dict[str, Any]:
        """A number and a tensor."""
        return {"products": self._products.clone(), "freedom": self._freedom}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over."""
        self._products, self._freedom = state["products"].cpu().clone(), state["freedom"]
