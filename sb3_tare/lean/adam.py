"""Adam behind a clipped gradient, on one flat vector (Kingma & Ba, 2015, algorithm 1).

The operations and their order are those of ``torch.nn.utils.clip_grad_norm_`` and of ``torch.optim.Adam``'s loop over
single tensors, which is its default on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Adam(NamedTuple):
    """Settings of the optimiser, as they are in its param group.

    :param learning_rate: of this update
    :param betas: decay of the two moments
    :param eps: added to the root of the second moment
    """

    learning_rate: float
    betas: tuple[float, float]
    eps: float


def clip_(gradient: Tensor, parts: list[Tensor], max_norm: float) -> None:
    """Scale ``gradient`` ``[p]`` down to ``max_norm``.

    :param parts: its views for each parameter, whose norms' norm is taken, as torch takes it
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(parts, 2.0)), 2.0).numpy()
    # torch divides a number by a tensor as the tensor's reciprocal times the number.
    scale = (np.float32(1) / (norm + np.float32(1e-6))) * np.float32(max_norm)
    if not scale >= 1:
        gradient.mul_(float(scale))


def step_(parameters: Tensor, gradient: Tensor, first: Tensor, second: Tensor, count: int, adam: Adam, root: Tensor) -> None:
    """Move ``parameters`` and both moments, all ``[p]``, by step number ``count`` >= 1.

    :param root: ``[p]``, memory to work in
    """
    beta1, beta2 = adam.betas
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    torch.sqrt(second, out=root).div_((1 - beta2**count) ** 0.5).add_(adam.eps)
    parameters.addcdiv_(first, root, value=-(adam.learning_rate / (1 - beta1**count)))
