"""What a host maximises on a batch of steps, J(theta; A), and the KL term of its trust region.

Each objective is a function ``(log_probs, old_log_probs, advantages) -> J`` of three ``[n]`` tensors. Only the first
depends on the policy's parameters, only the last on the reward's: all that the implicit gradient needs of a host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]

DistributionParameters = list[dict[str, Tensor]]
"""Parameters of a policy's action distribution, a dictionary for each independent component."""


def surrogate(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Mean of ratio times advantage: PPO and TRPO (eq. 3 and 11, without the KL term)."""
    return (torch.exp(log_probs - old_log_probs) * advantages).mean()


def clipped_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Mean of the smaller of ratio and clipped ratio times advantage (Schulman et al., 2017, eq. 7)."""
    ratios = torch.exp(log_probs - old_log_probs)
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range)
    return torch.minimum(ratios * advantages, clipped * advantages).mean()


def log_likelihood(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Mean of log-probability times advantage: A2C (eq. 1)."""
    return (log_probs * advantages).mean()


def advantage_weighted(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, temperature: float, max_weight: float
) -> Tensor:
    """Mean of log-probability times ``min(exp(A / temperature), max_weight)``: AWR (eq. 4 and 12)."""
    return (log_probs * advantage_weights(advantages, temperature, max_weight)).mean()


def advantage_weights(advantages: Tensor, temperature: float, max_weight: float) -> Tensor:
    """``min(exp(A / temperature), max_weight)`` of advantages ``[n]`` (Peng et al., 2019, eq. 10 and section 4)."""
    # The exponent is clipped, not the exponential: where that overflows its derivative would be zero times infinity.
    return torch.exp((advantages / temperature).clamp(max=math.log(max_weight)))


def parameters_of(distribution: Any) -> DistributionParameters:
    """Parameters of one of SB3's or sb3-contrib's action distributions, one dictionary for each independent component.

    They are attached to the policy's graph. Of a squashed Gaussian they are those before squashing: a KL divergence does
    not change under an invertible map.

    :raises TypeError: if there is no KL divergence for such a distribution
    """
    components = getattr(distribution, "distributions", None) or distribution.distribution
    return [_component(part) for part in (components if isinstance(components, Sequence) else [components])]


def detached(parameters: DistributionParameters) -> DistributionParameters:
    """The same numbers, apart from any graph."""
    return [{name: value.detach() for name, value in component.items()} for component in parameters]


def kl_divergence(
    reference: DistributionParameters, parameters: DistributionParameters, weights: Tensor | None = None
) -> Tensor:
    """Mean over the batch of KL[reference || distribution], summed over components and dimensions (eq. 3).

    :param weights: ``[n]`` that multiply the steps' divergences; None: one
    """
    divergences = [
        torch_kl_divergence(_distribution(constants), _distribution(component))
        for constants, component in zip(reference, parameters, strict=True)
    ]
    by_step = torch.cat([divergence.reshape(len(divergence), -1) for divergence in divergences], dim=1).sum(dim=1)
    return by_step.mean() if weights is None else (weights * by_step).mean()


def _component(part: Distribution) -> dict[str, Tensor]:
    if isinstance(part, Normal):
        return {"loc": part.loc, "scale": part.scale}
    if isinstance(part, Categorical):
        return {"logits": part.logits}
    if isinstance(part, Bernoulli):
        return {"binary_logits": part.logits}
    raise TypeError(f"no KL divergence for {type(part).__name__}; supported: Normal, Categorical and Bernoulli")


def _distribution(component: dict[str, Tensor]) -> Distribution:
    if "loc" in component:
        return Normal(component["loc"], component["scale"], validate_args=False)
    if "logits" in component:
        return Categorical(logits=component["logits"], validate_args=False)
    return Bernoulli(logits=component["binary_logits"], validate_args=False)
