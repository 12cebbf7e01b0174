"""Arrays that grow by rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCK = 1 << 14
"""Rows that are moved at once, so that moving needs little memory of its own."""


class GrowingRows:
    """Named arrays ``[n, ...]`` on the CPU with the same number of rows, whose room doubles up to ``limit`` rows.

    Floating-point numbers are kept in single precision; all other types, such as the bytes of images, are kept as they are.

    :param limit: most rows
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
        """Add rows ``[k, ...]`` to each array; the first call decides the names, shapes and types of the arrays."""
        n_new = len(next(iter(rows.values())))
        self._reserve(rows, self.size + n_new)
        for name, values in rows.items():
            self._arrays[name][self.size : self.size + n_new] = values
        self.size += n_new

    def take(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows ``[k, ...]`` of each array, given their indices ``[k]``."""
        return {name: array[rows] for name, array in self._arrays.items()}

    def keep(self, rows: Tensor) -> None:
        """Keep the rows with the given indices, ``[k]`` in ascending order, and move them to the front in that order."""
        for array in self._arrays.values():
            for begin in range(0, len(rows), BLOCK):  # rows move to the front only: none is overwritten unread
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
