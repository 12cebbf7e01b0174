"""Discounted sums and generalised advantages: linear maps of rewards, differentiable in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.episodes import Episodes, Packing


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
    return _DiscountedSum.apply(deltas, episodes.reversed_packing, discount)


def generalised_advantages(rewards: Tensor, baseline: Baseline, episodes: Episodes, gamma: float, gae_lambda: float) -> Tensor:
    """GAE(gamma, lambda) of ``rewards`` over ``baseline`` (Schulman et al., 2016, eq. 16).

    The operations and their order are those of SB3's ``RolloutBuffer``, so that equal rewards give equal bits.
    ``gae_lambda = 1`` is the paper's return minus value (appendix F).

    :param rewards: ``[n]``
    :return: ``[n]`` in the dtype of the baseline's values, differentiable in ``rewards``
    """
    rewards = (rewards.double() + baseline.bootstraps).to(baseline.values.dtype)
    deltas = rewards + gamma * baseline.next_values - baseline.values
    return discounted_sum(deltas, episodes, gamma * gae_lambda)


def standardise(advantages: Tensor) -> Tensor:
    """Zero mean and unit standard deviation, as SB3's hosts do it to a batch of advantages ``[n]``, n >= 2."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


class _DiscountedSum(torch.autograd.Function):
    """One scan over the longest piece each way; a loop of torch operations under autograd costs ten times as much."""

    @staticmethod
    def forward(ctx: Any, deltas: Tensor, packing: Packing, discount: float) -> Tensor:  # type: ignore[override]
        ctx.packing, ctx.discount = packing, discount
        return _scan(deltas, packing, discount, transposed=False)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _scan(gradient, ctx.packing, ctx.discount, transposed=True), None, None


def _scan(rows: Tensor, packing: Packing, discount: float, transposed: bool) -> Tensor:
    sums: np.ndarray = rows.detach().cpu()[packing.order].numpy()
    sizes = packing.batch_sizes.tolist()
    begins = (packing.batch_sizes.cumsum(0) - packing.batch_sizes).tolist()
    steps = range(1, len(sizes))
    for k in reversed(steps) if transposed else steps:
        later, earlier = begins[k - 1], begins[k]
        size = sizes[k]
        if transposed:
            sums[later : later + size] += discount * sums[earlier : earlier + size]
        else:
            sums[earlier : earlier + size] += discount * sums[later : later + size]
    return torch.from_numpy(sums)[packing.inverse].to(rows.device)
