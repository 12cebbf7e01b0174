"""Sums of episodes under way, carried from one rollout into the next."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes, edges

UNKNOWN = -1
"""Time step at which no episode goes on."""


class Carried:
    """A number for each environment, known to the piece that goes on where a rollout has cut an episode, and to no other.

    Where a run was broken off inside a rollout, the next one begins at another time step, and nobody knows.

    :param n_envs: number of environments
    """

    def __init__(self, n_envs: int) -> None:
        self._numbers = torch.zeros(n_envs, dtype=torch.float64)
        self._next_times = torch.full((n_envs,), UNKNOWN)
        """``[N]`` time step in its episode at which each environment goes on with its number"""

    def into(self, episodes: Episodes, environments: Tensor) -> Tensor:
        """Numbers ``[E]`` (float64) for the pieces of a rollout: zero where an episode begins, NaN where nobody knows.

        :param episodes: pieces, those of one environment in order of time
        :param environments: ``[E]`` int64, where each piece comes from
        """
        is_first, _ = edges(environments)
        goes_on = is_first & (episodes.first_times == self._next_times[environments])
        known = torch.where(goes_on, self._numbers[environments], math.nan)
        return torch.where(episodes.first_times == 0, 0.0, known)

    def keep(self, numbers: Tensor, episodes: Episodes, environments: Tensor) -> None:
        """Carry ``numbers`` ``[E]`` of the last pieces on, where these were cut; NaN where nobody knows."""
        _, is_last = edges(environments)
        is_cut = episodes.ends == int(End.CUT)
        is_known = is_cut & ~numbers.isnan()
        next_times = torch.where(is_known, episodes.first_times + episodes.lengths, UNKNOWN)
        self._numbers[environments[is_last]] = torch.where(is_known, numbers, 0.0)[is_last]
        self._next_times[environments[is_last]] = next_times[is_last]

    def state_dict(self) -> dict[str, Any]:
        """Two tensors."""
        return {"numbers": self._numbers.clone(), "next_times": self._next_times.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over, where there are as many environments, which may go on with it."""
        if state["numbers"].shape == self._numbers.shape:
            self._numbers, self._next_times = state["numbers"].cpu().clone(), state["next_times"].cpu().clone()
