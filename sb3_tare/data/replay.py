"""Rows of SB3's replay buffers: how many there were, where an episode was broken off, and whether all is finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sb3_tare.utils.checks import check_finite, in_environment

BLOCK = 1 << 14
"""Rows that are looked at at once."""


def rows_written(buffer: Any) -> int:
    """Rows that SB3's replay buffer was ever given, as far as it can tell.

    Of a full ring nobody knows how often it was full; what matters is that its oldest row may not begin an episode.
    """
    return buffer.buffer_size + (buffer.pos or buffer.buffer_size) if buffer.full else buffer.pos


def begun_rows(buffer: Any, rows: NDArray[np.int64], n_written: int) -> NDArray[np.bool_]:
    """Whether each of ``rows`` ``[T]`` does not go on from the one before, ``[T, n_envs]``.

    An episode that was broken off, by ``reset`` at the start of ``learn()``, is known by the observation that follows it in
    the buffer, which is not its own next one, or by a seam that a buffer which pays learned rewards was told of.

    :param buffer: a replay buffer of SB3 that keeps next observations
    :param rows: one behind the other, of all that were ever written
    :param n_written: rows that were
    """
    blocks = [_differ(buffer, rows[first : first + BLOCK]) for first in range(0, len(rows), BLOCK)]
    begun = np.concatenate(blocks) if blocks else np.zeros((0, buffer.n_envs), dtype=bool)
    if len(rows) and rows[0] in (0, n_written - buffer.buffer_size):
        begun[0] = False  # the row before it was never there, or is overwritten
    for place, begins in _seams(buffer, rows):
        begun[place] = begins
    return begun


def lost_rows(buffer: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether ``rows`` ``[T]`` begin amid an episode whose steps before never entered the buffer, ``[T, n_envs]``.

    :param buffer: a replay buffer of SB3; only one that pays learned rewards is told of such seams
    :param rows: one behind the other, of all that were ever written
    """
    lost = np.zeros((len(rows), buffer.n_envs), dtype=bool)
    for place, begins in _seams(buffer, rows):
        lost[place] = ~begins
    return lost


def check_rows(buffer: Any, rows: NDArray[np.int64]) -> None:
    """Check what ``rows`` ``[T]`` hold, which others may have put there or loaded.

    :param buffer: a replay buffer of SB3
    :param rows: of all that were ever written
    :raises ValueError: if a number is not finite, naming the environment and the row of the ring
    """
    for first in range(0, len(rows), BLOCK):
        _check_block(buffer, rows[first : first + BLOCK] % buffer.buffer_size)


def _check_block(buffer: Any, places: NDArray[np.int64]) -> None:
    def place(row: int, env: int, *_: int) -> str:
        return f"{in_environment(env)} at row {places[row]}"

    stored = buffer.observations if isinstance(buffer.observations, dict) else {"observation": buffer.observations}
    for name, array in {"reward": buffer.rewards, "action": buffer.actions, **stored}.items():
        if array.dtype.kind == "f":
            check_finite(array[places], name, "the replay buffer holds", "fill it with finite numbers alone", place)


def _seams(buffer: Any, rows: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Places of seams among ``rows``, with whether an episode begins there, ``[n_envs]``."""
    first = rows[0] if len(rows) else 0
    for row, begins in getattr(buffer, "seams", {}).items():
        place = int(row - first) % buffer.buffer_size
        if place < len(rows):
            yield place, begins


def _differ(buffer: Any, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the observations of ``rows`` are others than the next ones of the rows before, ``[T, n_envs]``."""
    here, before = rows % buffer.buffer_size, (rows - 1) % buffer.buffer_size
    ours, theirs = buffer.observations, buffer.next_observations
    pairs = [(ours[key], theirs[key]) for key in ours] if isinstance(ours, dict) else [(ours, theirs)]
    return np.any([(a[here] != b[before]).reshape(*a[here].shape[:2], -1).any(2) for a, b in pairs], axis=0)
