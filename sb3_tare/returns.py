"""Discounted sums and generalised advantages: linear maps of rewards, differentiable in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.episodes import Episodes, Padding

DiscountedSums = Callable[[Tensor, Episodes, float], Tensor]


@dataclass(frozen=True)
class Baseline:
    """What a critic says about the rows of a rollout, in reward units.

    :param values: ``[n]`` value of each row's observation
    :param next_values: ``[n]`` value of the observation that follows, zero where the row ended its episode
    :param bootstraps: ``[n]`` float64, discounted value of the terminal observation where a time limit ended the
        episode, else zero. SB3 adds it to the reward.
    """

    values: Tensor
    next_values: Tensor
    bootstraps: Tensor


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


def generalised_advantages(
    rewards: Tensor,
    baseline: Baseline,
    episodes: Episodes,
    gamma: float,
    gae_lambda: float,
    sums: DiscountedSums = discounted_sum,
) -> Tensor:
    """GAE(gamma, lambda) of ``rewards`` over ``baseline`` (Schulman et al., 2016, eq. 16).

    The operations and their order are those of SB3's ``RolloutBuffer``, so that equal rewards give equal bits.
    ``gae_lambda = 1`` is the paper's return minus value (appendix F). Added to the baseline's values these are TD(lambda)
    returns.

    :param rewards: ``[n]``
    :param sums: how discounted sums are computed
    :return: ``[n]`` in the dtype of the baseline's values, differentiable in ``rewards``
    """
    rewards = (rewards.double() + baseline.bootstraps).to(baseline.values.dtype)
    deltas = rewards + gamma * baseline.next_values - baseline.values
    return sums(deltas, episodes, gamma * gae_lambda)


def standardise(advantages: Tensor) -> Tensor:
    """Zero mean and unit standard deviation, as SB3's hosts do it to a batch of advantages ``[n]``, n >= 2."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


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
            for k in range(len(sums) - 1, 0, -1):
                sums[k - 1] += discount * sums[k]
        else:
            for k in range(1, len(sums)):
                sums[k] += discount * sums[k - 1]
    return padding.unpad(batches).to(rows.device)
