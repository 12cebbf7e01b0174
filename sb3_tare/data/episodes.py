"""Episodes as runs of consecutive rows: cut a rollout into them, split them in two parts, scan them without padding.

A rollout of Stable-Baselines3 has arrays ``[T, N]``. Here its steps are the rows of flat arrays ``[n]``, in the order in
which SB3 flattens them (``row = env * T + t``), so that each piece of an episode is a run of consecutive rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_tare.data.padding import Bucket, Padding


class End(IntEnum):
    """Why a piece of an episode ends where it does."""

    TERMINATION = 0
    """A true end: nothing follows, the next value is zero."""
    TIMEOUT = 1
    """The time limit: the value of the terminal observation follows."""
    CUT = 2
    """The episode goes on, but not here: the value of the next step's observation follows."""


@dataclass(frozen=True)
class Episodes:
    """Pieces of episodes that lie one behind the other in flat arrays of ``n = sum(lengths)`` rows.

    :param lengths: ``[E]`` int64, steps, at least 1 each
    :param first_times: ``[E]`` int64, time step of each piece's first row in its episode
    :param ends: ``[E]`` int64, an :class:`End` for each piece
    """

    lengths: Tensor
    first_times: Tensor
    ends: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def n_steps(self) -> int:
        """Number of rows."""
        return int(self.lengths.sum())

    @cached_property
    def begins(self) -> Tensor:
        """First row ``[E]`` of each piece."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def pieces(self) -> Tensor:
        """Index ``[n]`` of the piece to which each row belongs."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """Steps ``[n]`` since the piece's first row."""
        return torch.arange(self.n_steps) - self.begins[self.pieces]

    @property
    def times(self) -> Tensor:
        """Time step ``[n]`` of each row in its episode, counted on across rollouts."""
        return self.first_times[self.pieces] + self.offsets

    @cached_property
    def forward_padding(self) -> Padding:
        """The pieces in order of time."""
        return self._padding(reverse=False)

    @cached_property
    def reversed_padding(self) -> Padding:
        """The pieces in reversed time: each sequence starts with the last row of its piece."""
        return self._padding(reverse=True)

    def _padding(self, reverse: bool) -> Padding:
        octaves = torch.log2(self.lengths.double()).floor()
        buckets = tuple(self._bucket(torch.nonzero(octaves == octave).flatten(), reverse) for octave in octaves.unique())
        order = torch.cat([bucket.rows[bucket.places] for bucket in buckets])
        return Padding(buckets, order, torch.argsort(order))

    def _bucket(self, pieces: Tensor, reverse: bool) -> Bucket:
        begins, lengths = self.begins[pieces], self.lengths[pieces]
        steps = torch.arange(int(lengths.max()))[:, None]
        valid = steps < lengths
        offsets = (lengths - 1 - steps if reverse else steps).clamp(min=0).minimum(lengths - 1)
        places = torch.nonzero(valid.flatten()).flatten()
        return Bucket((valid.shape[0], valid.shape[1]), (begins + offsets).flatten(), places)

    def select(self, pieces: Tensor) -> Selection:
        """The given pieces (``[K]`` indices, ascending) and the rows where they lie."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[pieces] = True
        rows = torch.nonzero(chosen[self.pieces]).flatten()
        return Selection(Episodes(self.lengths[chosen], self.first_times[chosen], self.ends[chosen]), rows)

    def bisect(self, piece: int, steps: int) -> Episodes:
        """The same rows, with ``piece`` cut in two after its first ``steps`` rows."""
        before, after = slice(0, piece), slice(piece + 1, None)
        length, first_time = self.lengths[piece], self.first_times[piece]
        return Episodes(
            torch.cat([self.lengths[before], torch.stack([torch.as_tensor(steps), length - steps]), self.lengths[after]]),
            torch.cat([self.first_times[before], torch.stack([first_time, first_time + steps]), self.first_times[after]]),
            torch.cat([self.ends[before], torch.stack([torch.as_tensor(int(End.CUT)), self.ends[piece]]), self.ends[after]]),
        )


def edges(environments: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each piece is the first of its environment, and whether it is the last, ``[E]`` each.

    :param environments: ``[E]``, where each piece comes from, those of one environment one behind the other
    """
    changes, edge = environments[1:] != environments[:-1], torch.ones(1, dtype=torch.bool)
    return torch.cat([edge, changes]), torch.cat([changes, edge])


class Selection(NamedTuple):
    """Some of a rollout's pieces."""

    episodes: Episodes
    rows: Tensor
    """``[n]`` their rows in the rollout's flat arrays, ascending"""
