"""Steps of a policy along the gradient of a loss that autograd differentiates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from sb3_tare.lean import adam
from sb3_tare.lean.coverage import optimizer_obstacles

Move = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
"""A step of the policy's parameters that makes a loss smaller, given tensors that it depends on and its gradients by them."""


@contextmanager
def mover_of(policy: Any, max_norm: float) -> Iterator[Move]:
    """Choose who moves ``policy``: Adam on lists of tensors where its optimiser does nothing more, else the optimiser.

    :param policy: an actor-critic policy in float32 on the CPU with its optimiser
    :param max_norm: norm at which the gradient is clipped
    """
    by_optimizer = OptimizerMover(policy, max_norm)
    if next(optimizer_obstacles(policy), None) is None:
        yield ListMover(policy, max_norm, by_optimizer)
    else:
        with _foreach(policy.optimizer):
            yield by_optimizer


class OptimizerMover:
    """The policy's optimiser, called as PPO calls it.

    :param policy: an actor-critic policy with its optimiser
    :param max_norm: norm at which the gradient is clipped
    """

    def __init__(self, policy: Any, max_norm: float) -> None:
        self._policy, self._max_norm = policy, max_norm

    def __call__(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Differentiate a loss, given its gradients by ``tensors``, and step."""
        self._policy.optimizer.zero_grad()
        _backward(tensors, gradients)
        self.step()

    def step(self) -> None:
        """Step along the gradients that the parameters hold."""
        torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._max_norm)
        self._policy.optimizer.step()


class ListMover:
    """Adam on lists of tensors, without the optimiser's bookkeeping around each step.

    Parameters and the optimiser's state change in place, and are always up to date.

    :param policy: an actor-critic policy with its optimiser
    :param max_norm: norm at which the gradient is clipped
    :param otherwise: takes over as soon as a parameter has no gradient: Adam leaves such a parameter out
    """

    def __init__(self, policy: Any, max_norm: float, otherwise: OptimizerMover) -> None:
        self._optimizer, self._max_norm, self._otherwise = policy.optimizer, max_norm, otherwise
        self._parameters = list(policy.parameters())
        (group,) = policy.optimizer.param_groups
        self._settings = adam.Adam(group["lr"], group["betas"], group["eps"])
        self._move: Move = self._adam

    def __call__(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Differentiate a loss, given its gradients by ``tensors``, and step."""
        self._move(tensors, gradients)

    def _adam(self, tensors: Sequence[Tensor], slopes: Sequence[Tensor]) -> None:
        for parameter in self._parameters:
            parameter.grad = None
        _backward(tensors, slopes)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if len(gradients) < len(self._parameters):
            self._move = self._otherwise
            self._otherwise.step()
            return
        scale = adam.clip_scale(gradients, self._max_norm)
        if not scale >= 1:
            torch._foreach_mul_(gradients, scale)
        with torch.no_grad():
            adam.step_lists_(self._parameters, gradients, *self._state(), self._settings)

    def _state(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """First moments, second moments and counts, made as Adam makes them if this is its first step."""
        states = [self._optimizer.state[parameter] for parameter in self._parameters]
        if not states[0]:
            for state, parameter in zip(states, self._parameters, strict=True):
                state.update(adam.initial_state(parameter))
        first, second, counts = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        return first, second, counts


def _backward(tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Give parameters their gradients, as a loss with ``gradients`` by ``tensors`` would; constants have no part in it."""
    moving = [tensor.requires_grad for tensor in tensors]
    torch.autograd.backward([*compress(tensors, moving)], [*compress(gradients, moving)])


@contextmanager
def _foreach(optimizer: Any) -> Iterator[None]:
    """Have Adam pass lists of tensors to torch where its user has not chosen; each number stays the same."""
    groups = optimizer.param_groups if type(optimizer) is Adam else []
    open_groups = [group for group in groups if _leaves_open(group)]
    for group in open_groups:
        group["foreach"] = True
    try:
        yield
    finally:
        for group in open_groups:
            group["foreach"] = None


def _leaves_open(group: dict[str, Any]) -> bool:
    return group["foreach"] is None and not (group["fused"] or group["differentiable"] or isinstance(group["lr"], Tensor))
