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
BELIEVED = 1.0
"""Slope that a reward is believed to have before payments tell: that of a right one."""
DOUBT = 0.5
"""Standard deviation of that belief. Where payments are rare, little is known of them for long, and the extrinsic reward is
hard to learn from; where they are not, what is measured soon outweighs any belief."""


class Trust:
    """Slope of payments on what a reward foretold of them, before it was fitted to them.

    The slope is one where foretold rewards are right up to a constant, *however noisy the payments are*; above one where they
    are shrunk; zero where they say nothing of what is paid, and below where they are wrong. A correlation would take noise for
    error. *Only payments of the same rollout are compared*: that a policy is better as a whole than the one before does not
    say which of its actions made it so. Rollouts with less than two payments wait for the next ones, and are taken as one.

    :param full: slope from which on the reward is trusted fully
    """

    def __init__(self, full: float) -> None:
        self.full = full
        self._products = torch.zeros(2, 2, dtype=torch.float64)
        """Sums of squares and products of deviations from the means of rollouts, weighted"""
        self._squared_weights = 0.0
        """The first of them, of what was foretold, with weights squared"""
        self._freedom = torch.zeros(2, dtype=torch.float64)
        """Degrees of freedom, weighted, and with weights squared"""
        self._waiting = torch.zeros(2, 0, dtype=torch.float64)
        self._needs_evidence = False
        """Whether nothing is trusted before payments tell"""

    def require_evidence(self) -> None:
        """Trust nothing until payments tell: those seen were all the same, or so many that the next ones will."""
        self._needs_evidence = True

    def add(self, foretold: Tensor, paid: Tensor) -> None:
        """Add the payments of one rollout; those that are all the same say nothing.

        :param foretold: ``[K]``
        :param paid: ``[K]``
        """
        pairs = torch.cat([self._waiting, torch.stack([foretold, paid]).double()], 1)
        n = pairs.shape[1]
        self._waiting = pairs if n < 2 else pairs[:, :0].clone()
        if n < 2:
            return
        if bool((pairs[1] == pairs[1, 0]).all()):
            self.require_evidence()
            return
        deviations = pairs - pairs.mean(1, keepdim=True)
        products = deviations @ deviations.T
        kept = max(LEAST_KEPT, 1.0 - n / REMEMBERED)
        self._products = kept * self._products + products
        self._squared_weights = kept**2 * self._squared_weights + float(products[0, 0])
        self._freedom = torch.tensor([kept, kept**2], dtype=torch.float64) * self._freedom + (n - 1)

    @property
    def slope(self) -> float:
        """Slope of what was seen, NaN where nothing that was foretold varies."""
        foretold, common = float(self._products[0, 0]), float(self._products[0, 1])
        return common / foretold if foretold > 0.0 else math.nan

    @property
    def error(self) -> float:
        """Standard error of the slope; NaN where there is none, or too little was seen for one."""
        foretold, common, paid = (float(self._products[i, j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        if math.isnan(self.slope):
            return math.nan
        share = self._squared_weights / foretold  # of one degree of freedom, which the slope has taken
        left = float(self._freedom[0]) - share
        if left <= 1e-9 * share:
            return math.nan
        return math.sqrt(max(0.0, paid - common * common / foretold) / left * share / foretold)

    @property
    def weight(self) -> float:
        """Share of trust, from 0 to 1; before payments have told, that of the slope that is believed, or nothing.

        It grows with the slope that is believed in: what was measured and what was believed before, weighted by their
        precisions, as with normal distributions. Nothing is taken off for what is not known: where payments are rare that is
        much for long, and what would be paid in place of the learned reward tells the policy least.
        """
        if self._needs_evidence and float(self._freedom[0]) == 0.0:
            return 0.0
        doubt = self._doubt
        share = 1.0 if doubt == 0.0 else (1.0 / doubt**2) / (1.0 / doubt**2 + 1.0 / DOUBT**2)
        slope = share * self.slope + (1.0 - share) * BELIEVED if share > 0.0 else BELIEVED
        return min(1.0, max(0.0, slope / self.full))

    @property
    def _doubt(self) -> float:
        """Standard deviation of the slope by what was seen alone, that of Student's distribution; infinite if it has none."""
        if math.isnan(self.error):
            return math.inf
        freedom = float(self._freedom[0] ** 2 / self._freedom[1]) - 1.0
        if freedom <= 2.0:
            return math.inf
        return self.error * math.sqrt(freedom / (freedom - 2.0))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers."""
        tensors = {"products": self._products, "freedom": self._freedom, "waiting": self._waiting}
        numbers = {"squared_weights": self._squared_weights, "needs_evidence": self._needs_evidence}
        return {**{name: tensor.clone() for name, tensor in tensors.items()}, **numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over; of what older files hold, as if all of it were of the last rollout."""
        products, freedom = state["products"].cpu().clone(), state["freedom"]
        self._products, self._squared_weights = products, state.get("squared_weights", float(products[0, 0]))
        self._freedom = freedom.cpu().clone() if isinstance(freedom, Tensor) else torch.full((2,), freedom).double()
        self._waiting = state["waiting"].cpu().clone() if "waiting" in state else torch.zeros(2, 0, dtype=torch.float64)
        self._needs_evidence = state.get("needs_evidence", False)
