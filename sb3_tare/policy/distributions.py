"""Parameters of a policy's action distributions, and the KL term of its trust region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

from sb3_tare.data.rollout import DistributionParameters


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
