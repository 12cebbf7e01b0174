"""The part of a reward that the size of actions costs, solved in closed form from sums over whole episodes.

A network that is fitted to totals hardly finds it: the noise of actions is independent from step to step, so that
shrinkage towards the episode's mean removes nearly all of its effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from sb3_tare.rewards.open_episodes import FinishedEpisodes
from sb3_tare.utils.checks import check_count

RIDGE = (0.003, 0.1)
"""Ridge penalties on the observation's coefficients: one for each episode, and a constant."""
MIN_FREEDOM = 10.0
"""Degrees of freedom without which a t-value says little."""
SURE = 4.0
"""Absolute t-value below which the coefficient is taken to be zero.

Where few episodes end in a rollout, fixed effects leave some confounding behind, which shows in small t-values.
"""
MIN_VARIATION = 1e-10
"""Share of the actions' squared size that must still vary when all else is held constant; less is rounding."""
MAX_OBSERVATION_DIM = 2_000
"""Most numbers in an observation that enters; the products of larger ones would need gigabytes."""


class Estimate(NamedTuple):
    """Reward of one unit of |a|^2 in a step, as it is estimated."""

    coefficient: float
    """Reward units, negative where actions cost; zero where nothing can be said"""
    t_value: float
    """The coefficient in units of its standard error, before it is shrunk; zero where nothing can be said"""


