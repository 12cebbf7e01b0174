"""PPO's step on a mini-batch for any policy: autograd through its own ``evaluate_actions``, the losses written out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from sb3_tare.lean.losses import losses_of
from sb3_tare.lean.minibatches import Minibatch, Rows, plain_batch_size, taken_out
from sb3_tare.lean.movers import Move, mover_of
from sb3_tare.lean.settings import UpdateSettings
from sb3_tare.lean.statistics import Statistics
from sb3_tare.lean.unchecked import unchecked


class GeneralSteps:
    """Steps on mini-batches of one update, as ``PPO.train`` takes them.

    :param model: a PPO whose policy computes in float32 on the CPU
    :param settings: of this update
    :param statistics: filled by each step
    :param move: takes a step of the policy
    """

    def __init__(self, model: Any, settings: UpdateSettings, statistics: Statistics, move: Move) -> None:
        self._move = move
        self.policy, self.settings, self.statistics = model.policy, settings, statistics
        self._buffer = model.rollout_buffer
        self._prepare = _indices if isinstance(model.action_space, spaces.Discrete) else Tensor.float
        self._batch_size = plain_batch_size(self._buffer, settings.batch_size)
        self._rows = None if self._batch_size is None else Rows(self._buffer, lambda observations: observations, self._prepare)

    def minibatches(self) -> Iterator[Minibatch]:
        """Mini-batches of one epoch."""
        if self._rows is None or self._batch_size is None:
            return taken_out(self._buffer, self.settings.batch_size, self._prepare)
        return self._rows.shuffled(self._batch_size)

    def take(self, batch: Minibatch) -> bool:
        """Take a step on ``batch``, or return False and take none where the policy has moved too far."""
        values, log_probs, entropies = self.policy.evaluate_actions(batch.features, batch.actions)
        values = values.flatten()
        entropies = -log_probs if entropies is None else entropies  # an estimate where there is no analytical form
        rows = log_probs.detach(), values.detach().numpy(), entropies.detach().flatten().numpy()
        losses = losses_of(batch, self.settings, self.statistics, *rows)
        if losses is None:
            return False
        surrogate, critic_loss = losses
        entropy_gradient = float(np.float32(-self.settings.ent_coef) / np.float32(entropies.numel()))
        self._move(
            (log_probs, values, entropies),
            (
                torch.from_numpy(surrogate.gradient),
                torch.from_numpy(critic_loss.gradient),
                torch.full_like(entropies, entropy_gradient),
            ),
        )
        return True


def _indices(actions: Tensor) -> Tensor:
    return actions.long().flatten()


@contextmanager
def general_steps(model: Any, settings: UpdateSettings, statistics: Statistics) -> Iterator[GeneralSteps]:
    """Make steps that leave out the distributions' checks of arguments and the optimiser's bookkeeping."""
    with (
        np.errstate(all="ignore"),  # torch does not warn of a division by zero either
        unchecked(model.policy),
        mover_of(model.policy, settings.max_grad_norm) as move,
    ):
        yield GeneralSteps(model, settings, statistics, move)
