"""Returns of whole episodes decomposed into rewards of steps.

A few steps are drawn from each episode, and their mean reward times the episode's length is fitted to its total. Compare
randomised return decomposition (Ren et al., 2022) and RUDDER (Arjona-Medina et al., 2019).

Drawing m of the L steps of an episode adds L / m times the variance of rewards within the episode to the squared error: it
shrinks rewards towards the episode's mean. How much it shrinks them matters as much as the data, so that it is a setting of
its own, ``shrinkage``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from stable_baselines3.common.utils import update_learning_rate
from torch import Tensor, nn

from sb3_tare.rewards.episode_memory import Draw
from sb3_tare.rewards.open_episodes import FinishedEpisodes
from sb3_tare.settings.groups import DecompositionSettings
from sb3_tare.utils.checks import LOWER_RATES
from sb3_tare.utils.last_good import last_good
from sb3_tare.utils.nested import Observations
from sb3_tare.utils.optimisers import load_keeping_step_sizes
from sb3_tare.utils.schedules import value_at

RewardsOf = Callable[[Observations, Tensor], Tensor]
"""A map from states ``[k, ...]`` and encoded actions ``[k, action_dim]`` to rewards ``[k]``, differentiable."""


UNIT_EVERY = 10
"""Fits between two new units of rewards, taken from the memory. A unit that moved at each fit would disturb the network."""


class Memory(Protocol):
    """Episodes to draw from, such as an :class:`~sb3_tare.rewards.episode_memory.EpisodeMemory`."""

    lengths: Tensor
    """``[E]`` steps"""
    totals: Tensor
    """``[E]`` sums of extrinsic rewards"""
    squared_actions: Tensor
    """``[E]`` sums of |a|^2"""

    def sample(self, n_episodes: int, n_steps: int, generator: torch.Generator, recent: float) -> Draw:
        """Draw ``n_steps`` steps of each of ``n_episodes`` episodes, with replacement; a share of them are ``recent``."""


class Decomposition:
    """Fits a network to totals: rewards of steps are w |a|^2 + unit * network(s, a).

    The coefficient w of the first term, ``action_cost``, is solved elsewhere (:mod:`~sb3_tare.rewards.action_cost`), and
    the term is subtracted from the totals; a network alone hardly finds it.

    :param rewards_of: the network
    :param parameters: of the network, to be fitted
    :param settings: of the fit; None for the defaults
    :param n_settling: first fits each of which takes a new unit, where a single episode may be all that they are fitted to
    """

    def __init__(
        self,
        rewards_of: RewardsOf,
        parameters: Iterable[nn.Parameter],
        settings: DecompositionSettings | None = None,
        n_settling: int = 0,
    ) -> None:
        self.settings = settings or DecompositionSettings(return_decomposition=True)
        self.unit = 0.0
        """Reward that one unit of the network's output stands for; zero as long as every total was zero"""
        self.parameters = list(parameters)
        self._rewards_of = rewards_of
        self._n_settling = n_settling
        # By lists of tensors: the bits of a loop over tensors, in half of its time.
        self._optimizer = torch.optim.Adam(
            self.parameters, lr=value_at(self.settings.decomposition_learning_rate, 1.0), foreach=True
        )
        self._n_fits = 0

    @property
    def has_fitted(self) -> bool:
        """Whether any step was taken."""
        return self._n_fits > 0

    def follow(self, progress: float) -> None:
        """Let a step size that is a schedule be that of now, with the share ``progress`` of the run still to come."""
        update_learning_rate(self._optimizer, value_at(self.settings.decomposition_learning_rate, progress))

    def fit(
        self,
        memory: Memory,
        generator: torch.Generator,
        action_cost: float = 0.0,
        n_updates: int | None = None,
        beside: Tensor | None = None,
    ) -> float | None:
        """Take ``decomposition_updates`` steps and return the mean loss over them.

        :param memory: of finished episodes
        :param generator: of the draws
        :param action_cost: w, reward of one unit of |a|^2
        :param beside: ``[p]`` of norm 1, a direction in which each step climbs too, by ``hypergradient_share``
        :param n_updates: steps, at least one, in place of the settings'
        :return: None, with no step taken, if no episode has ended yet or every total was zero
        :raises FloatingPointError: if a parameter is not finite after the steps, which are undone then
        """
        if not len(memory.lengths):
            return None
        if self.unit == 0.0 or self._n_fits % UNIT_EVERY == 0 or self._n_fits < self._n_settling:
            self.unit = unit_of(memory.totals - action_cost * memory.squared_actions, memory.lengths)
        if self.unit == 0.0:
            return None
        self._n_fits += 1
        n_updates = self.settings.decomposition_updates if n_updates is None else n_updates
        with last_good(self.parameters, self._optimizer, "decomposed reward", LOWER_RATES):
            losses = [self._step(memory, generator, action_cost, beside) for _ in range(n_updates)]
        return float(torch.stack(losses).mean())

    def _step(self, memory: Memory, generator: torch.Generator, action_cost: float, beside: Tensor | None) -> Tensor:
        settings = self.settings
        draw = memory.sample(
            settings.decomposition_episodes, settings.decomposition_steps, generator, settings.decomposition_recent
        )
        loss = self.loss(draw, action_cost)
        self._optimizer.zero_grad()
        loss.backward()
        if beside is not None:
            self._climb(beside)
        self._optimizer.step()
        return loss.detach()

    def _climb(self, direction: Tensor) -> None:
        """Add ascent along ``direction`` ``[p]`` to the gradients, at its share of their norm."""
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients]))
        parts = direction.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            if parameter.grad is not None:
                parameter.grad.sub_(self.settings.hypergradient_share * norm * part.view_as(parameter))

    def loss(self, draw: Draw, action_cost: float = 0.0) -> Tensor:
        """Mean loss over the drawn episodes, a scalar, differentiable in the network's parameters."""
        rewards = self._rewards_of(draw.states, draw.actions).view(len(draw.lengths), -1)
        totals = (draw.totals - action_cost * draw.squared_actions) / self.unit
        losses = LOSSES[self.settings.shrinkage]
        return losses(rewards, draw.lengths.to(rewards), totals.to(rewards), self.settings.shrinkage_penalty).mean()

    @torch.no_grad()
    def rewards(self, states: Observations, actions: Tensor, action_cost: float = 0.0) -> Tensor:
        """Learned rewards ``[n]`` of steps, in units of the extrinsic reward."""
        return step_rewards(self._rewards_of(states, actions), actions, self.unit, action_cost)

    def predicted_totals(self, finished: FinishedEpisodes, action_cost: float = 0.0) -> Tensor:
        """Sums ``[E]`` (float64) of learned rewards over whole episodes, in units of the extrinsic reward."""
        return finished.sums(self.rewards(finished.states, finished.actions, action_cost).cpu())

    def state_dict(self) -> dict[str, Any]:
        """State of the optimiser, unit and number of fits; the network's parameters are not part of it."""
        return {"optimizer": self._optimizer.state_dict(), "unit": self.unit, "n_fits": self._n_fits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over."""
        load_keeping_step_sizes(self._optimizer, state["optimizer"])
        self.unit, self._n_fits = state["unit"], state["n_fits"]


def step_rewards(in_units: Tensor, actions: Tensor, unit: float, action_cost: float) -> Tensor:
    """Rewards ``w |a|^2 + unit * network(s, a)`` of steps, ``[n]``, in units of the extrinsic reward.

    :param in_units: ``[n]`` output of the network
    :param actions: ``[n, action_dim]`` as executed
    :param unit: reward that one unit of the output stands for
    :param action_cost: w, reward of one unit of |a|^2
    """
    return unit * in_units + action_cost * actions.to(in_units).square().flatten(1).sum(1)


def sampled_losses(rewards: Tensor, lengths: Tensor, totals: Tensor, penalty: float = 0.0) -> Tensor:
    """Loss (L * mean reward of the drawn steps - total)^2 / L of each episode.

    Its expectation over draws is (sum of all rewards - total)^2 / L + (L / m) * variance of rewards within the episode.

    :param rewards: ``[E, m]`` of the drawn steps, in units of :func:`unit_of`
    :param lengths: ``[E]`` floating-point, steps L of the whole episode
    :param totals: ``[E]`` in the same units
    :param penalty: unused
    :return: ``[E]``
    """
    return (lengths * rewards.mean(1) - totals).square() / lengths


def penalised_losses(rewards: Tensor, lengths: Tensor, totals: Tensor, penalty: float) -> Tensor:
    """Losses whose expectation is (sum of all rewards - total)^2 / L + max(penalty, L / m) * variance within the episode.

    Arguments are those of :func:`sampled_losses`, with m of at least 2; ``[E]`` is returned.
    """
    owed = (penalty - lengths / rewards.shape[1]).clamp(min=0.0)
    return sampled_losses(rewards, lengths, totals) + owed * rewards.var(1, correction=1)


def unbiased_losses(rewards: Tensor, lengths: Tensor, totals: Tensor, penalty: float = 0.0) -> Tensor:
    """Losses whose expectation is (sum of all rewards - total)^2 / L: a product of residuals of two independent halves.

    Arguments are those of :func:`sampled_losses`, with an even m; ``[E]`` is returned. A loss may be negative.
    """
    first, second = (lengths * half.mean(1) - totals for half in rewards.chunk(2, dim=1))
    return first * second / lengths


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "steps": sampled_losses,
    "penalty": penalised_losses,
    "none": unbiased_losses,
}


def unit_of(totals: Tensor, lengths: Tensor) -> float:
    """Size sqrt(mean of total^2 / length) of a step's reward, if those of an episode were independent.

    :param totals: ``[E]``
    :param lengths: ``[E]`` steps
    :return: zero if there is no episode or every total is zero
    """
    return math.sqrt(float((totals.double().square() / lengths).mean())) if len(totals) else 0.0


def r_squared(predicted: Tensor, totals: Tensor) -> float:
    """Share of the variance of totals ``[E]`` that predictions ``[E]`` explain; NaN where totals do not vary."""
    variance = (totals - totals.mean()).square().sum() if len(totals) else totals.new_zeros(())
    return float(1.0 - (predicted - totals).square().sum() / variance) if variance > 0 else math.nan
