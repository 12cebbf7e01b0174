"""Whole episodes in a ring of rows that newer rows overwrite, such as a replay buffer's."""

from __future__ import annotations

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
        rows = self.unseen(n_written)
        if len(rows) and rows[0] > self.n_seen:  # rows were overwritten before anybody looked
            self._open[:] = UNKNOWN
        marks = (each.T for each in (ended, begun, lost))
        found = [self._episodes_of(column, rows, *each) for column, each in enumerate(zip(*marks, strict=True))]
        begins, columns, lengths = (torch.from_numpy(np.concatenate(each)) for each in zip(*found, strict=True))
        order = torch.from_numpy(np.lexsort((columns.numpy(), (begins + lengths).numpy())))
        self.n_seen = n_written
        still = self._is_whole(self.begins)
        new = order[self._is_whole(begins[order])]
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

    def _is_whole(self, begins: Tensor) -> Tensor:
        oldest = self.n_seen - self.n_rows
        return begins > oldest if oldest > 0 else torch.ones(len(begins), dtype=torch.bool)

    def _episodes_of(
        self,
        column: int,
        rows: NDArray[np.int64],
        ended: NDArray[np.bool_],
        begun: NDArray[np.bool_],
        lost: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Begins, columns and lengths, ``[K]`` each, of the episodes that end in ``rows``."""
        known = self._open[column : column + 1]
        last_rows, lost_rows = rows[ended], rows[lost]
        begins = np.sort(np.concatenate([known[known != UNKNOWN], rows[begun], lost_rows, last_rows + 1]))
        places = np.searchsorted(begins, last_rows, side="right") - 1
        begins = np.where(np.isin(begins, lost_rows), UNKNOWN, begins)
        is_known = (places >= 0) & (begins[places] != UNKNOWN)
        last_rows, places = last_rows[is_known], places[is_known]
        self._open[column] = begins[-1] if len(begins) else UNKNOWN
        return begins[places], np.full(len(places), column), last_rows + 1 - begins[places]
