"""Linear systems of a curvature that is known by its products alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_tare.policy.products import LinearMap


class Solution(NamedTuple):
    """The solution that :func:`conjugate_gradient` found, and how it got there."""

    x: Tensor
    """``[p]`` finite whenever the right-hand side is"""
    residual: float
    """``|b - C x| / |b|``, zero for ``b = 0``, infinite where C gave something that is not finite"""
    steps: int
    """Products with C that entered ``x``"""
    negative_curvature: bool
    """True if a direction of non-positive curvature ended the search"""


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


def _relative(norm: float, target_norm: float) -> float:
    """Relative residual of squared norms; infinite where the product itself was not finite."""
    ratio = norm / target_norm if target_norm > 0.0 else 0.0
    return math.sqrt(ratio) if math.isfinite(ratio) else math.inf
