"""PPO's update: epochs of steps on mini-batches (Schulman et al., 2017, algorithm 1), and what it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance

from sb3_tare.lean.complaints import check_parameters, check_update
from sb3_tare.lean.settings import UpdateSettings
from sb3_tare.lean.statistics import Losses, Statistics


class Steps(Protocol):
    """Steps that an update is made of, written out or not."""

    def minibatches(self) -> Iterable[Any]:
        """Mini-batches of one epoch."""

    def take(self, batch: Any) -> bool:
        """Take a step on ``batch``, or return False and take none where the policy is too far from the one that collected."""


MakeSteps = Callable[[Any, UpdateSettings, Statistics], AbstractContextManager[Steps]]
"""A maker of the steps of one update, given a PPO, its settings, and the statistics that the steps fill."""


def update(model: Any, make_steps: MakeSteps) -> None:
    """Train the policy on the rollout buffer, as ``PPO.train`` does.

    :param model: a PPO
    :param make_steps: :func:`~sb3_tare.lean.written_out.written_out_steps` or
        :func:`~sb3_tare.lean.general.general_steps`
    :raises ValueError: if a NaN has come up; it names the observation, parameter or loss
    """
    model.policy.set_training_mode(True)
    model._update_learning_rate(model.policy.optimizer)
    check_parameters(model.policy)
    settings, statistics = UpdateSettings.of(model), Statistics()
    with make_steps(model, settings, statistics) as steps:
        for epoch in range(settings.n_epochs):
            statistics.begin_epoch()
            completed = all(steps.take(batch) for batch in steps.minibatches())
            model._n_updates += 1
            if not completed:
                _announce(model, epoch, statistics)
                break
    with np.errstate(all="ignore"):  # infinities are PPO's own affair
        losses = Losses.of(statistics, settings.clip_range)
        check_update(model, losses)
    _log(model, settings, losses, statistics.epochs[-1])


def _announce(model: Any, epoch: int, statistics: Statistics) -> None:
    if model.verbose >= 1:
        print(f"Early stopping at step {epoch} due to reaching max kl: {statistics.last_kl():.2f}")


def _log(model: Any, settings: UpdateSettings, losses: Losses, last_epoch: int) -> None:
    """Record PPO's own keys.

    :param last_epoch: first mini-batch of the last epoch, over which alone the KL is averaged
    """
    buffer, policy, record = model.rollout_buffer, model.policy, model.logger.record
    record("train/entropy_loss", losses.entropy.mean())
    record("train/policy_gradient_loss", losses.policy.mean())
    record("train/value_loss", losses.value.mean())
    record("train/approx_kl", losses.kl[last_epoch:].mean())
    record("train/clip_fraction", losses.clip_fraction.mean())
    record("train/loss", losses.total(settings)[-1])
    record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
    if hasattr(policy, "log_std"):
        record("train/std", torch.exp(policy.log_std).mean().item())
    record("train/n_updates", model._n_updates, exclude="tensorboard")
    record("train/clip_range", settings.clip_range)
    if settings.clip_range_vf is not None:
        record("train/clip_range_vf", settings.clip_range_vf)
