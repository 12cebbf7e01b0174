"""Mini-batches of a rollout, shuffled once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

FLATTENED = ("observations", "actions", "values", "log_probs", "advantages", "returns")
"""Arrays that the first ``RolloutBuffer.get()`` after a rollout turns from ``[T, N, ...]`` into ``[T * N, ...]``."""


@runtime_checkable
class GathersPlainly(Protocol):
    """Promise of a subclass of ``RolloutBuffer`` that its mini-batches may be gathered without its ``get()``.

    Only a method of the buffer's very class counts: one that is inherited says nothing about what a subclass overrides.
    """

    def plain_batch_size(self, batch_size: int) -> int | None:
        """Number of rows in a mini-batch of ``get(batch_size)``; None where ``get`` does more than take rows out.

        A size promises that ``get`` shuffles all rows with one ``np.random.permutation(buffer_size * n_envs)``, cuts that
        into mini-batches of this size, and calls no other method.
        """


def plain_batch_size(buffer: RolloutBuffer, batch_size: int) -> int | None:
    """Number of rows in a mini-batch, or None where only ``buffer.get()`` knows what a mini-batch is."""
    if type(buffer) is RolloutBuffer:
        return batch_size
    if "plain_batch_size" in vars(type(buffer)):
        return cast(GathersPlainly, buffer).plain_batch_size(batch_size)
    return None


Map = Callable[[Tensor], Tensor]


class Minibatch(NamedTuple):
    """Some rows of a rollout.

    :param features: ``[B, ...]``, observations or what was extracted from them
    :param actions: ``[B, A]``, prepared
    :param old_values: ``[B]``, as the buffer holds them
    :param old_log_probs: ``[B]``, of the policy that collected it
    :param advantages: ``[B]``
    :param returns: ``[B]``
    """

    features: Any
    actions: Tensor
    old_values: np.ndarray
    old_log_probs: np.ndarray
    advantages: Tensor
    returns: np.ndarray


def taken_out(buffer: RolloutBuffer, batch_size: int, prepare: Map) -> Iterator[Minibatch]:
    """Pass once over ``buffer`` by its own ``get()``; observations stay as it gives them, a tensor or a dictionary.

    :param prepare: maps actions ``[B, A]`` to those that the policy's distribution takes
    """
    for batch in buffer.get(batch_size):
        columns = (batch.old_values.numpy(), batch.old_log_prob.numpy(), batch.advantages, batch.returns.numpy())
        yield Minibatch(batch.observations, prepare(batch.actions), *columns)


class Rows:
    """All rows of a full rollout, row = env * T + t.

    :param buffer: changed as its own ``get()`` would change it: its arrays are flat from here on
    :param extract: maps observations as the buffer holds them to features ``[T * N, ...]``
    :param prepare: maps its actions to those that the policy's distribution takes, ``[T * N, ...]``
    """

    def __init__(self, buffer: RolloutBuffer, extract: Map, prepare: Map) -> None:
        assert buffer.full, "the rollout buffer is not full"
        if not buffer.generator_ready:
            for name in FLATTENED:
                setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name)))
            buffer.generator_ready = True
        self.n = buffer.buffer_size * buffer.n_envs
        self._features = extract(torch.from_numpy(buffer.observations))
        self._actions = prepare(torch.from_numpy(buffer.actions))
        names = ("values", "log_probs", "advantages", "returns")
        self._columns = [torch.from_numpy(getattr(buffer, name)).flatten() for name in names]

    def shuffled(self, batch_size: int) -> Iterator[Minibatch]:
        """Pass once over all rows, in an order drawn from numpy's global generator as ``RolloutBuffer.get()`` draws it."""
        order = torch.from_numpy(np.random.permutation(self.n))  # noqa: NPY002
        columns = [column[order].split(batch_size) for column in (self._actions, *self._columns)]
        for rows, actions, values, log_probs, advantages, returns in zip(order.split(batch_size), *columns, strict=True):
            # Features go into matrix products, whose last bits depend on how memory is aligned: they get their own.
            features = self._features[rows]
            yield Minibatch(features, actions, values.numpy(), log_probs.numpy(), advantages, returns.numpy())
