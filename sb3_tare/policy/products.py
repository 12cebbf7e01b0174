"""Gradients as vectors, and products of curvature matrices with vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LinearMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Diagonal:
    """The map ``v -> diagonal * v`` on ``[p]`` vectors, which can be inverted without a search.

    :param diagonal: ``[p]``, without a zero
    """

    diagonal: Tensor

    def __call__(self, vector: Tensor) -> Tensor:
        """The map itself, of ``[p]``."""
        return self.diagonal * vector

    def solve(self, target: Tensor) -> Tensor:
        """The x ``[p]`` that the map takes to ``target``, ``[p]``."""
        return target / self.diagonal


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
