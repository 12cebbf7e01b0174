"""Discounted sums inside episodes: linear maps of rewards, differentiable in them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.data.episodes import Episodes
from sb3_tare.data.padding import Padding

DiscountedSums = Callable[[Tensor, Episodes, float], Tensor]

MANY = 8
"""Columns from which on a scan of arrays, row by row, is faster than one of numbers."""


def discounted_sum(deltas: Tensor, episodes: Episodes, discount: float) -> Tensor:
    """Sum of future ``deltas`` inside each piece of an episode, a linear map of ``deltas``.

    ``y_t = delta_t + discount * y_{t+1}``, with ``y`` zero behind a piece's last row. With TD errors and
    ``discount = gamma * lambda`` this is GAE (Schulman et al., 2016, eq. 16).

    :param deltas: ``[n]``
    :return: ``[n]``, differentiable in ``deltas``
    :raises ValueError: if ``deltas`` has not one entry a row
    """
    if deltas.shape != (episodes.n_steps,):
        raise ValueError(f"deltas must have shape {(episodes.n_steps,)}, one entry a row, got {tuple(deltas.shape)}")
    return _DiscountedSum.apply(deltas, episodes.reversed_padding, discount, False)


def discounted_sum_by_doubling(deltas: Tensor, episodes: Episodes, discount: float) -> Tensor:
    """The sums of :func:`discounted_sum` without a loop over steps: log2(longest piece) operations on all rows at once.

    After k of them each row holds the sum of the first 2^k terms. For a memory of tens of thousands of steps; a rollout's
    sums follow SB3's order of operations to the last bit instead.

    :param deltas: ``[n]``
    :return: ``[n]``, differentiable in ``deltas``
    """
    remaining = (episodes.lengths[episodes.pieces] - episodes.offsets).to(deltas.device)
    sums, step, longest = deltas, 1, int(episodes.lengths.max())
    while step < longest:
        later = torch.cat([sums[step:], sums.new_zeros(step)])
        sums = sums + discount**step * torch.where(remaining > step, later, 0.0)
        step *= 2
    return sums


class _DiscountedSum(torch.autograd.Function):
    """One scan over the longest piece each way; a loop of torch operations under autograd costs far more."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, padding: Padding, discount: float, transposed: bool) -> Tensor:  # type: ignore[override]
        ctx.padding, ctx.discount, ctx.transposed = padding, discount, transposed
        return _scan(rows, padding, discount, transposed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _DiscountedSum.apply(gradient, ctx.padding, ctx.discount, not ctx.transposed), None, None, None


def _scan(rows: Tensor, padding: Padding, discount: float, transposed: bool) -> Tensor:
    """Discounted sums over reversed time, or their transpose, over what is not padding."""
    batches = padding.pad(rows.detach().cpu())
    for bucket, batch in zip(padding.buckets, batches, strict=True):
        sums = batch.numpy()
        if transposed:
            padded = np.ones(len(bucket.rows), dtype=bool)
            padded[bucket.places.numpy()] = False
            sums.reshape(-1)[padded] = 0.0
            _accumulate(sums[::-1], discount)
        else:
            _accumulate(sums, discount)
    return padding.unpad(batches).to(rows.device)


def _accumulate(sums: np.ndarray, discount: float) -> None:
    """Add to each row ``discount`` times the one before, in place: ``[L, E]``, from the first row on."""
    if sums.shape[1] >= MANY:
        for k in range(1, len(sums)):
            sums[k] += discount * sums[k - 1]
        return
    # Numbers one by one cost less than arrays of few, and numpy's own scalars round as its arrays do.
    factor = sums.dtype.type(float(discount))
    for column in sums.T:
        column[:] = [*accumulate(column, lambda before, delta: delta + factor * before)]
