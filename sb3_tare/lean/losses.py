"""PPO's losses on a mini-batch, whoever evaluates it: chosen by the settings, and noted for the log."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sb3_tare.lean.minibatches import Minibatch
from sb3_tare.lean.objective import (
    Surrogate,
    ValueLoss,
    approximate_kl,
    clipped_surrogate,
    clipped_value_loss,
    normalised,
    value_loss,
)
from sb3_tare.lean.settings import UpdateSettings
from sb3_tare.lean.statistics import Statistics


def losses_of(
    batch: Minibatch,
    settings: UpdateSettings,
    statistics: Statistics,
    log_probs: Tensor,
    values: np.ndarray,
    entropies: np.ndarray,
) -> tuple[Surrogate, ValueLoss] | None:
    """Losses with their gradients; None where the policy has moved too far for a step.

    :param statistics: get the rows of the mini-batch either way
    :param log_probs: ``[B]`` of the actions under the policy as it is now
    :param values: ``[B]`` of its critic
    :param entropies: ``[B]``, or ``[1]`` where all rows have the same
    """
    many = settings.normalize_advantage and len(batch.returns) > 1
    advantages = normalised(batch.advantages) if many else batch.advantages.numpy()
    surrogate = clipped_surrogate(log_probs, batch.old_log_probs, advantages, settings.clip_range)
    critic = _value_loss(values, batch, settings)
    statistics.add(
        surrogates=surrogate.values,
        log_ratios=surrogate.log_ratios,
        ratios=surrogate.ratios,
        errors=critic.errors,
        entropies=entropies,
    )
    if settings.target_kl is not None and settings.too_far(approximate_kl(surrogate.log_ratios)):
        return None
    return surrogate, critic


def _value_loss(values: np.ndarray, batch: Minibatch, settings: UpdateSettings) -> ValueLoss:
    if settings.clip_range_vf is None:
        return value_loss(values, batch.returns, settings.vf_coef)
    return clipped_value_loss(values, batch.old_values, batch.returns, settings.vf_coef, settings.clip_range_vf)