class ActionCost:
    """The coefficient w of |a|^2 in rewards of steps, by ridge regression on sums over whole episodes.

    An episode's total is regressed on the sums over its L steps of |a|^2, of the observation x and of x^2, each divided by
    sqrt(L). The observations only explain variance; of the coefficients only w is used, times 1 - 1 / t^2 for its t-value t
    where that is beyond :data:`SURE`, and zero elsewhere.

    *Only episodes of one group are compared*, which ended under one policy or nearly so (fixed effects): from the total and
    from each sum, L times its mean per step over all of these is subtracted. Otherwise better policies that merely act larger
    would make large actions look good. This also removes a constant reward per step, which therefore needs no column.

    Only sums of products are kept, so that memory and time do not grow with the number of episodes.

    :param observation_dim: numbers in an observation that enter the regression; 0 leaves it out, as with images
    :raises ValueError: if ``observation_dim`` is no whole number, negative or too large
    """

    def __init__(self, observation_dim: int) -> None:
        check_count("observation_dim", observation_dim, 0)
        if observation_dim > MAX_OBSERVATION_DIM:
            raise ValueError(
                f"observation_dim must be at most {MAX_OBSERVATION_DIM}, got {observation_dim}: 0 leaves the observation out"
            )
        self.observation_dim = observation_dim
        n_columns = 2 * observation_dim + 2
        self._products = torch.zeros(n_columns, n_columns, dtype=torch.float64)
        self._action_size = 0.0
        self._n_episodes, self._n_groups = 0, 0
        self._sums = torch.zeros(0, n_columns, dtype=torch.float64)
        """``[E, columns]`` of the episodes of the group that is not closed"""
        self._lengths = torch.zeros(0, dtype=torch.int64)
        """``[E]`` their steps"""

    def add(self, finished: FinishedEpisodes, observations: Tensor | None = None) -> None:
        """Add episodes to the group.

        :param finished: with actions as they were executed
        :param observations: ``[n, observation_dim]`` of the same rows, standardised; None if ``observation_dim`` is 0
        :raises ValueError: if the shape of ``observations`` differs
        """
        n_rows = len(finished.actions)
        x = finished.actions.new_zeros(n_rows, 0) if observations is None else observations.detach().cpu()
        if x.shape != (n_rows, self.observation_dim):
            raise ValueError(f"observations must have shape {(n_rows, self.observation_dim)}, got {tuple(x.shape)}")
        x = x.double()
        squared_actions = finished.squared_actions
        sums = torch.cat(
            [squared_actions[:, None], finished.sums(x), finished.sums(x.square()), finished.totals[:, None]], dim=1
        )
        self._sums, self._lengths = torch.cat([self._sums, sums]), torch.cat([self._lengths, finished.lengths])

    def close(self) -> bool:
        """Compare the episodes of the group with each other, and begin another.

        :return: whether there were any
        """
        sums, lengths = self._sums, self._lengths
        if not len(lengths):
            return False
        rows = within_group_rows(sums, lengths)
        self._products += rows.T @ rows
        self._action_size += float((sums[:, 0].square() / lengths).sum())
        self._n_episodes += len(lengths)
        self._n_groups += 1
        self._sums, self._lengths = sums[:0], lengths[:0]
        return True

    def estimate(self) -> Estimate:
        """The coefficient of |a|^2 by the groups that are closed.

        It is zero with fewer than about ten more episodes than groups and coefficients, with one episode a group, and
        where the size of actions does not vary.
        """
        return solved(self._products, self._n_episodes, self._n_groups, self._action_size)

    def state_dict(self) -> dict[str, Any]:
        """Numbers and tensors."""
        return {
            "products": self._products.clone(),
            "action_size": self._action_size,
            "n_episodes": self._n_episodes,
            "n_rollouts": self._n_groups,
            "sums": self._sums,
            "lengths": self._lengths,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over.

        :raises ValueError: if it was saved with another ``observation_dim``
        """
        if state["products"].shape != self._products.shape:
            saved = (len(state["products"]) - 2) // 2
            raise ValueError(f"observation_dim is {self.observation_dim}, the saved action cost has {saved}")
        self._products, self._action_size = state["products"].clone(), state["action_size"]
        self._n_episodes, self._n_groups = state["n_episodes"], state["n_rollouts"]
        if "sums" in state:  # files from when a group was a rollout have none that is not closed
            self._sums, self._lengths = state["sums"], state["lengths"]


def action_cost_for(action_space: spaces.Space, observation_dim: int) -> ActionCost | None:
    """An action cost where actions have a size, in a ``Box``; None in other spaces.

    :param observation_dim: numbers in an observation, which is left out where they are too many
    """
    enters = observation_dim <= MAX_OBSERVATION_DIM
    return ActionCost(observation_dim if enters else 0) if isinstance(action_space, spaces.Box) else None


def within_group_rows(sums: Tensor, lengths: Tensor) -> Tensor:
    """Sums less what the group's mean per step predicts, scaled to rows of equal variance.

    :param sums: ``[E, columns]`` over the steps of each episode
    :param lengths: ``[E]`` steps
    :return: ``[E, columns]``, (sums - length * mean per step) / sqrt(length)
    """
    steps = lengths.to(sums)[:, None]
    return (sums - steps * (sums.sum(0) / steps.sum())) / steps.sqrt()


def solved(products: Tensor, n_episodes: int, n_groups: int, action_size: float) -> Estimate:
    """Coefficient of the first column in a ridge regression of the last column on all others.

    :param products: ``[c, c]`` float64, products of the columns, summed over rows
    :param n_episodes: number of rows
    :param n_groups: number of groups, each of which costs a degree of freedom by being centred
    :param action_size: sum of squares of the first column before it was centred
    """
    n_columns = len(products) - 1
    gram, totals = products[:-1, :-1], products[:-1, -1]
    penalty = torch.full((n_columns,), RIDGE[0] * n_episodes + RIDGE[1], dtype=torch.float64)
    penalty[0] = 0.0
    observed = gram[1:, 1:] + penalty[1:].diag()
    factor = torch.linalg.cholesky(observed)
    partial = torch.cholesky_solve(torch.stack([gram[1:, 0], totals[1:]], dim=1), factor)
    variation = float(gram[0, 0] - gram[0, 1:] @ partial[:, 0])
    if variation <= MIN_VARIATION * action_size:
        return Estimate(0.0, 0.0)
    used = 1.0 + float((torch.cholesky_inverse(factor) * gram[1:, 1:]).sum()) if n_columns > 1 else 1.0
    freedom = n_episodes - n_groups - used
    if freedom < MIN_FREEDOM:
        return Estimate(0.0, 0.0)
    coefficient = float(totals[0] - gram[0, 1:] @ partial[:, 1]) / variation
    coefficients = torch.cat([torch.tensor([coefficient], dtype=torch.float64), partial[:, 1] - coefficient * partial[:, 0]])
    residual = float(products[-1, -1] - 2 * coefficients @ totals + coefficients @ gram @ coefficients)
    deviation = math.sqrt(max(residual, 0.0) / freedom / variation)
    if deviation == 0.0:
        return Estimate(coefficient, math.copysign(math.inf, coefficient) if coefficient else 0.0)
    t_value = coefficient / deviation
    return Estimate(coefficient * (1.0 - 1.0 / t_value**2) if abs(t_value) > SURE else 0.0, t_value)
