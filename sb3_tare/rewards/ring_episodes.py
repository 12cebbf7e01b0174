"""Whole episodes in a ring of rows that newer rows overwrite, such as a replay buffer's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNKNOWN = -1
"""Begin of an episode whose first rows nobody has seen."""


class RingEpisodes:
    """Places of whole episodes in a ring with a column for each environment.

    Rows are counted from the first that was ever written. An episode leaves when its first row is overwritten; so does one
    that begins with the oldest row, since a look at the ring alone could not tell that it begins there. The episodes are
    thereby a function of the ring, however often it was looked at.

    :param n_rows: of the ring
    :param n_envs: columns
    """

    def __init__(self, n_rows: int, n_envs: int) -> None:
        self.n_rows = n_rows
        self.n_seen = 0
        """Rows that were looked at, of all that were ever written"""
        self.begins = torch.zeros(0, dtype=torch.int64)
        """``[E]`` row of the first step"""
        self.columns = torch.zeros(0, dtype=torch.int64)
        """``[E]``"""
        self.lengths = torch.zeros(0, dtype=torch.int64)
        """``[E]`` steps; the episodes are in order of their ends, then of their columns"""
        self.longest = 0
        """Most steps that an episode which ended is known to have, whole or not"""
        self._open = np.zeros(n_envs, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ends(self) -> Tensor:
        """Row ``[E]`` behind the last step of each episode."""
        return self.begins + self.lengths

    def unseen(self, n_written: int) -> NDArray[np.int64]:
        """Rows ``[T]`` that are there and were not looked at.

        :param n_written: rows that were ever written
        """
        return np.arange(max(self.n_seen, n_written - self.n_rows), n_written)

    def extend(self, n_written: int, ended: NDArray[np.bool_], begun: NDArray[np.bool_], lost: NDArray[np.bool_]) -> Tensor:
        """Look at the :meth:`unseen` rows, and return which of the old episodes ``[E]`` are still whole.

        :param n_written: rows that were ever written
        :param ended: ``[T, n_envs]`` True where the row is the last of its episode
        :param begun: ``[T, n_envs]`` True where the row does not go on from the one before
        :param lost: ``[T, n_envs]`` True where the row is amid an episode whose steps before are not in the ring
        """
        rows, opened = self.unseen(n_written), self._open
        if len(rows) and rows[0] > self.n_seen:  # rows were overwritten before anybody looked
            opened = np.full_like(opened, UNKNOWN)
        marks = (each.T for each in (ended, begun, lost))
        found = [_found(begin, rows, *each) for begin, *each in zip(opened, *marks, strict=True)]
        n_found = [len(each.begins) for each in found]
        begins, lengths = (torch.from_numpy(np.concatenate(each)) for each in zip(*(each[:2] for each in found), strict=True))
        columns = torch.repeat_interleave(torch.arange(len(found)), torch.tensor(n_found))
        order = torch.from_numpy(np.lexsort((columns.numpy(), (begins + lengths).numpy())))
        still, new = self._whole(self.begins, n_written), order[self._whole(begins[order], n_written)]
        self.n_seen = n_written
        self.longest = max(self.longest, *(each.longest for each in found))
        self._open = np.array([each.opened for each in found])
        self.begins = torch.cat([self.begins[still], begins[new]])
        self.columns = torch.cat([self.columns[still], columns[new]])
        self.lengths = torch.cat([self.lengths[still], lengths[new]])
        return still

    def steps(self, episodes: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the ring and columns, ``[n]`` each, of all steps of the given episodes ``[K]``, one behind the other."""
        lengths = self.lengths[episodes]
        shifts = self.begins[episodes] - (lengths.cumsum(0) - lengths)
        rows = torch.arange(int(lengths.sum())) + torch.repeat_interleave(shifts, lengths)
        return self.places(rows, torch.repeat_interleave(self.columns[episodes], lengths))

    def places(self, rows: Tensor, columns: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows ``[n]`` as they lie in the ring, and columns ``[n]``."""
        return (rows % self.n_rows).numpy(), columns.numpy()

    def _whole(self, begins: Tensor, n_written: int) -> Tensor:
        oldest = n_written - self.n_rows
        return begins > oldest if oldest > 0 else torch.ones(len(begins), dtype=torch.bool)


class _Found(NamedTuple):
    """Episodes that a look at a column of a ring finds.

    :param begins: ``[K]`` rows of the first steps of the episodes that ended and whose begin is known
    :param lengths: ``[K]`` their steps
    :param opened: begin of the episode that goes on
    :param longest: most steps that an episode which ended is known to have
    """

    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]
    opened: int
    longest: int


def _found(
    opened: int, rows: NDArray[np.int64], ended: NDArray[np.bool_], begun: NDArray[np.bool_], lost: NDArray[np.bool_]
) -> _Found:
    """The episodes of a column that end in ``rows`` ``[T]``; the marks are those of :meth:`RingEpisodes.extend`."""
    if opened == UNKNOWN and len(rows):
        lost = lost | (rows == rows[0]) & ~begun
    lost_rows, last_rows = rows[lost], rows[ended]
    known = np.array([opened] if opened != UNKNOWN else [], dtype=np.int64)
    begins = np.sort(np.concatenate([known, rows[begun], lost_rows, last_rows + 1]))
    firsts = begins[np.searchsorted(begins, last_rows, side="right") - 1]
    lengths, is_known = last_rows + 1 - firsts, ~np.isin(firsts, lost_rows)
    opened = begins[-1] if len(begins) else opened
    return _Found(
        firsts[is_known], lengths[is_known], UNKNOWN if opened in lost_rows else int(opened), int(lengths.max(initial=0))
    )
