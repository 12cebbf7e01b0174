"""Payments of an environment, beside what a reward foretold for the steps since the payment before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes
from sb3_tare.rewards.carrying import Carried


class Payments:
    """Cuts rollouts at every step that pays, or ends an episode, and sums up what is foretold in between.

    A dense reward makes a payment of each step, one that is paid at the end makes one of each episode, and one that comes
    every 20 steps makes one of these. What an episode has earned since its last payment is carried on into the next rollout.

    :param n_envs: number of environments
    """

    def __init__(self, n_envs: int) -> None:
        self._carried = Carried(n_envs)

    def add(self, foretold: Tensor, paid: Tensor, episodes: Episodes, environments: Tensor) -> tuple[Tensor, Tensor]:
        """Add a rollout, and return what was foretold and what was paid, ``[K]`` each (float64), of its payments.

        :param foretold: ``[n]`` rewards of steps
        :param paid: ``[n]``
        :param episodes: pieces, those of one environment in order of time
        :param environments: ``[E]`` int64, where each piece comes from
        """
        foretold, paid = foretold.cpu().double(), paid.cpu().double()
        last_rows, pays = episodes.begins + episodes.lengths - 1, payments(paid, episodes)
        closes = pays.clone()
        closes[last_rows] = True  # an interval stays in its piece
        intervals = closes.long().cumsum(0) - closes.long()
        sums = torch.zeros(int(closes.sum()), dtype=torch.float64).index_add(0, intervals, foretold)
        sums[intervals[episodes.begins]] += self._carried.into(episodes, environments)
        self._carried.keep(torch.where(pays[last_rows], 0.0, sums[intervals[last_rows]]), episodes, environments)
        of_payments = sums[intervals[pays]]
        known = ~of_payments.isnan()
        return of_payments[known], paid[pays][known]

    def state_dict(self) -> dict[str, Any]:
        """Sums that are carried on."""
        return {"carried": self._carried.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what is carried on over, where there are as many environments."""
        if isinstance(state["carried"], Mapping):  # older files do not say where it goes on
            self._carried.load_state_dict(state["carried"])


def payments(paid: Tensor, episodes: Episodes) -> Tensor:
    """Steps ``[n]`` (bool) of a rollout that are payments, given what each was paid ``[n]``."""
    pays = paid.cpu() != 0
    pays[episodes.begins + episodes.lengths - 1] |= episodes.ends != int(End.CUT)
    return pays
