"""SB3's distributions of actions without torch's checks of their arguments, for one policy and for a while.

The checks pass over every argument of every distribution, and torch can only be told to leave them out for all of the
process at once. Here the class of a policy's own distribution object is changed instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from stable_baselines3.common import distributions as sb3
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Normal


class UncheckedDiagGaussian(sb3.DiagGaussianDistribution):
    """SB3's diagonal Gaussian, unchecked."""

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor) -> Any:
        """Set means ``[B, A]`` and the logarithm ``[A]`` of the standard deviations."""
        self.distribution = Normal(mean_actions, torch.ones_like(mean_actions) * log_std.exp(), validate_args=False)
        return self


class UncheckedStateDependentNoise(sb3.StateDependentNoiseDistribution):
    """SB3's Gaussian with noise that depends on the state, unchecked."""

    def proba_distribution(self, mean_actions: Tensor, log_std: Tensor, latent_sde: Tensor) -> Any:
        """Set means ``[B, A]``, and noise from ``log_std`` ``[k, A]`` or ``[k, 1]`` and features ``latent_sde`` ``[B, k]``."""
        self._latent_sde = latent_sde if self.learn_features else latent_sde.detach()
        variance = torch.mm(self._latent_sde**2, self.get_std(log_std) ** 2)
        self.distribution = Normal(mean_actions, torch.sqrt(variance + self.epsilon), validate_args=False)
        return self


class UncheckedCategorical(sb3.CategoricalDistribution):
    """SB3's categorical distribution, unchecked."""

    def proba_distribution(self, action_logits: Tensor) -> Any:
        """Set logits ``[B, K]``."""
        self.distribution = Categorical(logits=action_logits, validate_args=False)
        return self


class UncheckedMultiCategorical(sb3.MultiCategoricalDistribution):
    """SB3's product of categorical distributions, unchecked."""

    def proba_distribution(self, action_logits: Tensor) -> Any:
        """Set logits ``[B, sum(action_dims)]``, those of one action behind those of another."""
        splits = torch.split(action_logits, list(self.action_dims), dim=1)
        self.distribution = [Categorical(logits=split, validate_args=False) for split in splits]
        return self


class UncheckedBernoulli(sb3.BernoulliDistribution):
    """SB3's product of Bernoulli distributions, unchecked."""

    def proba_distribution(self, action_logits: Tensor) -> Any:
        """Set logits ``[B, A]``."""
        self.distribution = Bernoulli(logits=action_logits, validate_args=False)
        return self


UNCHECKED: dict[type, type] = {
    sb3.DiagGaussianDistribution: UncheckedDiagGaussian,
    sb3.StateDependentNoiseDistribution: UncheckedStateDependentNoise,
    sb3.CategoricalDistribution: UncheckedCategorical,
    sb3.MultiCategoricalDistribution: UncheckedMultiCategorical,
    sb3.BernoulliDistribution: UncheckedBernoulli,
}


@contextmanager
def unchecked(policy: Any) -> Iterator[None]:
    """Let ``policy`` make its distributions without checks; a distribution of any other class stays as it is."""
    distribution = policy.action_dist
    checked = type(distribution)
    distribution.__class__ = UNCHECKED.get(checked, checked)
    try:
        yield
    finally:
        distribution.__class__ = checked
