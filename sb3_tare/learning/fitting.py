"""The fit of the second critic after the policy's updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from sb3_tare.data.labelled import Labelled
from sb3_tare.utils.nested import Observations, take

if TYPE_CHECKING:
    from sb3_tare.learning.trainer import RewardTrainer


def fit_critic(trainer: RewardTrainer, labelled: Sequence[Labelled], share: float) -> None:
    """Fit the second critic, if there is one, to the learned rewards' returns, in units of the extrinsic reward.

    :param labelled: what the policy was trained on
    :param share: of its steps that each pass takes
    :raises FloatingPointError: if it is not finite after them; they are undone then
    """
    scale = trainer.reward_model.unit.scale
    targets = [
        (each.part.reward.states, (trainer.advantages.learned(each.part, each.rewards) + critic.values) / scale)
        for each in labelled
        if (critic := each.part.reward_critic) is not None
    ]
    if not targets:
        return
    with trainer.optimisers.undoing("critic"):
        _fit(trainer, targets, share)


def _fit(trainer: RewardTrainer, targets: list[tuple[Observations, Tensor]], share: float) -> None:
    model, settings = trainer.reward_model, trainer.settings
    for states, returns in targets * settings.critic.critic_epochs:
        n_rows = math.ceil(share * len(returns))
        shuffled = torch.randperm(len(returns), generator=trainer.generator)[:n_rows].to(returns.device)
        for rows in shuffled.split(settings.critic.critic_batch_size):
            loss = mse_loss(model.values(take(states, rows), scale=1.0), returns[rows])
            trainer.optimisers.step("critic", loss)
            trainer.metrics.note(critic_loss=float(loss.detach()))
