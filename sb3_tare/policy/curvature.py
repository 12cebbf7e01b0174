"""The curvature C of a host's objective in its actor's parameters: choices behind one interface.

The implicit gradient needs products with C alone. Each class is built with the coefficient of the KL term and the damping.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from sb3_tare.data.rollout import DistributionParameters
from sb3_tare.policy.adam_diagonal import adam_diagonal
from sb3_tare.policy.distributions import detached, kl_divergence, parameters_of
from sb3_tare.policy.objectives import HostObjective
from sb3_tare.policy.products import Diagonal, LinearMap, gauss_newton_product, hessian_product


@dataclass(frozen=True)
class Evaluated:
    """A batch of ``n`` steps as the policy sees it now.

    :param objective: the host's
    :param log_probs: ``[n]``, functions of the policy's parameters
    :param distribution: of actions, one of SB3's or sb3-contrib's
    :param advantages: ``[n]`` as they enter the objective
    :param old_log_probs: ``[n]`` under the policy that acted, or None
    :param behaviour: action distributions of the policy that acted, where the curvature needs them
    """

    objective: HostObjective
    log_probs: Tensor
    distribution: Any
    advantages: Tensor
    old_log_probs: Tensor | None
    behaviour: DistributionParameters | None

    @property
    def value(self) -> Tensor:
        """J of the batch, a scalar."""
        return self.objective.value(self.log_probs, self.old_log_probs, self.advantages)

    @cached_property
    def actions(self) -> DistributionParameters:
        """Parameters of the action distributions, functions of the policy's parameters."""
        return parameters_of(self.distribution)


@dataclass(frozen=True)
class Curvature(ABC):
    """The damped curvature C of a host's objective, known by its products.

    :param kl_coef: coefficient beta of the KL term (eq. 3)
    :param damping: added to the diagonal
    """

    kl_coef: float = 1.0
    damping: float = 0.1

    def needs_behaviour(self, objective: HostObjective) -> bool:
        """Whether it needs the action distributions of the policy that acted."""
        return False

    @abstractmethod
    def needs_advantages(self, objective: HostObjective) -> bool:
        """Whether it depends on the advantages that the policy is trained on."""

    @abstractmethod
    def product(self, batch: Evaluated, parameters: Sequence[Tensor], optimiser: Optimizer | None = None) -> LinearMap | None:
        """The map ``v -> C v`` on ``[p]`` vectors; None stands for the identity.

        :param batch: where it is measured
        :param parameters: the actor's, ``p`` numbers in all
        :param optimiser: that moves them, if any does
        """


class Identity(Curvature):
    """No curvature: x = g, one step of gradient ascent."""

    def needs_advantages(self, objective: HostObjective) -> bool:
        """False: the identity depends on nothing."""
        return False

    def product(self, batch: Evaluated, parameters: Sequence[Tensor], optimiser: Optimizer | None = None) -> None:
        """None, which stands for the identity."""


class Fisher(Curvature):
    """The Hessian of the KL term at the updated policy itself, which is positive semi-definite.

    For an objective that weights its steps, as AWR's, it is the Gauss-Newton matrix: each step's Fisher matrix times its
    weight.
    """

    def needs_advantages(self, objective: HostObjective) -> bool:
        """Whether advantages weight the steps."""
        return objective.weights is not None

    def product(self, batch: Evaluated, parameters: Sequence[Tensor], optimiser: Optimizer | None = None) -> LinearMap:
        """The Gauss-Newton product through the parameters of the action distributions."""
        reference = detached(batch.actions)
        places = [(k, name) for k, part in enumerate(batch.actions) for name in part if part[name].requires_grad]
        weights = None if batch.objective.weights is None else batch.objective.weights(batch.advantages)

        def divergence(outputs: list[Tensor]) -> Tensor:
            moved = [dict(component) for component in reference]
            for (k, name), output in zip(places, outputs, strict=True):
                moved[k][name] = output
            return self.kl_coef * kl_divergence(reference, moved, weights)

        outputs = [batch.actions[k][name] for k, name in places]
        return gauss_newton_product(divergence, outputs, parameters, self.damping)


class Hessian(Curvature):
    """Minus the Hessian of the whole objective, of eq. 11 with its KL term or of eq. 12 without."""

    def needs_behaviour(self, objective: HostObjective) -> bool:
        """Whether the objective has a KL term."""
        return objective.has_kl_term

    def needs_advantages(self, objective: HostObjective) -> bool:
        """True: the objective depends on them."""
        return True

    def product(self, batch: Evaluated, parameters: Sequence[Tensor], optimiser: Optimizer | None = None) -> LinearMap:
        """The Hessian's product, by reverse over reverse through the objective."""
        loss = -batch.value
        if batch.objective.has_kl_term:
            assert batch.behaviour is not None
            loss = self.kl_coef * kl_divergence(batch.behaviour, batch.actions) + loss
        return hessian_product(loss, parameters, self.damping)


class AdamDiagonal(Curvature):
    """The diagonal by which the host's own Adam divides its steps, read after the policy's update, over its mean.

    It is undamped, as Adam's epsilon has damped it.
    """

    def needs_advantages(self, objective: HostObjective) -> bool:
        """False: it is measured on no batch."""
        return False

    def product(self, batch: Evaluated, parameters: Sequence[Tensor], optimiser: Optimizer | None = None) -> Diagonal:
        """The diagonal, which is solved exactly."""
        return Diagonal(adam_diagonal(optimiser, parameters))


CURVATURES: dict[str, type[Curvature]] = {"fisher": Fisher, "hessian": Hessian, "identity": Identity, "adam": AdamDiagonal}
"""The choices of the setting ``curvature``; a further one is a class and a line here."""
