"""PPO's step on a mini-batch for policies that are written out: losses, their gradient, Adam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.lean import adam
from sb3_tare.lean.coverage import affine_maps, features_of
from sb3_tare.lean.heads import CategoricalHead, GaussianHead, Head
from sb3_tare.lean.losses import losses_of
from sb3_tare.lean.minibatches import Minibatch, Rows, plain_batch_size
from sb3_tare.lean.networks import ACTIVATIONS, Layer, Perceptron
from sb3_tare.lean.parameters import ParameterVector
from sb3_tare.lean.settings import UpdateSettings
from sb3_tare.lean.statistics import Statistics


class WrittenOutSteps:
    """Steps on mini-batches of one update.

    :param model: a PPO whose policy is written out
    :param settings: of this update
    :param statistics: filled by each step
    """

    def __init__(self, model: Any, settings: UpdateSettings, statistics: Statistics) -> None:
        policy, self.settings, self.statistics = model.policy, settings, statistics
        self.vector = ParameterVector(list(policy.parameters()), policy.optimizer)
        values, self.gradients = self.vector.views(self.vector.values), self.vector.views(self.vector.gradient)
        views: dict[Tensor, tuple[Tensor, Tensor]] = dict(
            zip(self.vector.parameters, zip(values, self.gradients, strict=True), strict=True)
        )
        self.head: Head = GaussianHead(*views[policy.log_std]) if hasattr(policy, "log_std") else CategoricalHead()
        self._layers = [[Layer.of(linear, views) for linear in maps] for maps in affine_maps(policy)]
        self._activation = ACTIVATIONS[policy.activation_fn]
        self._networks: dict[int, list[Perceptron]] = {}
        (group,) = policy.optimizer.param_groups
        self._adam = adam.Adam(group["lr"], group["betas"], group["eps"])
        self._root = torch.empty_like(self.vector.values)
        self._rows = Rows(model.rollout_buffer, partial(features_of, policy), self.head.prepare)
        self._batch_size = plain_batch_size(model.rollout_buffer, settings.batch_size)

    def minibatches(self) -> Iterator[Minibatch]:
        """Mini-batches of one epoch."""
        assert self._batch_size is not None
        return self._rows.shuffled(self._batch_size)

    def take(self, batch: Minibatch) -> bool:
        """Take a step on ``batch``, or return False and take none where the policy has moved too far."""
        n_rows = len(batch.returns)
        actor, critic = self._networks_for(n_rows)
        given = self.head.evaluate(actor.forward(batch.features), batch.actions)
        values = critic.forward(batch.features).numpy()[:, 0]
        losses = losses_of(batch, self.settings, self.statistics, given.log_probs, values, given.entropies)
        if losses is None:
            return False
        surrogate, critic_loss = losses
        entropy_gradient = np.float32(-self.settings.ent_coef) / np.float32(n_rows)
        actor.backward(self.head.pull_back(given, surrogate.gradient, entropy_gradient))
        critic.backward(torch.from_numpy(critic_loss.gradient[:, None]))
        self._move()
        return True

    def _networks_for(self, n_rows: int) -> list[Perceptron]:
        if n_rows not in self._networks:
            self._networks[n_rows] = [Perceptron(layers, self._activation, n_rows) for layers in self._layers]
        return self._networks[n_rows]

    def _move(self) -> None:
        vector = self.vector
        scale = adam.clip_scale(self.gradients, self.settings.max_grad_norm)
        if not scale >= 1:
            vector.gradient.mul_(scale)
        vector.count += 1
        adam.step_(vector.values, vector.gradient, vector.first, vector.second, vector.count, self._adam, self._root)


@contextmanager
def written_out_steps(model: Any, settings: UpdateSettings, statistics: Statistics) -> Iterator[WrittenOutSteps]:
    """Make steps on copies; policy and optimiser get their result when the block ends, even by an error."""
    with torch.no_grad(), np.errstate(all="ignore"):  # torch does not warn of a division by zero either
        steps = WrittenOutSteps(model, settings, statistics)
        try:
            yield steps
        finally:
            steps.vector.give_back()
