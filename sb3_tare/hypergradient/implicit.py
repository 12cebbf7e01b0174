"""The implicit reward gradient (Theorem 1, Proposition 1) in three moves: curvature product, solve, mixed product.

With g the gradient of the extrinsic objective on validation episodes, C the damped curvature and M the mixed partial of
the training objective, the hypergradient is ``x' M`` with ``C x = g``. As the reward enters the training objective only
through its advantages A, ``x' M = sum_t w_t dA_t/dphi`` with ``w = d(x' dJ/dtheta)/dA``. The weights w take two reverse
passes through the policy and none through the reward network, which is then differentiated once, as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sb3_tare.hypergradient.conjugate_gradient import Solution, conjugate_gradient
from sb3_tare.hypergradient.update import Estimate, PolicyUpdate
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.policy.products import Diagonal, LinearMap, flat_gradient


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
    if curved.steps is validation.steps and gradients.is_one_chunk(validation):  # one pass through the policy serves both
        held_out = gradients.evaluate(validation)
        parameters = gradients.actor_parameters(held_out.value)
        evaluated = replace(held_out, advantages=curved.advantages)
        curvature = gradients.curvature.product(evaluated, parameters, gradients.host.optimiser)
        gradient = flat_gradient(held_out.value, parameters)
    else:
        parameters, gradient = gradients.ascent(validation)
        curvature = gradients.curvature_product(curved, parameters)
    solution = solved(curvature, gradient, cg_steps)
    weights = [
        share * mixed_weights(PolicyUpdate.of(gradients, chunk, validation, parameters), parameters, solution.x)
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
    parameters = update.parameters
    solution = solved(curvature, flat_gradient(update.validation(parameters), parameters), cg_steps)
    return Estimate(mixed_weights(update, parameters, solution.x), solution)


def mixed_weights(update: PolicyUpdate, parameters: Sequence[Tensor], x: Tensor) -> Tensor:
    """Weights ``w = d(x' dJ/dtheta)/dA``, ``[n]``, of the training objective at ``parameters``.

    :param parameters: the policy's, ``p`` numbers in all
    :param x: ``[p]``
    """
    if not update.is_twice_differentiable:
        return mixed_product_by_differences(update.training, update.advantages, parameters, x)
    return mixed_product(update.training(parameters, update.advantages), update.advantages, parameters, x)


def solved(curvature: LinearMap | None, target: Tensor, cg_steps: int) -> Solution:
    """The solution of ``C x = target``: exact where C is diagonal or the identity, else by conjugate gradient.

    :param curvature: product with C, or None for the identity
    :param target: ``[p]``
    :param cg_steps: at most
    """
    if curvature is None:
        return Solution(target, 0.0, 0, False)
    if isinstance(curvature, Diagonal):
        return Solution(curvature.solve(target), 0.0, 0, False)
    return conjugate_gradient(curvature, target, cg_steps)


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


def mixed_product_by_differences(
    objective: Callable[[Sequence[Tensor], Tensor], Tensor], advantages: Tensor, parameters: Sequence[Tensor], x: Tensor
) -> Tensor:
    """Weights as of :func:`mixed_product`, from dJ/dA on both sides of the parameters: no second derivative is taken.

    The step is that at which the error of central differences is least, as far as it is known.

    :param objective: J, a scalar function of parameters and advantages
    :param advantages: ``[n]`` leaf that requires a gradient
    :param parameters: ``p`` numbers in all
    :param x: ``[p]``
    """
    length = torch.linalg.vector_norm(x)
    if length == 0.0:
        return torch.zeros_like(advantages)
    size = torch.linalg.vector_norm(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    step = torch.finfo(x.dtype).eps ** (1 / 3) * (1.0 + size) / length
    parts = x.split([parameter.numel() for parameter in parameters])
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            moved = [each + sign * step * part.view_as(each) for each, part in zip(parameters, parts, strict=True)]
        (side,) = torch.autograd.grad(objective(moved, advantages), advantages)
        sides.append(side)
    return (sides[0] - sides[1]) / (2.0 * step)
