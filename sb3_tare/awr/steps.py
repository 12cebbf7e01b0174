"""The gradient steps of AWR's phases, written out where they can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sb3_tare.awr.dispatch import host_loop
from sb3_tare.awr.memory import Paths
from sb3_tare.awr.written_out import ActorSteps, CriticSteps, written_out
from sb3_tare.lean.dispatch import WRITTEN_OUT
from sb3_tare.lean.unchecked import unchecked

Step = Callable[[Tensor], Tensor]
"""A gradient step on the steps numbered ``[batch_size]``, which returns the loss before it, a scalar."""


@contextmanager
def critic_steps(model: Any, paths: Paths, returns: Tensor) -> Iterator[Step]:
    """Steps of an AWR's critic to ``returns`` ``[n]`` of ``paths``; its parameters have moved when the block ends."""
    if host_loop(model).update == WRITTEN_OUT:
        with written_out(CriticSteps, model, paths, returns) as steps:
            yield steps
    else:
        yield autograd_step(model.policy.critic_optimizer, model.critic_loss(paths, returns))


@contextmanager
def actor_steps(model: Any, paths: Paths, weights: Tensor) -> Iterator[Step]:
    """Steps of an AWR's actor to ``paths`` by ``weights`` ``[n]``; its parameters have moved when the block ends."""
    if host_loop(model).update == WRITTEN_OUT:
        with written_out(ActorSteps, model, paths, weights) as steps:
            yield steps
    else:
        with unchecked(model.policy):  # the checks would wait for the device at every step
            yield autograd_step(model.policy.actor_optimizer, model.actor_loss(paths, weights))


def autograd_step(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor]) -> Step:
    """A step of ``optimizer`` along the gradient of ``loss``, a scalar, of the row numbers of a mini-batch."""

    def step(rows: Tensor) -> Tensor:
        optimizer.zero_grad()
        value = loss(rows)
        value.backward()
        optimizer.step()
        return value.detach()

    return step
