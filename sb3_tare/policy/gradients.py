"""Objective, gradient and curvature of a host's policy, as it is now, on batches of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sb3_tare.data.rollout import DistributionParameters, PolicySteps
from sb3_tare.policy.curvature import Curvature, Evaluated
from sb3_tare.policy.derivatives import Derivatives, derivatives_of, own_distribution, probed_steps, resting
from sb3_tare.policy.distributions import detached
from sb3_tare.policy.objectives import HostObjective
from sb3_tare.policy.products import LinearMap, flat_gradient
from sb3_tare.utils.nested import concatenated, take


class PolicyHost(Protocol):
    """The attributes of a host that policy gradients are computed from, read anew each time."""

    @property
    def policy(self) -> Any:
        """Its policy: anything with SB3's ``get_distribution``."""

    @property
    def objective(self) -> HostObjective:
        """The objective that it maximises."""

    @property
    def optimiser(self) -> Optimizer | None:
        """The optimiser that moves its actor's parameters; None if something else does."""


class Batch(NamedTuple):
    """Steps and the advantages ``[n]`` they are given, as they enter the host's objective."""

    steps: PolicySteps
    advantages: Tensor

    def take(self, rows: Tensor) -> Batch:
        """The given ``[m]`` rows, in their order."""
        return Batch(self.steps.take(rows), take(self.advantages, rows))


