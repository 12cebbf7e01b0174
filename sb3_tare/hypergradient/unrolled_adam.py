"""Steps of Adam on mini-batches, unrolled: where they lead, as a function of the advantages that they follow.

What the curvatures of the implicit gradient stand for, without an approximation: every step of the host's whole update is in
the graph, clipping and both moments included. An oracle, for tests and for the benchmark of curvatures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sb3_tare.hypergradient.adam import CLIP_EPSILON

BatchLoss = Callable[[Sequence[Tensor], Tensor, Tensor], Tensor]
"""Function of parameters, advantages ``[n]`` of all steps, and the rows ``[m]`` of a mini-batch; returns a scalar."""


@dataclass(frozen=True)
class AdamState:
    """Moments of an Adam over ``p`` numbers, and its settings.

    :param first: ``[p]``, not bias-corrected, as torch keeps it
    :param second: ``[p]``, likewise
    :param count: steps taken so far
    :param max_norm: at which gradients are clipped before it
    """

    first: Tensor
    second: Tensor
    count: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_norm: float = float("inf")


def unrolled_adam(
    parameters: Sequence[Tensor], state: AdamState, loss: BatchLoss, advantages: Tensor, batches: Sequence[Tensor]
) -> tuple[list[Tensor], AdamState]:
    """Parameters and moments after a step of Adam down ``loss`` on each of ``batches``, differentiable in ``advantages``.

    :param parameters: where the steps start, ``p`` numbers in all
    :param state: of Adam, at the start
    :param advantages: ``[n]``
    :param batches: rows ``[m]`` of each step, in their order
    """
    sizes = [parameter.numel() for parameter in parameters]
    theta = torch.cat([parameter.detach().reshape(-1) for parameter in parameters]).requires_grad_()

    def parts() -> list[Tensor]:
        split = theta.split(sizes)
        return [part.view_as(parameter) for part, parameter in zip(split, parameters, strict=True)]

    first, second, count = state.first, state.second, state.count
    (beta1, beta2), eps = state.betas, state.eps
    for rows in batches:
        current, count = parts(), count + 1
        gradients = torch.autograd.grad(loss(current, advantages, rows), current, create_graph=True)
        gradient = _clipped(torch.cat([each.reshape(-1) for each in gradients]), state.max_norm)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient.square()
        root = _root(second) / (1 - beta2**count) ** 0.5
        theta = theta - state.learning_rate / (1 - beta1**count) * first / (root + eps)
    arrived = AdamState(first, second, count, state.learning_rate, state.betas, eps, state.max_norm)
    return parts(), arrived


def _clipped(gradient: Tensor, max_norm: float) -> Tensor:
    """The gradient ``[p]`` as ``torch.nn.utils.clip_grad_norm_`` leaves it."""
    return gradient * (max_norm / (gradient.norm() + CLIP_EPSILON)).clamp(max=1.0)


def _root(second: Tensor) -> Tensor:
    """Root of ``[p]``, which has no derivative at zero; there the gradient was always zero, and takes no part."""
    is_zero = second == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, second).sqrt())
