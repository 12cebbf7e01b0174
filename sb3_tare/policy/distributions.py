"""Parameters of a policy's action distributions, and the KL term of its trust region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributions
from torch.distributions import Distribution, Independent, TransformedDistribution
from torch.distributions import kl_divergence as torch_kl_divergence

from sb3_tare.data.rollout import DistributionParameters

FAMILIES: dict[type[Distribution], dict[str, str]] = {
    distributions.Normal: {"loc": "loc", "scale": "scale"},
    distributions.Categorical: {"logits": "logits"},
    distributions.OneHotCategorical: {"logits": "logits"},
    distributions.Bernoulli: {"binary_logits": "logits"},
    distributions.Beta: {"beta_concentration1": "concentration1", "beta_concentration0": "concentration0"},
    distributions.MultivariateNormal: {"mean": "loc", "scale_tril": "scale_tril"},
    distributions.LowRankMultivariateNormal: {"low_rank_loc": "loc", "cov_factor": "cov_factor", "cov_diag": "cov_diag"},
    distributions.Dirichlet: {"concentration": "concentration"},
    distributions.Laplace: {"laplace_loc": "loc", "laplace_scale": "scale"},
    distributions.Cauchy: {"cauchy_loc": "loc", "cauchy_scale": "scale"},
    distributions.Gamma: {"gamma_concentration": "concentration", "gamma_rate": "rate"},
    distributions.Exponential: {"exponential_rate": "rate"},
    distributions.Poisson: {"poisson_rate": "rate"},
    distributions.Geometric: {"geometric_logits": "logits"},
    distributions.ContinuousBernoulli: {"continuous_logits": "logits"},
}
"""Distributions between two of which torch knows a KL divergence that can be differentiated: names of a component's numbers,
by which it is known in files too, and the arguments of torch that they are."""


def parameters_of(distribution: Any) -> DistributionParameters:
    """Parameters of an action distribution of SB3, sb3-contrib or the user's, one dictionary for each independent component.

    They are attached to the policy's graph. Of a squashed distribution they are those before squashing: a KL divergence does
    not change under an invertible map that both sides share. Neither does it matter here which dimensions are taken together.

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
    family = _family(part)
    if family is not None:
        return {name: getattr(part, argument) for name, argument in FAMILIES[family].items()}
    if isinstance(part, Independent):
        return _component(part.base_dist)
    if isinstance(part, TransformedDistribution) and _are_fixed_bijections(part.transforms):
        return _component(part.base_dist)
    supported = ", ".join(each.__name__ for each in FAMILIES)
    raise TypeError(
        f"no KL divergence for {type(part).__name__}, which curvature='fisher' and 'hessian' need for their trust region: "
        "curvature='identity' needs none, nor does n_reward_updates=0. Supported are torch's "
        f"{supported}, and these behind Independent or invertible transforms that the policy does not learn"
    )


def _family(part: Distribution) -> type[Distribution] | None:
    return next((base for base in type(part).__mro__ if base in FAMILIES), None)


def _are_fixed_bijections(transforms: Sequence[Any]) -> bool:
    """Whether transforms, and those within them, are invertible and the same whatever the policy's parameters are."""
    waiting, seen = list(transforms), set()
    while waiting:
        transform = waiting.pop()
        seen.add(id(transform))
        values = list(vars(transform).values())
        if not transform.bijective or any(isinstance(value, Tensor) and value.requires_grad for value in values):
            return False
        parts = [part for value in values for part in (value if isinstance(value, (list, tuple)) else [value])]
        waiting += [part for part in parts if isinstance(part, distributions.Transform) and id(part) not in seen]
    return True


def _distribution(component: dict[str, Tensor]) -> Distribution:
    family = next(each for each, names in FAMILIES.items() if names.keys() == component.keys())
    arguments = {FAMILIES[family][name]: value for name, value in component.items()}
    return family(**arguments, validate_args=False)  # type: ignore[arg-type]
