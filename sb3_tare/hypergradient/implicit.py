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
from sb3_tare.hypergradient.update import Estimate, PolicyUpdate
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.policy.products import LinearMap, flat_gradient


def reward_weights(
    gradients: PolicyGradients, training: Batch, validation: Batch, curved: Batch, cg_steps: int = 10
) -> Estimate:
    """Weights of the hypergradient through the update that has left a host's policy where it stands.

    :param gradients: of the host
    :param training: steps and the parameterised advantages that the policy was trained on
    :param validation: held-out steps and their extrinsic advantages
    :param curved: where the curvature is measured, with parameterised advantages if it needs any
    :param cg_steps: at most
    :return: ``[n]`` weights, and the solution of ``C x = g``
    """
    parameters, gradient = gradients.ascent(validation)
    solution = _solution(gradients.curvature_product(curved, parameters), gradient, cg_steps)
    weights = [
        share * _weights_along(solution.x, PolicyUpdate.of(gradients, chunk, validation, parameters))
        for chunk, share in gradients.chunks(training)
    ]
    return Estimate(torch.cat(weights), solution)


def implicit_weights(update: PolicyUpdate, curvature: LinearMap | None, cg_steps: int = 10) -> Estimate:
    """Weights w of the hypergradient ``sum_t w_t dA_t/dphi`` (Proposition 1).

    :param update: of the policy
    :param curvature: product with the damped C at the updated policy, or None for the identity (one step of gradient ascent)
    :param cg_steps: at most
    :return: ``[n]`` weights, and the solution of ``C x = g``
    """
    solution = _solution(curvature, flat_gradient(update.validation(update.parameters), update.parameters), cg_steps)
    return Estimate(_weights_along(solution.x, update), solution)


def _solution(curvature: LinearMap | None, gradient: Tensor, cg_steps: int) -> Solution:
    return conjugate_gradient(curvature, gradient, cg_steps) if curvature else Solution(gradient, 0.0, 0, False)


def _weights_along(x: Tensor, update: PolicyUpdate) -> Tensor:
    training = update.training(update.parameters, update.advantages)
    return mixed_product(training, update.advantages, update.parameters, x)


def mixed_product(objective: Tensor, advantages: Tensor, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Weights ``w = d(x' dJ/dtheta)/dA``, ``[n]``: the change of dJ/dA along x, by two reverse passes.

    :param objective: scalar J, a function of ``advantages`` and ``parameters``
    :param advantages: ``[n]`` leaf that requires a gradient
    :param parameters: the policy's, ``p`` numbers in all
    :param x: ``[p]``
    """
    gradient = flat_gradient(objective, parameters, create_graph=True)
    (weights,) = torch.autograd.grad(gradient @ x, advantages)
    return weights
