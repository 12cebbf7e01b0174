"""Adam behind a clipped gradient, on flat vectors or on lists (Kingma & Ba, 2015, algorithm 1).

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
    :param betas: decay rates of the first and second moments, per step
    :param eps: added to the root of the second moment
    """

    learning_rate: float
    betas: tuple[float, float]
    eps: float


def clip_scale(gradients: list[Tensor], max_norm: float) -> float:
    """Factor that clips gradients at ``max_norm``, to be applied where it is not at least 1.

    :param gradients: one for each parameter; their norm is the norm of their norms, as torch takes it
    :return: NaN if a gradient is NaN
    """
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)), 2.0).numpy()
    # torch divides a number by a tensor as the tensor's reciprocal times the number.
    return float((np.float32(1) / (norm + np.float32(1e-6))) * np.float32(max_norm))


def step_(parameters: Tensor, gradient: Tensor, first: Tensor, second: Tensor, count: int, adam: Adam, root: Tensor) -> None:
    """Move ``parameters`` and both moments, all ``[p]``, by step number ``count`` >= 1.

    :param root: ``[p]``, memory to work in
    """
    beta1, beta2 = adam.betas
    first.lerp_(gradient, 1 - beta1)
    second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    torch.sqrt(second, out=root).div_((1 - beta2**count) ** 0.5).add_(adam.eps)
    parameters.addcdiv_(first, root, value=-(adam.learning_rate / (1 - beta1**count)))


def step_lists_(
    parameters: list[Tensor],
    gradients: list[Tensor],
    first: list[Tensor],
    second: list[Tensor],
    counts: list[Tensor],
    adam: Adam,
) -> None:
    """Move parameters and both moments like :func:`step_`, given lists with a tensor for each parameter.

    :param counts: scalars, the number of steps before this one, the same for each parameter; each is raised by one
    """
    beta1, beta2 = adam.betas
    torch._foreach_add_(counts, 1)
    count = counts[0].item()
    torch._foreach_lerp_(first, gradients, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
    roots = torch._foreach_sqrt(second)
    torch._foreach_div_(roots, (1 - beta2**count) ** 0.5)
    torch._foreach_add_(roots, adam.eps)
    torch._foreach_addcdiv_(parameters, first, roots, -(adam.learning_rate / (1 - beta1**count)))


def initial_state(parameter: Tensor) -> dict[str, Tensor]:
    """State of ``torch.optim.Adam`` before its first step: a scalar count, and moments ``[...]`` of the parameter's shape."""
    return {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}