class PolicyGradients:
    """Reads the policy through its public ``get_distribution`` and leaves its gradients, modes and generators alone.

    :param host: whose policy and objective are looked at
    :param curvature: of the objective
    :param excluded: names of parameters that do not enter gradients
    :param chunk_rows: steps of a batch that gradients are taken on at a time, which bounds memory; None: all of them
    """

    def __init__(
        self, host: PolicyHost, curvature: Curvature, excluded: Sequence[str] = (), chunk_rows: int | None = None
    ) -> None:
        self.host = host
        self.curvature = curvature
        self.excluded = excluded
        self.chunk_rows = chunk_rows
        self._actor_names: dict[tuple[str, ...], list[str]] = {}
        self._derivatives: dict[tuple[type[nn.Module], ...], Derivatives] = {}

    @property
    def derivatives(self) -> Derivatives:
        """The way in which the policy is differentiated, tried once for each that has other layers."""
        layers = tuple(type(module) for module in self.host.policy.modules())
        if layers not in self._derivatives:
            self._derivatives[layers] = derivatives_of(self.host.policy)
        return self._derivatives[layers]

    def probe(self) -> Batch:
        """A batch of a few steps that nobody has taken, to try on what gradients can be taken of the policy."""
        steps = probed_steps(self.host.policy)
        batch = Batch(steps, torch.linspace(-1.0, 1.0, len(steps), device=steps.actions.device))
        return batch._replace(steps=replace(steps, behaviour=self.behaviour(steps)))

    def evaluate(self, batch: Batch, parameters: Sequence[Tensor] = (), own: Sequence[Tensor] = ()) -> Evaluated:
        """Evaluate the policy on a batch.

        :param parameters: tensors that stand in place of the policy's ``own`` ones meanwhile
        """
        steps = batch.steps
        policy, kernels = self.host.policy, self.derivatives.kernels
        with resting(policy), own_distribution(policy), kernels(), replaced(policy, own, parameters):
            distribution = copy(_distribution(policy, steps))
            log_probs = distribution.log_prob(steps.actions)
        return Evaluated(self.host.objective, log_probs, distribution, batch.advantages, steps.old_log_probs, steps.behaviour)

    def gradient(self, batch: Batch) -> Tensor:
        """Ascent direction ``[p]`` of the objective in the actor's parameters."""
        return self.ascent(batch)[1]

    def ascent(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """The actor's parameters, and the direction ``[p]`` in which the objective of ``batch`` ascends in them."""
        parameters, (gradient,) = self._ascents(batch.steps, [batch.advantages])
        return parameters, gradient

    def gradients(self, steps: PolicySteps, choices: Sequence[Tensor]) -> list[Tensor]:
        """Ascent direction ``[p]`` for each choice of advantages ``[n]``, by one pass of the steps through the policy."""
        return self._ascents(steps, choices)[1]

    def _ascents(self, steps: PolicySteps, choices: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        totals: list[Tensor] = []
        chunks = zip(*(self.chunks(Batch(steps, advantages)) for advantages in choices), strict=True)
        for alike in chunks:  # the same steps with each choice of advantages
            evaluated, share = self.evaluate(alike[0][0]), alike[0][1]
            objectives = [replace(evaluated, advantages=batch.advantages).value for batch, _ in alike]
            parameters = self.actor_parameters(objectives[0])
            gradients = [share * flat_gradient(objective, parameters).detach() for objective in objectives]
            totals = [total + gradient for total, gradient in zip(totals, gradients, strict=True)] if totals else gradients
        return parameters, totals

    def is_one_chunk(self, batch: Batch) -> bool:
        """Whether gradients are taken on all steps of a batch at once."""
        return self.chunk_rows is None or len(batch.steps) <= self.chunk_rows

    def chunks(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """Yield ``chunk_rows`` steps of a batch at a time, with their share of it: objectives are means over steps."""
        n = len(batch.steps)
        if self.is_one_chunk(batch):
            yield batch, 1.0
            return
        for rows in torch.arange(n).split(self.chunk_rows):  # type: ignore[arg-type]
            yield batch.take(rows), len(rows) / n

    def behaviour(self, steps: PolicySteps) -> DistributionParameters | None:
        """Action distributions of the policy as it is now, for the KL term of eq. 3; None where no curvature needs them."""
        if not self.curvature.needs_behaviour(self.host.objective):
            return None
        with torch.no_grad():
            chunks = self.chunks(Batch(steps, torch.zeros(len(steps))))
            return concatenated([detached(self.evaluate(chunk).actions) for chunk, _ in chunks])

    def curvature_product(self, batch: Batch, parameters: Sequence[Tensor]) -> LinearMap | None:
        """The map ``v -> C v`` on ``[p]`` vectors, measured on ``batch``; None for the identity."""
        return self.curvature.product(self.evaluate(batch), parameters, self.host.optimiser)

    def actor_parameters(self, objective: Tensor) -> list[Tensor]:
        """The policy's parameters that ``objective``, a scalar, depends on, but for the excluded ones.

        The critic's are none of them. They have ``p`` numbers in all.
        """
        trainable = {name: parameter for name, parameter in self.host.policy.named_parameters() if parameter.requires_grad}
        if tuple(trainable) not in self._actor_names:  # it depends on the same of them every time
            gradients = torch.autograd.grad(objective, list(trainable.values()), retain_graph=True, allow_unused=True)
            used = [name for name, gradient in zip(trainable, gradients, strict=True) if gradient is not None]
            self._actor_names[tuple(trainable)] = [name for name in used if name not in self.excluded]
        return [trainable[name] for name in self._actor_names[tuple(trainable)]]


def _distribution(policy: Any, steps: PolicySteps) -> Any:
    """Action distribution of the policy; where there are features, as SB3's ``get_distribution`` goes on from them."""
    masks = steps.action_masks
    if steps.features is None:
        return policy.get_distribution(steps.observations, **({} if masks is None else {"action_masks": masks}))
    distribution = policy._get_action_dist_from_latent(policy.mlp_extractor.forward_actor(steps.features))
    if masks is not None:
        distribution.apply_masking(masks)
    return distribution


@contextmanager
def replaced(module: nn.Module, own: Sequence[Tensor], others: Sequence[Tensor]) -> Iterator[None]:
    """Let ``others`` stand in place of the ``own`` parameters of ``module``, wherever they are registered."""
    instead = {id(parameter): other for parameter, other in zip(own, others, strict=True) if parameter is not other}
    places = [
        (submodule, name, parameter)
        for submodule in (module.modules() if instead else ())
        for name, parameter in submodule._parameters.items()
        if id(parameter) in instead
    ]
    try:
        for submodule, name, parameter in places:
            submodule._parameters[name] = instead[id(parameter)]  # type: ignore[assignment]
        yield
    finally:
        for submodule, name, parameter in places:
            submodule._parameters[name] = parameter
