"""Generalised advantages, linear in the rewards, and how hosts standardise them."""

from __future__ import annotations

from torch import Tensor

from sb3_tare.advantages.sums import DiscountedSums, discounted_sum
from sb3_tare.data.episodes import Episodes
from sb3_tare.data.rollout import Baseline


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
