"""The same weights of the reward gradient by differentiating through unrolled steps of policy optimisation.

What the implicit gradient replaces: time and memory grow with the number of steps. It serves as an oracle in tests and as
the other side of the benchmark in :mod:`sb3_tare.experiments.benchmarks.speed`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def unrolled_weights(
    training_objective: Callable[[Sequence[Tensor], Tensor], Tensor],
    validation_objective: Callable[[Sequence[Tensor]], Tensor],
    parameters: Sequence[Tensor],
    advantages: Tensor,
    n_steps: int,
    learning_rate: float,
) -> Tensor:
    """Weights w ``[n]`` of the hypergradient ``sum_t w_t dA_t/dphi`` through ``n_steps`` steps of gradient ascent.

    :param training_objective: scalar function of the policy's parameters and ``advantages``
    :param validation_objective: scalar function of the parameters that the steps arrive at
    :param parameters: where they start
    :param advantages: ``[n]``
    """
    advantages = advantages.detach().requires_grad_()
    current = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    for _ in range(n_steps):
        gradients = torch.autograd.grad(training_objective(current, advantages), current, create_graph=True)
        current = [parameter + learning_rate * gradient for parameter, gradient in zip(current, gradients, strict=True)]
    (weights,) = torch.autograd.grad(validation_objective(current), advantages)
    return weights
