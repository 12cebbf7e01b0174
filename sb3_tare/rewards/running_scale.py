"""The size of rewards that change while they are learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sb3_tare.data.episodes import Episodes
from sb3_tare.rewards.carrying import Carried
from sb3_tare.utils.checks import check_count, check_number

MIN_VARIATION = 1e-6
"""Share of the mean return below which a deviation is rounding."""


class RunningScale:
    """Running standard deviation of discounted returns, as ``VecNormalize`` divides rewards by, but one that forgets.

    All returns seen so far weigh no more than ``rollouts`` times those of the last rollout, so that the scale follows
    rewards as they change: older rollouts lose weight by a factor of about 1 - 1 / ``rollouts`` each. Rewards change with the
    fits to them, between which there may be many short rollouts; these lose less.

    :param n_envs: number of environments
    :param discount: of the returns
    :param rollouts: number of rollouts that the past weighs at most
    :param least_steps: of a rollout, as which shorter ones count there; those between two fits
    :raises ValueError: if ``n_envs`` or ``rollouts`` is no positive whole number, or ``discount`` is outside of 0 to 1
    """

    def __init__(self, n_envs: int, discount: float, rollouts: int = 50, least_steps: int = 0) -> None:
        check_count("n_envs", n_envs, 1)
        check_number("discount", discount, at_least=0.0, at_most=1.0)
        check_count("rollouts", rollouts, 1)
        self.discount = discount
        self.rollouts = rollouts
        self.least_steps = least_steps
        self._mean, self._variance, self._count = 0.0, 0.0, 0
        self._carried = Carried(n_envs)

    @property
    def scale(self) -> float:
        """Number to divide rewards by: the deviation of returns, their size if they never vary, or 1 while they are zero."""
        deviation, size = math.sqrt(self._variance), abs(self._mean)
        return (deviation if deviation > MIN_VARIATION * size else size) or 1.0

    def update(self, rewards: Tensor, episodes: Episodes, environments: Tensor) -> float:
        """Add a rollout's rewards, and return the new scale.

        The return of a piece that was cut is carried on into the next rollout.

        :param rewards: ``[n]``
        :param episodes: pieces, those of one environment in order of time
        :param environments: ``[E]`` int64, where each piece comes from
        """
        returns = self._carried_on(rewards.detach().cpu().double(), episodes, environments)
        variance, mean = torch.var_mean(returns, correction=0)
        self._merge(float(mean), float(variance), len(returns))
        return self.scale

    def state_dict(self) -> dict[str, Any]:
        """Numbers, and the returns under way."""
        moments = {"mean": self._mean, "variance": self._variance, "count": self._count}
        return {**moments, "carried": self._carried.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over; returns under way only where there are as many environments, which may go on with them."""
        self._mean, self._variance, self._count = state["mean"], state["variance"], state["count"]
        if "carried" in state:  # older files do not say where returns go on
            self._carried.load_state_dict(state["carried"])

    def _carried_on(self, rewards: Tensor, episodes: Episodes, environments: Tensor) -> Tensor:
        """Discounted returns ``[n]``; an environment's first piece goes on from the last of the rollout before."""
        carried = self._carried.into(episodes, environments).nan_to_num(0.0)
        decay = self.discount ** (episodes.offsets + 1).double()
        returns = past_discounted_sum(rewards, episodes, self.discount) + decay * carried[episodes.pieces]
        last_rows = episodes.begins + episodes.lengths - 1
        self._carried.keep(returns[last_rows], episodes, environments)
        return returns

    def _merge(self, mean: float, variance: float, n_new: int) -> None:
        """Combine the moments of two sets (Chan et al., 1983), then let the older ones lose weight."""
        total = self._count + n_new
        difference = mean - self._mean
        old, new = self._count / total, n_new / total
        self._mean += new * difference
        self._variance = old * self._variance + new * variance + old * new * difference**2
        self._count = min(total, self.rollouts * max(n_new, self.least_steps))


def past_discounted_sum(rewards: Tensor, episodes: Episodes, discount: float) -> Tensor:
    """Sum of past ``rewards`` inside each piece, ``y_t = reward_t + discount * y_{t-1}``, without a loop over steps.

    After k of its log2(longest piece) operations each row holds the sum of the last 2^k terms.

    :param rewards: ``[n]``
    :return: ``[n]``
    """
    sums, step, longest = rewards, 1, int(episodes.lengths.max())
    while step < longest:
        earlier = torch.cat([sums.new_zeros(step), sums[:-step]])
        sums = sums + discount**step * torch.where(episodes.offsets >= step, earlier, 0.0)
        step *= 2
    return sums
