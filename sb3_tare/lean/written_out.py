"""PPO's step on a mini-batch for policies that are written out: losses, their gradient, Adam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sb3_tare.lean import adam
from sb3_tare.lean.coverage import affine_maps, features_of
from sb3_tare.lean.heads import CategoricalHead, GaussianHead, Head
from sb3_tare.lean.minibatches import Minibatch, Rows, plain_batch_size
from sb3_tare.lean.networks import ACTIVATIONS, Layer, Perceptron
from sb3_tare.lean.objective import (
    Surrogate,
    ValueLoss,
    approximate_kl,
    clipped_surrogate,
    clipped_value_loss,
    normalised,
    value_loss,
)
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
        views = dict(zip(self.vector.parameters, zip(values, self.gradients, strict=True), strict=True))
        self.head: Head = GaussianHead(*views[policy.log_std]) if hasattr(policy, "log_std") else CategoricalHead()
        self._layers = [[_layer(views, linear) for linear in maps] for maps in affine_maps(policy)]
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
        settings, n_rows = self.settings, len(batch.returns)
        actor, critic = self._networks_for(n_rows)
        given = self.head.evaluate(actor.forward(batch.features), batch.actions)
        surrogate = self._surrogate(given.log_probs, batch)
        critic_loss = self._value_loss(critic.forward(batch.features), batch)
        self.statistics.add(
            surrogates=surrogate.values,
            log_ratios=surrogate.log_ratios,
            ratios=surrogate.ratios,
            errors=critic_loss.errors,
            entropies=given.entropies,
        )
        if settings.target_kl is not None and settings.too_far(approximate_kl(surrogate.log_ratios)):
            return False
        entropy_gradient = np.float32(-settings.ent_coef) / np.float32(n_rows)
        actor.backward(self.head.pull_back(given, surrogate.gradient, entropy_gradient))
        critic.backward(torch.from_numpy(critic_loss.gradient[:, None]))
        self._move()
        return True

    def _networks_for(self, n_rows: int) -> list[Perceptron]:
        if n_rows not in self._networks:
            self._networks[n_rows] = [Perceptron(layers, self._activation, n_rows) for layers in self._layers]
        return self._networks[n_rows]

    def _surrogate(self, log_probs: Tensor, batch: Minibatch) -> Surrogate:
        many = self.settings.normalize_advantage and len(batch.returns) > 1
        advantages = normalised(batch.advantages) if many else batch.advantages.numpy()
        return clipped_surrogate(log_probs, batch.old_log_probs, advantages, self.settings.clip_range)

    def _value_loss(self, outputs: Tensor, batch: Minibatch) -> ValueLoss:
        values, coefficient = outputs.numpy()[:, 0], self.settings.vf_coef
        if self.settings.clip_range_vf is None:
            return value_loss(values, batch.returns, coefficient)
        return clipped_value_loss(values, batch.old_values, batch.returns, coefficient, self.settings.clip_range_vf)

    def _move(self) -> None:
        vector = self.vector
        scale = adam.clip_scale(self.gradients, self.settings.max_grad_norm)
        if not scale >= 1:
            vector.gradient.mul_(scale)
        vector.count += 1
        adam.step_(vector.values, vector.gradient, vector.first, vector.second, vector.count, self._adam, self._root)


def _layer(views: dict[Any, tuple[Tensor, Tensor]], linear: nn.Linear) -> Layer:
    (weight, weight_gradient), (bias, bias_gradient) = views[linear.weight], views[linear.bias]
    return Layer(weight, bias, weight_gradient, bias_gradient)


@contextmanager
def written_out_steps(model: Any, settings: UpdateSettings, statistics: Statistics) -> Iterator[WrittenOutSteps]:
    """Make steps on copies; policy and optimiser get their result when the block ends, even by an error."""
    with torch.no_grad(), np.errstate(all="ignore"):  # torch does not warn of a division by zero either
        steps = WrittenOutSteps(model, settings, statistics)
        try:
            yield steps
        finally:
            steps.vector.give_back()
