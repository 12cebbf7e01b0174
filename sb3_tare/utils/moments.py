"""Running mean and standard deviation of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_DEVIATION = 0.01
"""Least standard deviation to divide by, as in the authors' implementation of AWR."""


class RunningMoments(nn.Module):
    """Running mean and standard deviation of vectors, kept as buffers: saved, loaded and moved with the module.

    :param shape: of one observation, ``[...]``
    """

    mean: Tensor
    """``[...]`` mean that is subtracted, in single precision"""
    deviation: Tensor
    """``[...]`` standard deviation that is divided by, at least :data:`MIN_DEVIATION`"""
    variance: Tensor
    """``[...]`` float64"""
    exact_mean: Tensor
    """``[...]`` float64"""
    count: Tensor
    """scalar float64, vectors seen so far: every parameter and buffer of a policy is a float, as Stable-Baselines3 has it"""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        self.register_buffer("variance", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("exact_mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, vectors: Tensor) -> Tensor:
        """Standardise ``[n, ...]``; the identity before anything was seen."""
        return (vectors - self.mean) / self.deviation

    def update(self, vectors: Tensor) -> None:
        """Let ``[n, ...]`` vectors, n >= 1, enter the statistics (Chan et al., 1983)."""
        vectors = vectors.double()
        variance, mean = torch.var_mean(vectors, dim=0, correction=0)
        total = int(self.count) + len(vectors)
        new, old = len(vectors) / total, int(self.count) / total
        difference = mean - self.exact_mean
        self.variance.copy_(old * self.variance + new * variance + old * new * difference.square())
        self.exact_mean.add_(new * difference)
        self.count.fill_(total)
        self.mean.copy_(self.exact_mean)
        self.deviation.copy_(self.variance.sqrt().clamp(min=MIN_DEVIATION))
