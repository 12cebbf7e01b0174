"""AWR's gradient steps for policies that are written out: losses, their gradient, momentum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import BaseModel
from torch import Tensor, nn

from sb3_tare.awr import losses
from sb3_tare.awr.gathering import RowsAt, gathered
from sb3_tare.awr.heads import head_of
from sb3_tare.awr.memory import Paths
from sb3_tare.awr.momentum import MomentumVector
from sb3_tare.lean.coverage import affine_maps
from sb3_tare.lean.networks import ACTIVATIONS, Layer, Perceptron


class ActorSteps:
    """Steps of the actor along the gradient of the weighted regression's loss.

    :param model: an AWR whose policy is written out
    :param paths: the n steps that it learns from
    :param weights: ``[n]``, of their actions
    """

    def __init__(self, model: Any, paths: Paths, weights: Tensor) -> None:
        policy = model.policy
        self.vector = MomentumVector(policy.actor_optimizer)
        learned = _learned(self.vector)
        self._head = head_of(policy, learned)
        self._network = _network(affine_maps(policy)[0], learned, model)
        self._features, self._weights = features_of(model, paths.rows), weights
        self._actions = self._head.prepare(model.replay_buffer.actions_at(paths.rows))
        if self._actions.ndim == 1:
            self._actions = self._actions[:, None]
        self._bound_coef = model.bound_coef if hasattr(policy, "log_std") else 0.0
        self._ent_coef = model.ent_coef

    def __call__(self, rows: Tensor) -> Tensor:
        """Take a step on the steps numbered ``rows`` ``[B]``; return the loss before it."""
        outputs = self._network.forward(self._features(rows))
        given = self._head.evaluate(outputs, self._actions.index_select(0, rows))
        loss, by_log_probs = losses.weighted_regression(given.log_probs, self._weights.index_select(0, rows))
        by_outputs = self._head.pull_back(given, by_log_probs, np.float32(-self._ent_coef) / np.float32(len(rows)))
        if self._bound_coef > 0.0:
            bound, by_means = losses.bound_loss(outputs, self._bound_coef)
            loss, by_outputs = bound + loss, by_outputs + torch.from_numpy(by_means)
        if self._ent_coef > 0.0:
            loss = loss - self._ent_coef * float(given.entropies.mean())
        self._network.backward(by_outputs)
        self.vector.step()
        return loss


class CriticSteps:
    """Steps of the critic along the gradient of its squared errors.

    :param model: an AWR whose policy is written out
    :param paths: the n steps that it learns from
    :param returns: ``[n]``
    """

    def __init__(self, model: Any, paths: Paths, returns: Tensor) -> None:
        policy = model.policy
        self.vector = MomentumVector(policy.critic_optimizer)
        self._network = _network(affine_maps(policy)[1], _learned(self.vector), model)
        self._features, self._returns = features_of(model, paths.rows), returns
        self._scale, self._unit = policy.value_net.scale, policy.value_scale

    def __call__(self, rows: Tensor) -> Tensor:
        """Take a step on the steps numbered ``rows`` ``[B]``; return the loss before it."""
        outputs = self._network.forward(self._features(rows)).numpy()[:, 0]
        loss, gradient = losses.value_loss(outputs, self._returns.index_select(0, rows).numpy(), self._scale, self._unit)
        self._network.backward(torch.from_numpy(gradient[:, None]))
        self.vector.step()
        return loss


def features_of(model: Any, rows: np.ndarray) -> RowsAt:
    """Features ``[m, k]`` of steps by their number among ``rows`` ``[n]`` of the memory: normalised, one-hot if discrete."""
    policy, memory, env = model.policy, model.replay_buffer, model.get_vec_normalize_env()

    def features_at(chosen: np.ndarray) -> Tensor:
        observations = memory.observations_at(chosen, env)
        return BaseModel.extract_features(policy, observations, policy.pi_features_extractor)

    return gathered(features_at, rows, policy.observation_space)


def _learned(vector: MomentumVector) -> dict[Tensor, tuple[Tensor, Tensor]]:
    return dict(zip(vector.parameters, zip(vector.values, vector.gradients, strict=True), strict=True))


def _network(maps: Sequence[nn.Linear], learned: dict[Tensor, tuple[Tensor, Tensor]], model: Any) -> Perceptron:
    return Perceptron(
        [Layer.of(linear, learned) for linear in maps], ACTIVATIONS[model.policy.activation_fn], model.batch_size
    )


@contextmanager
def written_out(steps: type[ActorSteps] | type[CriticSteps], model: Any, paths: Paths, target: Tensor) -> Iterator[Any]:
    """Make steps on copies; policy and optimiser get their result when the block ends, even by an error.

    :param steps: class of the steps
    :param model: an AWR whose policy is written out
    :param paths: the n steps that it learns from
    :param target: ``[n]``, weights of the actor's steps or returns of the critic's
    """
    with torch.no_grad(), np.errstate(all="ignore"):  # torch does not warn of infinities either
        made = steps(model, paths, target)
        try:
            yield made
        finally:
            made.vector.give_back()
