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

MIN_PART_STEPS = 2
"""An advantage cannot be standardised within fewer steps."""


class End(IntEnum):
    """Why a piece of an episode ends where it does."""

    TERMINATION = 0
    """A true end: nothing follows, the next value is zero."""
    TIMEOUT = 1
    """The time limit: the value of the terminal observation follows."""
    CUT = 2
    """The episode goes on, but not here: the value of the next step's observation follows."""


class Bucket(NamedTuple):
    """Pieces of like length side by side, padded to the longest of them."""

    shape: tuple[int, int]
    """``(L, E)``: places in the sequence, pieces"""
    rows: Tensor
    """``[L * E]`` row at each place, any row of the piece where it has ended"""
    places: Tensor
    """``[m]`` the places that are not padding"""


class Padding(NamedTuple):
    """All rows in buckets of pieces whose lengths differ by less than a factor of two: cost linear in rows.

    In a bucket padding comes last, so that it can change nothing before it.
    """

    buckets: tuple[Bucket, ...]
    order: Tensor
    """``[n]`` rows in the order of the buckets' places"""
    inverse: Tensor
    """``[n]`` where each row stands in that order"""

    def pad(self, rows: Tensor) -> list[Tensor]:
        """``[n, ...]`` to a batch ``[L, E, ...]`` for each bucket; differentiable."""
        return [rows.index_select(0, b.rows.to(rows.device)).view(*b.shape, *rows.shape[1:]) for b in self.buckets]

    def unpad(self, batches: list[Tensor]) -> Tensor:
        """The inverse of :meth:`pad`; differentiable."""
        valid = [
            batch.reshape(-1, *batch.shape[2:]).index_select(0, bucket.places.to(batch.device))
            for bucket, batch in zip(self.buckets, batches, strict=True)
        ]
        return torch.cat(valid).index_select(0, self.inverse.to(valid[0].device))


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
        """``[E]`` first row of each piece."""
        return self.lengths.cumsum(0) - self.lengths

    @cached_property
    def pieces(self) -> Tensor:
        """``[n]`` index of the piece to which each row belongs."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def offsets(self) -> Tensor:
        """``[n]`` steps since the piece's first row."""
        return torch.arange(self.n_steps) - self.begins[self.pieces]

    @property
    def times(self) -> Tensor:
        """``[n]`` time step of each row in its episode, counted on across rollouts."""
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

    def select(self, pieces: Tensor) -> Part:
        """The given pieces (``[K]`` indices, ascending) and the rows where they lie."""
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[pieces] = True
        rows = torch.nonzero(chosen[self.pieces]).flatten()
        return Part(Episodes(self.lengths[chosen], self.first_times[chosen], self.ends[chosen]), rows)

    def bisect(self, piece: int, steps: int) -> Episodes:
        """The same rows, with ``piece`` cut in two after its first ``steps`` rows."""
        before, after = slice(0, piece), slice(piece + 1, None)
        length, first_time = self.lengths[piece], self.first_times[piece]
        return Episodes(
            torch.cat([self.lengths[before], torch.stack([torch.as_tensor(steps), length - steps]), self.lengths[after]]),
            torch.cat([self.first_times[before], torch.stack([first_time, first_time + steps]), self.first_times[after]]),
            torch.cat([self.ends[before], torch.stack([torch.as_tensor(int(End.CUT)), self.ends[piece]]), self.ends[after]]),
        )


class Part(NamedTuple):
    """Some of a rollout's pieces."""

    episodes: Episodes
    rows: Tensor
    """``[n]`` their rows in the rollout's flat arrays, ascending"""


def cut_rollout(dones: Tensor, timeouts: Tensor, times: Tensor, cuts: Tensor | None = None) -> Episodes:
    """Cut a rollout at the ends of its episodes, at its own edge, and where else it was interrupted.

    :param dones: ``[T, N]`` bool, True where the step ended its episode
    :param timeouts: ``[T, N]`` bool, True where a time limit ended it
    :param times: ``[T, N]`` int64, time step of each row in its episode
    :param cuts: ``[T, N]`` bool, True where the next row does not go on from the step although its episode had not ended
    :raises ValueError: if the shapes differ
    """
    if not dones.shape == timeouts.shape == times.shape:
        raise ValueError(f"dones, timeouts and times must have one shape, got {dones.shape}, {timeouts.shape}, {times.shape}")
    last = dones.clone() if cuts is None else dones | cuts
    last[-1] = True
    flat_last, flat_dones, flat_timeouts, flat_times = (x.T.reshape(-1) for x in (last, dones, timeouts, times))
    last_rows = torch.nonzero(flat_last).flatten()
    lengths = torch.diff(last_rows, prepend=torch.tensor([-1]))
    ends = torch.where(flat_timeouts, int(End.TIMEOUT), torch.where(flat_dones, int(End.TERMINATION), int(End.CUT)))
    return Episodes(lengths, flat_times[last_rows] - lengths + 1, ends[last_rows])


def split(episodes: Episodes, generator: torch.Generator) -> tuple[Part, Part]:
    """Split pieces at random into two parts of about equal step counts (Algorithm 1, line 2).

    Pieces go in random order to the part that is the lighter one so far. A piece is cut in two only where one part would
    otherwise hold less than a quarter of the steps, as in a rollout that is a single episode.

    :raises ValueError: if there are too few steps for two parts
    """
    n_steps = episodes.n_steps
    if n_steps < 2 * MIN_PART_STEPS:
        raise ValueError(f"a split needs {2 * MIN_PART_STEPS} steps at least, got {n_steps}")
    lengths = episodes.lengths.tolist()
    parts: tuple[list[int], list[int]] = ([], [])
    sizes = [0, 0]
    for piece in torch.randperm(len(lengths), generator=generator).tolist():
        lighter = int(sizes[1] < sizes[0])
        parts[lighter].append(piece)
        sizes[lighter] += lengths[piece]
    if min(sizes) < max(n_steps / 4, MIN_PART_STEPS):
        return _split_longest(episodes, generator)
    first, second = (episodes.select(torch.tensor(sorted(part))) for part in parts)
    return first, second


def _split_longest(episodes: Episodes, generator: torch.Generator) -> tuple[Part, Part]:
    """One part is half of the steps, from either end of the longest piece; the other, before or after it, is all the rest."""
    half = episodes.n_steps // 2
    alone = int(episodes.lengths.argmax())
    length = int(episodes.lengths[alone])
    if length > half:
        from_front = bool(torch.randint(2, (1,), generator=generator))
        episodes = episodes.bisect(alone, half if from_front else length - half)
        alone += not from_front
    others = [piece for piece in range(len(episodes)) if piece != alone]
    parts = episodes.select(torch.tensor([alone])), episodes.select(torch.tensor(others))
    return parts if torch.randint(2, (1,), generator=generator) else parts[::-1]
