"""PPO's step on a mini-batch for any policy: its own ``evaluate_actions``, and autograd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor
from torch.nn import functional as F

from sb3_tare.lean.movers import Move, mover_of
from sb3_tare.lean.settings import UpdateSettings
from sb3_tare.lean.statistics import Statistics
from sb3_tare.lean.unchecked import unchecked


class GeneralSteps:
    """Steps on mini-batches of one update, as ``PPO.train`` takes them.

    :param model: a PPO
    :param settings: of this update
    :param statistics: filled by each step
    :param move: takes a step of the policy along the gradient of a loss
    """

    def __init__(self, model: Any, settings: UpdateSettings, statistics: Statistics, move: Move) -> None:
        self._move = move
        self.model, self.policy, self.settings, self.statistics = model, model.policy, settings, statistics
        self._is_discrete = isinstance(model.action_space, spaces.Discrete)

    def minibatches(self) -> Iterable[RolloutBufferSamples]:
        """Mini-batches of one epoch."""
        return self.model.rollout_buffer.get(self.settings.batch_size)

    def take(self, batch: RolloutBufferSamples) -> bool:
        """Take a step on ``batch``, or return False and take none where the policy has moved too far."""
        settings = self.settings
        actions = batch.actions.long().flatten() if self._is_discrete else batch.actions
        values, log_probs, entropies = self.policy.evaluate_actions(batch.observations, actions)
        log_ratios = log_probs - batch.old_log_prob
        ratios = torch.exp(log_ratios)
        surrogates = _surrogates(ratios, self._advantages(batch.advantages), settings.clip_range)
        predicted = self._predicted(values.flatten(), batch.old_values)
        entropies = -log_probs if entropies is None else entropies  # an estimate where there is no analytical form
        self.statistics.add(
            surrogates=_rows(surrogates),
            log_ratios=_rows(log_ratios),
            ratios=_rows(ratios),
            errors=_rows(batch.returns - predicted),
            entropies=_rows(entropies),
        )
        if settings.target_kl is not None and settings.too_far(_kl(log_ratios.detach())):
            return False
        value_loss = F.mse_loss(batch.returns, predicted)
        loss = -surrogates.mean() + settings.ent_coef * -torch.mean(entropies) + settings.vf_coef * value_loss
        self._move(loss)
        return True

    def _advantages(self, advantages: Tensor) -> Tensor:
        if self.settings.normalize_advantage and len(advantages) > 1:
            return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return advantages

    def _predicted(self, values: Tensor, old_values: Tensor) -> Tensor:
        clip_range = self.settings.clip_range_vf
        if clip_range is None:
            return values
        return old_values + torch.clamp(values - old_values, -clip_range, clip_range)


def _rows(tensor: Tensor) -> np.ndarray:
    return tensor.detach().flatten().cpu().numpy()


def _surrogates(ratios: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    return torch.min(advantages * ratios, advantages * torch.clamp(ratios, 1 - clip_range, 1 + clip_range))


def _kl(log_ratios: Tensor) -> Any:
    return ((torch.exp(log_ratios) - 1) - log_ratios).mean().cpu().numpy()


@contextmanager
def general_steps(model: Any, settings: UpdateSettings, statistics: Statistics) -> Iterator[GeneralSteps]:
    """Make steps that leave out the distributions' checks of arguments and pass Adam lists of tensors."""
    with unchecked(model.policy), mover_of(model.policy, settings.max_grad_norm) as move:
        yield GeneralSteps(model, settings, statistics, move)
