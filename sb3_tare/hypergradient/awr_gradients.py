"""Gradients and curvature of AWR's objective."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from sb3_tare.data.rollout import DistributionParameters
from sb3_tare.hypergradient.policy_gradients import Batch, PolicyGradients
from sb3_tare.policy.distributions import kl_divergence
from sb3_tare.policy.objectives import advantage_weights


class AdvantageWeightedGradients(PolicyGradients):
    """The objective of eq. 12, which has no KL term: its curvature is its own.

    ``"fisher"`` is its Gauss-Newton matrix, each step's Fisher matrix times the step's weight, positive semi-definite;
    ``"hessian"`` is minus its Hessian.
    """

    @property
    def needs_behaviour(self) -> bool:
        return False

    @property
    def curvature_needs_advantages(self) -> bool:
        return self.settings.curvature != "identity"

    def _loss(self, batch: Batch, log_probs: Tensor, actions: DistributionParameters) -> Tensor:
        return -self._value(log_probs, batch)

    def _divergence(self, batch: Batch, reference: DistributionParameters, actions: DistributionParameters) -> Tensor:
        keywords = self.objective.keywords  # type: ignore[attr-defined]  # those of the objective
        return kl_divergence(reference, actions, advantage_weights(batch.advantages, **keywords))

    def _updated_parameters(self) -> Iterable[Tensor]:
        """The actor's: the critic moves on before the next episodes validate the update."""
        return self.policy.actor_parameters()
