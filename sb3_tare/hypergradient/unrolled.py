"""The same weights of the reward gradient by differentiating through unrolled steps of policy optimisation.

What the implicit gradient replaces: time and memory grow with the number of steps. It serves as an oracle in tests and as
the other side of the benchmark in :mod:`sb3_tare.experiments.benchmarks.speed`.
"""

from __future__ import annotations

import torch

from sb3_tare.hypergradient.update import Estimate, PolicyUpdate


def unrolled_weights(update: PolicyUpdate, n_steps: int, learning_rate: float) -> Estimate:
    """Weights w of the hypergradient ``sum_t w_t dA_t/dphi`` through ``n_steps`` steps of gradient ascent.

    :param update: whose ``parameters`` are where the steps start, not where they arrive
    :param n_steps: on the whole batch
    :param learning_rate: of plain gradient ascent
    :return: ``[n]`` weights
    """
    current = [parameter.detach().clone().requires_grad_() for parameter in update.parameters]
    for _ in range(n_steps):
        gradients = torch.autograd.grad(update.training(current, update.advantages), current, create_graph=True)
        current = [parameter + learning_rate * gradient for parameter, gradient in zip(current, gradients, strict=True)]
    (weights,) = torch.autograd.grad(update.validation(current), update.advantages)
    return Estimate(weights)
