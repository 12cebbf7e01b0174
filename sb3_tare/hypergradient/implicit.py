"""The implicit reward gradient (Theorem 1, Proposition 1) in three moves: curvature product, solve, mixed product.

With g the gradient of the extrinsic objective on validation episodes, C the damped curvature and M the mixed partial of
the training objective, the hypergradient is ``x' M`` with ``C x = g``. As the reward enters the training objective only
through its advantages A, ``x' M = sum_t w_t dA_t/dphi`` with ``w = d(x' dJ/dtheta)/dA``. The weights w take two reverse
passes through the policy and none through the reward network, which is then differentiated once, as usual.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sb3_tare.hypergradient.conjugate_gradient import Solution, conjugate_gradient
from sb3_tare.policy.products import LinearMap, flat_gradient


def implicit_weights(
    validation_objective: Tensor,
    training_objective: Tensor,
    advantages: Tensor,
    parameters: Sequence[Tensor],
    curvature: LinearMap | None,
    cg_steps: int = 10,
) -> tuple[Tensor, Solution]:
    """Weights w of the hypergradient ``sum_t w_t dA_t/dphi`` (Proposition 1).

    :param validation_objective: scalar, extrinsic J on validation episodes
    :param training_objective: scalar, J on training episodes, a function of ``advantages`` and ``parameters``
    :param advantages: ``[n]`` leaf that requires a gradient
    :param parameters: the actor's
    :param curvature: product with the damped C, or None for the identity (one step of gradient ascent)
    :return: ``[n]`` weights, and the solution of ``C x = g``
    """
    gradient = flat_gradient(validation_objective, parameters)
    solution = conjugate_gradient(curvature, gradient, cg_steps) if curvature else Solution(gradient, 0.0, 0, False)
    return mixed_product(training_objective, advantages, parameters, solution.x), solution


def mixed_product(objective: Tensor, advantages: Tensor, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Weights ``w = d(x' dJ/dtheta)/dA``, ``[n]``: the change of dJ/dA along x, by two reverse passes.

    :param objective: scalar J, a function of ``advantages`` and ``parameters``
    :param advantages: ``[n]`` leaf that requires a gradient
    :param x: ``[p]``
    """
    gradient = flat_gradient(objective, parameters, create_graph=True)
    (weights,) = torch.autograd.grad(gradient @ x, advantages)
    return weights
