"""PPO's losses written out, with their gradients (Schulman et al., 2017, eq. 7 and 9).

Everything here but the exponential is defined by IEEE arithmetic to the last bit, so that numpy's numbers are torch's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)


def normalised(advantages: Tensor) -> np.ndarray:
    """Advantages ``[B]`` less their mean, in units of their standard deviation."""
    mean, std = advantages.mean().numpy(), advantages.std().numpy()
    return (advantages.numpy() - mean) / (std + np.float32(1e-8))


class Surrogate(NamedTuple):
    """PPO's clipped objective on a mini-batch.

    :param log_ratios: ``[B]``, log pi(a) - log pi_old(a)
    :param ratios: ``[B]``, r, their exponentials
    :param values: ``[B]``, min(r A, clip(r) A); the loss is minus their mean
    :param gradient: ``[B]``, of the loss by log pi(a)
    """

    log_ratios: np.ndarray
    ratios: np.ndarray
    values: np.ndarray
    gradient: np.ndarray


def clipped_surrogate(log_probs: Tensor, old_log_probs: np.ndarray, advantages: np.ndarray, clip_range: float) -> Surrogate:
    """PPO's clipped objective and its gradient (eq. 7).

    :param log_probs: ``[B]``
    :param old_log_probs: ``[B]``, of the policy that collected the rollout
    :param advantages: ``[B]``, as they enter the loss
    :param clip_range: distance from 1 at which ratios are clipped
    """
    log_ratios = log_probs.numpy() - old_log_probs
    ratios = torch.from_numpy(log_ratios).exp().numpy()
    clipped = np.minimum(np.maximum(ratios, np.float32(1 - clip_range)), np.float32(1 + clip_range))
    free, bound = advantages * ratios, advantages * clipped
    # Of two equal terms autograd takes half of each, and the clipped one has no slope outside of the range.
    weights = (free <= bound) - HALF * ((free == bound) & (clipped != ratios))
    gradient = (-ONE / np.float32(len(ratios)) * advantages) * weights * ratios
    return Surrogate(log_ratios, ratios, np.minimum(free, bound), gradient)


def approximate_kl(log_ratios: np.ndarray) -> np.float32:
    """Mean of (r - 1) - log r, to the last bit what PPO compares with ``target_kl``.

    Source: http://joschu.net/blog/kl-approx.html

    :param log_ratios: ``[B]``
    :return: a scalar
    """
    log_ratio = torch.from_numpy(log_ratios)
    return np.float32(((log_ratio.exp() - 1) - log_ratio).mean().item())


class ValueLoss(NamedTuple):
    """The critic's squared error on a mini-batch.

    :param errors: ``[B]``; the loss is the mean of their squares
    :param gradient: ``[B]``, of ``coefficient`` times the loss by the values
    """

    errors: np.ndarray
    gradient: np.ndarray


def value_loss(values: np.ndarray, returns: np.ndarray, coefficient: float) -> ValueLoss:
    """Squared error of ``values`` and its gradient.

    :param values: ``[B]``
    :param returns: ``[B]``
    :param coefficient: of the value loss in the whole loss
    """
    errors = values - returns
    return ValueLoss(errors, (TWO / np.float32(len(errors)) * errors) * np.float32(coefficient))


def clipped_value_loss(
    values: np.ndarray, old_values: np.ndarray, returns: np.ndarray, coefficient: float, clip_range: float
) -> ValueLoss:
    """Like :func:`value_loss`, of values that differ from the ``old_values`` ``[B]`` by at most ``clip_range``."""
    moved = values - old_values
    bound = np.minimum(np.maximum(moved, -np.float32(clip_range)), np.float32(clip_range))
    loss = value_loss(old_values + bound, returns, coefficient)
    return ValueLoss(loss.errors, np.where(bound == moved, loss.gradient, np.float32(0)))
