"""The mathematics of AWR's updates (Peng et al., 2019), on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributions import Distribution

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


def descend(
    optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], batches: Iterable[Tensor], name: str, remedy: str
) -> float:
    """Take one step on each batch; return the mean loss, and wait for the device only then.

    :param loss: a scalar, of the row numbers ``[batch_size]`` of a batch
    :param batches: row numbers, ``[batch_size]`` each
    :param name: of what is learned, for errors
    :param remedy: what would work, for errors
    :raises FloatingPointError: if a loss was not finite, or a parameter is so no longer
    """
    losses = []
    with unchecked_distributions():
        for rows in batches:
            optimizer.zero_grad()
            value = loss(rows)
            value.backward()
            optimizer.step()
            losses.append(value.detach())
    mean = float(torch.stack(losses).mean()) if losses else 0.0
    parameters = [parameter.detach().flatten() for group in optimizer.param_groups for parameter in group["params"]]
    if not math.isfinite(mean) or not torch.isfinite(torch.cat(parameters)).all():
        raise FloatingPointError(f"the loss of the {name} or its parameters are not finite (mean loss {mean}); {remedy}")
    return mean


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Have torch's distributions not check their arguments, for which they would wait for the device at every step."""
    checks = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(checks)
