"""Arrays that grow by rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCK = 1 << 14
"""Rows that are moved at once, so that moving needs little memory of its own."""


class GrowingRows:
    """Named arrays ``[n, ...]`` on the CPU with as many rows each, which doubles its room until it has room for ``limit``.

    Floating-point numbers are kept in single precision; all else, such as images of bytes, as it comes.

    :param limit: rows at most
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._arrays: dict[str, Tensor] = {}

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows that are in use."""
        return sum(array[: self.size].nbytes for array in self._arrays.values())

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Add ``[k, ...]`` rows of each array; the first rows decide what arrays there are."""
        n_new = len(next(iter(rows.values())))
        self._reserve(rows, self.size + n_new)
        for name, values in rows.items():
            self._arrays[name][self.size : self.size + n_new] = values
        self.size += n_new

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """The given rows ``[k]`` of each array."""
        return {name: array[rows] for name, array in self._arrays.items()}

    def keep(self, rows: Tensor) -> None:
        """Keep the given rows, ``[k]`` in ascending order, and move them to the front, where they lie as they lay."""
        for array in self._arrays.values():
            for begin in range(0, len(rows), BLOCK):  # no row moves backwards, so that none is overwritten unread
                block = rows[begin : begin + BLOCK]
                array[begin : begin + len(block)] = array[block]
        self.size = len(rows)

    def _reserve(self, rows: Mapping[str, Tensor], n_rows: int) -> None:
        for name, values in rows.items():
            old = self._arrays.get(name)
            if old is None or len(old) < n_rows:
                dtype = torch.float32 if values.is_floating_point() else values.dtype
                room = min(max(2 * self.size, n_rows), self.limit)
                self._arrays[name] = torch.empty((room, *values.shape[1:]), dtype=dtype)
                if old is not None:
                    self._arrays[name][: self.size] = old[: self.size]
