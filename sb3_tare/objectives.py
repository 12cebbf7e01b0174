"""What a host maximises on a batch of steps, J(theta; A), and the KL term of its trust region.

Each objective is a function ``(log_probs, old_log_probs, advantages) -> J`` of three ``[n]`` tensors. Only the first
depends on the policy's parameters, only the last on the reward's: all that the implicit gradient needs of a host.
"""

from __future__ import annotations

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


def log_likelihood(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Mean of log-probability times advantage: A2C (eq. 1)."""
    return (log_probs * advantages).mean()


def components(distribution: Any) -> list[Distribution]:
    """The independent torch distributions of which one of SB3's or sb3-contrib's action distributions consists.

    A squashed Gaussian gives the Gaussian before squashing: a KL divergence does not change under an invertible map.
    """
    parts = getattr(distribution, "distributions", None) or distribution.distribution
    return list(parts) if isinstance(parts, Sequence) else [parts]


def parameters_of(parts: Sequence[Distribution]) -> DistributionParameters:
    """Detached parameters, enough to evaluate a KL divergence against another distribution of the same kind."""
    return [{name: getattr(part, name).detach() for name in _parameter_names(part)} for part in parts]


def kl_divergence(reference: DistributionParameters, parts: Sequence[Distribution]) -> Tensor:
    """Mean over the batch of KL[reference || parts], summed over components and dimensions (eq. 3).

    :param reference: ``parameters_of`` a distribution of the same kind over the same ``n`` observations
    """
    total: Tensor | float = 0.0
    for constants, part in zip(reference, parts, strict=True):
        kind = next(kind for kind in _KINDS if isinstance(part, kind))
        divergence = torch_kl_divergence(kind(**constants, validate_args=False), part)
        total = total + divergence.reshape(len(divergence), -1).sum(dim=1)
    assert isinstance(total, Tensor)
    return total.mean()


_KINDS: dict[type[Distribution], tuple[str, ...]] = {Normal: ("loc", "scale"), Categorical: ("logits",), Bernoulli: ("logits",)}


def _parameter_names(part: Distribution) -> tuple[str, ...]:
    for kind, names in _KINDS.items():
        if isinstance(part, kind):
            return names
    raise TypeError(f"no KL divergence for {type(part).__name__}; supported: {', '.join(kind.__name__ for kind in _KINDS)}")
