"""Observations that a phase reads of a memory: gathered once where they are vectors, for each mini-batch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor

from sb3_tare.awr.evaluation import CHUNK
from sb3_tare.utils.nested import Observations, at_rows

MAX_NUMBERS = 2**26
"""Numbers (256 MiB of them) that observations may have to be gathered once; larger memories are read as they are needed."""

RowsAt = Callable[[Tensor], Any]
"""A map from numbers ``[m]`` of some of a phase's n steps, int64 on the CPU, to a tensor ``[m, ...]`` or a dictionary."""


def gathered(observations_at: Callable[[np.ndarray], Observations], rows: np.ndarray, space: spaces.Space) -> RowsAt:
    """Rows of a memory by their number among the ``rows`` of a phase.

    Vectors are gathered once. Images, dictionaries and discrete observations are not: what is made of them is many times as
    large as they are, so that it is made of a mini-batch at a time.

    :param observations_at: gives observations, or what is made of them, at rows of the memory
    :param rows: ``[n]`` the memory's rows that the phase learns from
    :param space: of observations
    """
    if is_gathered(space, len(rows)):
        table = at_rows(observations_at, rows, CHUNK)
        return lambda numbers: table.index_select(0, numbers.to(table.device))
    return lambda numbers: observations_at(rows[numbers.numpy()])


def is_gathered(space: spaces.Space, n_rows: int) -> bool:
    """Whether ``n_rows`` observations of ``space`` are gathered once."""
    is_vector = isinstance(space, spaces.Box) and not is_image_space(space)
    return is_vector and n_rows * prod(space.shape) <= MAX_NUMBERS  # type: ignore[arg-type]
