"""The reward gradient of LIRPG: through the step of Adam that the host has just taken on a mini-batch, and no further.

With theta' the policy after the step on a mini-batch, g the gradient of its extrinsic objective there, and
``x = (d theta' / d gradient)' g``, the weights of the reward's gradient are the derivatives of dJ/dA along x at the policy
before the step, since the reward enters that step's gradient only through the advantages A.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from sb3_tare.data.recorder import Record
from sb3_tare.data.rollout import Rollout
from sb3_tare.hosts.buffers import narrow, relabel
from sb3_tare.hosts.optimiser_steps import watched_steps
from sb3_tare.hypergradient.adam import AdamStep
from sb3_tare.hypergradient.implicit import mixed_product
from sb3_tare.hypergradient.policy_gradients import Batch, PolicyGradients, evaluation_mode
from sb3_tare.learning.iteration import Iteration, Update
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.policy.objectives import clipped_surrogate
from sb3_tare.policy.products import flat_gradient
from sb3_tare.utils.nested import take


class OneStepGradients(PolicyGradients):
    """Gradients of PPO's clipped objective on mini-batches.

    :param model: a PPO or MaskablePPO
    :param settings: :class:`~sb3_tare.algorithms.lirpg.LIRPGSettings`
    """

    def __init__(self, model: Any, settings: Any) -> None:
        super().__init__(model.policy, self._clipped, model.normalize_advantage, settings)
        self.model = model
        self.through_second_moment = settings.through_second_moment

    def prepared(self, advantages: Tensor) -> Tensor:
        """Advantages of a mini-batch as they enter PPO's objective."""
        return super().prepared(advantages) if len(advantages) > 1 else advantages

    def weights_through(self, step: AdamStep, parameters: Sequence[Parameter], trained: Batch, extrinsic: Batch) -> Tensor:
        """Weights w ``[m]`` of the gradient ``sum_t w_t dA_t/dphi`` of the extrinsic objective behind ``step``.

        The entropy bonus, the critic's loss and the norm that clips them all are in ``step.gradient``.

        :param step: just taken on the mini-batch
        :param parameters: which it moved, where it left them
        :param trained: the mini-batch with parameterised advantages, prepared
        :param extrinsic: the mini-batch with extrinsic advantages, prepared
        """
        with evaluation_mode(self.policy):
            gradient = flat_gradient(self._objective(extrinsic), parameters)
            x = step.pull_back(gradient, self.through_second_moment)
            with standing_at(parameters, step.parameters):
                advantages = trained.advantages.detach().requires_grad_()
                loss = -self._objective(Batch(trained.rollout, advantages))
                return mixed_product(loss, advantages, parameters, x)

    def _clipped(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
        clip_range = self.model.clip_range(self.model._current_progress_remaining)
        return clipped_surrogate(log_probs, old_log_probs, advantages, clip_range)


class OneStepIteration(Iteration):
    """An iteration in which a reward step follows each of the host's steps, on the same mini-batch.

    Every mini-batch gets the advantages of the reward as it is when the mini-batch is taken out of the buffer.
    """

    def __init__(self, model: Any, trainer: RewardTrainer) -> None:
        super().__init__(model, trainer)
        self.gradients = OneStepGradients(model, trainer.settings)

    def updates(self, record: Record) -> Generator[None, None, None]:
        """Yield once, for the host to call ``train()``; its steps are watched meanwhile."""
        with watched_steps(self.model.policy.optimizer, self.model.max_grad_norm, self._after_step):
            yield from super().updates(record)

    def _narrow(self, update: Update) -> None:
        self._rollout = update.training
        narrow(self.model.rollout_buffer, update.rows.numpy(), *self._labels(), before_batch=self._before_batch)

    def _before_batch(self, rows: np.ndarray) -> None:
        with self._timed():
            self._rows = torch.from_numpy(rows)
            relabel(self.model.rollout_buffer, *self._labels())

    def _labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Advantages and returns for the host; the former are kept, to be differentiated after its step."""
        self._parameterised = self.trainer.parameterised(self._rollout)
        advantages = self._parameterised.detach()
        returns = self.trainer.advantages.host_returns(self._rollout, advantages)
        return advantages.cpu().numpy(), returns.cpu().numpy()

    def _after_step(self, step: AdamStep, parameters: Sequence[Parameter]) -> None:
        if self.settings.n_reward_updates == 0:
            return
        with self._timed():
            prepared = self.gradients.prepared
            advantages = prepared(take(self._parameterised, self._rows))
            extrinsic = prepared(take(self.trainer.advantages.extrinsic(self._rollout), self._rows))
            steps = _policy_side(self._rollout, self._rows)
            weights = self.gradients.weights_through(step, parameters, Batch(steps, advantages), Batch(steps, extrinsic))
            self.trainer.step_along(weights, advantages)

    def _after(self, update: Update) -> None:
        """All reward steps have been taken."""


def _policy_side(rollout: Rollout, rows: Tensor) -> Rollout:
    """What the policy's gradients see of ``rows``, in any order; of no use to a reward network, which needs episodes."""
    names = ("observations", "actions", "action_masks", "old_log_probs")
    return replace(rollout, **{name: take(getattr(rollout, name), rows) for name in names})


@contextmanager
def standing_at(parameters: Sequence[Parameter], vector: Tensor) -> Iterator[None]:
    """Give ``parameters`` the entries of ``vector`` ``[p]``, and their own back at the end."""
    own = [parameter.detach().clone() for parameter in parameters]
    parts = vector.split([parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, own, strict=True):
                parameter.copy_(value)
