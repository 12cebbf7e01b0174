"""The mathematics of AWR's updates (Peng et al., 2019), on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sb3_tare.utils.last_good import all_finite

ADVANTAGE_EPSILON = 1e-5
"""Added to the standard deviation of advantages, as in the authors' implementation."""


def standardised(advantages: Tensor) -> Tensor:
    """Advantages ``[n]`` with zero mean and unit deviation over the memory; all zero where they are all one number."""
    mean, deviation = moments(advantages)
    return (advantages - mean) / (deviation + ADVANTAGE_EPSILON)


def moments(advantages: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, scalars, of a population ``[n]``."""
    mean = advantages.mean()
    return mean, (advantages - mean).square().mean().sqrt()


def bound_loss(means: Tensor) -> Tensor:
    """Half the mean squared distance of ``[n, action_dim]`` mean actions from the box [-1, 1], summed over dimensions."""
    return 0.5 * (means.abs() - 1.0).clamp(min=0.0).square().sum(dim=1).mean()


def shuffled_batches(n_rows: int, batch_size: int, n_batches: int) -> Tensor:
    """Row numbers ``[n_batches, batch_size]``: one random order of all rows behind another, cut into batches.

    All are drawn at once, by the global generator: thousands of small draws would cost more than the steps themselves.
    """
    n_passes = -(-n_batches * batch_size // n_rows)
    order = torch.cat([torch.randperm(n_rows) for _ in range(n_passes)]) if n_passes else torch.empty(0, dtype=torch.int64)
    return order[: n_batches * batch_size].view(n_batches, batch_size)


def descend(step: Callable[[Tensor], Tensor], batches: Tensor) -> float:
    """Take one step on each batch; return the mean loss, and wait for the device only then.

    :param step: returns the loss before it, a scalar, of the row numbers ``[batch_size]`` of a batch
    :param batches: row numbers ``[n_batches, batch_size]``
    """
    losses = [step(rows) for rows in batches]
    return float(torch.stack(losses).mean()) if losses else 0.0


def check_descent(policy: nn.Module, optimizer: torch.optim.Optimizer, mean_loss: float, name: str, remedy: str) -> None:
    """Check what the steps of ``optimizer`` have left.

    :param policy: whose parameters it moves
    :param mean_loss: of the steps
    :param name: of what is learned, for errors
    :param remedy: what would work, for errors
    :raises FloatingPointError: if a loss was not finite, or a parameter is so no longer, naming it
    """
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    named = [(name, parameter.detach()) for name, parameter in policy.named_parameters() if id(parameter) in moved]
    if math.isfinite(mean_loss) and all_finite(values for _, values in named):
        return
    broken = [name for name, values in named if not torch.isfinite(values).all()]
    raise FloatingPointError(
        f"the loss of the {name} or its parameters are not finite (mean loss {mean_loss}; parameters "
        f"{', '.join(broken) or 'are finite'}), and its update was undone; {remedy}"
    )
