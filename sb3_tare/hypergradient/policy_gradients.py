"""Gradients of a host's objective in its actor's parameters, and from them the weights of the reward's gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sb3_tare.advantages.generalised import standardise
from sb3_tare.data.rollout import DistributionParameters, Rollout
from sb3_tare.hypergradient.conjugate_gradient import Solution
from sb3_tare.hypergradient.implicit import implicit_weights
from sb3_tare.policy.distributions import detached, kl_divergence, parameters_of
from sb3_tare.policy.objectives import Objective
from sb3_tare.policy.products import LinearMap, flat_gradient, gauss_newton_product, hessian_product
from sb3_tare.settings import RewardSettings


class Batch(NamedTuple):
    """Steps and the advantages ``[n]`` they are given."""

    rollout: Rollout
    advantages: Tensor


class PolicyGradients:
    """Reads the policy through its public ``get_distribution`` and leaves its gradients, modes and generators alone.

    :param policy: the host's
    :param objective: the host's
    :param standardises: whether the host standardises its advantages
    :param settings: curvature and conjugate gradient
    """

    def __init__(self, policy: Any, objective: Objective, standardises: bool, settings: RewardSettings) -> None:
        self.policy = policy
        self.objective = objective
        self.standardises = standardises
        self.settings = settings
        self._actor_names: dict[tuple[str, ...], list[str]] = {}

    def prepared(self, advantages: Tensor) -> Tensor:
        """Advantages as they enter the host's objective; over the whole part, not by mini-batch."""
        return standardise(advantages) if self.standardises else advantages

    def gradient(self, batch: Batch) -> Tensor:
        """Ascent direction ``[p]`` of the objective in the actor's parameters."""
        with evaluation_mode(self.policy):
            objective = self._objective(batch)
            return flat_gradient(objective, self._actor_parameters(objective)).detach()

    @property
    def needs_behaviour(self) -> bool:
        """Whether the curvature needs the action distributions of the policy that acted."""
        return self.settings.curvature == "hessian"

    @property
    def curvature_needs_advantages(self) -> bool:
        """Whether the curvature depends on the advantages that the policy is trained on."""
        return self.settings.curvature == "hessian"

    def behaviour(self, rollout: Rollout) -> DistributionParameters:
        """Action distributions of the policy as it is now, for the KL term of eq. 3."""
        with evaluation_mode(self.policy), torch.no_grad():
            return detached(parameters_of(self._evaluate(rollout)[1]))

    def signature(self) -> Tensor:
        """``[2]`` sum and norm of the policy's parameters, by which another policy can be told from this one."""
        vector = torch.cat([parameter.detach().double().reshape(-1) for parameter in self._updated_parameters()])
        return torch.stack([vector.sum(), vector.norm()]).cpu()

    def _updated_parameters(self) -> Iterable[Tensor]:
        """Those that nothing but the host's policy update changes."""
        return self.policy.parameters()

    def reward_weights(self, training: Batch, validation: Batch, curved: Batch) -> tuple[Tensor, Solution]:
        """Weights w ``[n]`` of the hypergradient ``sum_t w_t dA_t/dphi`` over the training steps.

        :param training: with parameterised advantages, prepared
        :param validation: with extrinsic advantages, prepared
        :param curved: where the curvature is measured, with parameterised advantages, prepared
        """
        with evaluation_mode(self.policy):
            advantages = training.advantages.detach().requires_grad_()
            validation_objective = self._objective(validation)
            parameters = self._actor_parameters(validation_objective)
            return implicit_weights(
                validation_objective,
                self._objective(Batch(training.rollout, advantages)),
                advantages,
                parameters,
                self._curvature(curved, parameters),
                self.settings.cg_steps,
            )

    def _curvature(self, batch: Batch, parameters: Sequence[Tensor]) -> LinearMap | None:
        if self.settings.curvature == "identity":
            return None
        log_probs, distribution = self._evaluate(batch.rollout)
        actions = parameters_of(distribution)
        if self.settings.curvature == "fisher":
            return self._fisher(batch, actions, parameters)
        return hessian_product(self._loss(batch, log_probs, actions), parameters, self.settings.damping)

    def _loss(self, batch: Batch, log_probs: Tensor, actions: DistributionParameters) -> Tensor:
        """Minus the objective of eq. 11, KL term included."""
        assert batch.rollout.behaviour is not None
        divergence = kl_divergence(batch.rollout.behaviour, actions)
        return self.settings.kl_coef * divergence - self._value(log_probs, batch)

    def _divergence(self, batch: Batch, reference: DistributionParameters, actions: DistributionParameters) -> Tensor:
        """That whose Hessian at the reference is the curvature ``"fisher"``."""
        return self.settings.kl_coef * kl_divergence(reference, actions)

    def _fisher(self, batch: Batch, actions: DistributionParameters, parameters: Sequence[Tensor]) -> LinearMap:
        """Hessian of the KL term at theta' itself: the Fisher matrix, which is positive semi-definite."""
        reference = detached(actions)
        places = [(k, name) for k, component in enumerate(actions) for name in component if component[name].requires_grad]

        def divergence(outputs: list[Tensor]) -> Tensor:
            moved = [dict(component) for component in reference]
            for (k, name), output in zip(places, outputs, strict=True):
                moved[k][name] = output
            return self._divergence(batch, reference, moved)

        outputs = [actions[k][name] for k, name in places]
        return gauss_newton_product(divergence, outputs, parameters, self.settings.damping)

    def _objective(self, batch: Batch) -> Tensor:
        return self._value(self._evaluate(batch.rollout)[0], batch)

    def _value(self, log_probs: Tensor, batch: Batch) -> Tensor:
        return self.objective(log_probs, batch.rollout.old_log_probs, batch.advantages)

    def _evaluate(self, rollout: Rollout) -> tuple[Tensor, Any]:
        masks = {} if rollout.action_masks is None else {"action_masks": rollout.action_masks}
        distribution = self.policy.get_distribution(rollout.observations, **masks)
        return distribution.log_prob(rollout.actions), distribution

    def _actor_parameters(self, objective: Tensor) -> list[Tensor]:
        """Those that the objective depends on; the critic's are none of them."""
        trainable = {name: parameter for name, parameter in self.policy.named_parameters() if parameter.requires_grad}
        if tuple(trainable) not in self._actor_names:  # it depends on the same of them every time
            gradients = torch.autograd.grad(objective, list(trainable.values()), retain_graph=True, allow_unused=True)
            excluded = ("log_std",) if self.settings.actor_parameters == "without_log_std" else ()
            used = [name for name, gradient in zip(trainable, gradients, strict=True) if gradient is not None]
            self._actor_names[tuple(trainable)] = [name for name in used if name not in excluded]
        return [trainable[name] for name in self._actor_names[tuple(trainable)]]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Batch-norm statistics and dropout at rest; each submodule's mode is given back at the end."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training
