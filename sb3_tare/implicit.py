"""The implicit reward gradient (Theorem 1, Proposition 1) in three moves: curvature product, solve, mixed product.

With g the gradient of the extrinsic objective on validation episodes, C the damped curvature and M the mixed partial of
the training objective, the hypergradient is ``x' M`` with ``C x = g``. As the reward enters the training objective only
through its advantages A, ``x' M = sum_t w_t dA_t/dphi`` with ``w = d(x' dJ/dtheta)/dA``. The weights w take two reverse
passes through the policy and none through the reward network, which is then differentiated once, as usual.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LinearMap = Callable[[Tensor], Tensor]


class Solution(NamedTuple):
    """What :func:`conjugate_gradient` found, and how it went."""

    x: Tensor
    """``[p]`` finite whenever the right-hand side is"""
    residual: float
    """``|b - C x| / |b|``, zero for ``b = 0``, infinite where C gave something that is not finite"""
    steps: int
    """Products with C that entered ``x``"""
    negative_curvature: bool
    """True if a direction of non-positive curvature ended the search"""


def flat_gradient(objective: Tensor, parameters: Sequence[Tensor], create_graph: bool = False) -> Tensor:
    """Gradient ``[p]`` of a scalar, without touching any ``.grad``; the objective's graph is kept for further calls."""
    gradients = torch.autograd.grad(
        objective, parameters, create_graph=create_graph, retain_graph=True, materialize_grads=True
    )
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def hessian_product(objective: Tensor, parameters: Sequence[Tensor], damping: float = 0.0) -> LinearMap:
    """The map ``v -> (d2 objective / d parameters2 + damping) v`` on ``[p]`` vectors.

    The gradient's graph is built once and kept: reverse over reverse beats ``torch.func`` on policies of SB3's sizes.
    """
    gradient = flat_gradient(objective, parameters, create_graph=True)
    if not gradient.requires_grad:  # the objective is linear
        return lambda vector: damping * vector
    return lambda vector: flat_gradient(gradient @ vector, parameters) + damping * vector


def gauss_newton_product(
    loss: Callable[[list[Tensor]], Tensor], outputs: Sequence[Tensor], parameters: Sequence[Tensor], damping: float = 0.0
) -> LinearMap:
    """The map ``v -> (J' H J + damping) v``, J the Jacobian of ``outputs`` and H the Hessian of ``loss`` in them.

    With a KL divergence from the outputs' own distribution it is the product with the Fisher matrix. ``J v`` is the
    derivative of ``J' u`` in a dummy cotangent u. Cheaper than :func:`hessian_product`, and positive semi-definite wherever
    H is.

    :param loss: scalar function of tensors shaped as ``outputs``
    """
    leaves = [output.detach().clone().requires_grad_() for output in outputs]
    loss_gradient = torch.autograd.grad(loss(leaves), leaves, create_graph=True)
    cotangents = [torch.zeros_like(output, requires_grad=True) for output in outputs]
    pulled_back = torch.autograd.grad(outputs, parameters, cotangents, create_graph=True, materialize_grads=True)
    sizes = [parameter.numel() for parameter in parameters]

    def product(vector: Tensor) -> Tensor:
        tangents = [part.view_as(parameter) for part, parameter in zip(vector.split(sizes), parameters, strict=True)]
        pushed = torch.autograd.grad(pulled_back, cotangents, tangents, retain_graph=True, materialize_grads=True)
        curved = torch.autograd.grad(loss_gradient, leaves, pushed, retain_graph=True, materialize_grads=True)
        pulled = torch.autograd.grad(outputs, parameters, curved, retain_graph=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in pulled]) + damping * vector

    return product


def conjugate_gradient(product: LinearMap, target: Tensor, max_steps: int = 10, tolerance: float = 1e-10) -> Solution:
    """Solve ``C x = target`` for symmetric C from ``x = 0`` (Hestenes & Stiefel, 1952).

    A direction p with ``p' C p <= 0``, or too small or large to divide by, ends the search: the iterate so far is returned,
    and ``target`` itself in the first step, where it is still an ascent direction. Positive definite C never gets there.

    :param target: ``[p]``, finite
    :param tolerance: relative residual at which to stop early
    """
    b = target.double()  # its squares would leave the range of single precision
    x, residual, direction = torch.zeros_like(b), b, b
    norm = target_norm = float(b @ b)
    for step in range(max_steps):
        if norm <= tolerance**2 * target_norm:
            return Solution(x.to(target), _relative(norm, target_norm), step, False)
        image = product(direction.to(target)).double()
        curvature = float(direction @ image)
        moved = x + norm / curvature * direction if 0.0 < curvature < math.inf else None
        if moved is None or not torch.isfinite(moved.to(target)).all():
            if step > 0:
                return Solution(x.to(target), _relative(norm, target_norm), step, True)
            remainder = float((b - image).square().sum())
            return Solution(target.clone(), _relative(remainder, target_norm), 0, True)
        residual = residual - norm / curvature * image
        previous_norm, norm = norm, float(residual @ residual)
        x, direction = moved, residual + norm / previous_norm * direction
    return Solution(x.to(target), _relative(norm, target_norm), max_steps, False)


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


def _relative(norm: float, target_norm: float) -> float:
    """Relative residual of squared norms; infinite where the product itself was not finite."""
    ratio = norm / target_norm if target_norm > 0.0 else 0.0
    return math.sqrt(ratio) if math.isfinite(ratio) else math.inf
