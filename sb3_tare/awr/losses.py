"""AWR's losses written out, with their gradients, term by term as autograd groups them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)


class Loss(NamedTuple):
    """A loss of a mini-batch.

    :param value: ``[]``
    :param gradient: ``[B, ...]`` of the loss, by what it is a function of
    """

    value: Tensor
    gradient: np.ndarray


def weighted_regression(log_probs: Tensor, weights: Tensor) -> Loss:
    """Minus the mean of weights times log-probabilities, both ``[B]`` (Peng et al., 2019, eq. 10); by the latter."""
    return Loss(-(weights * log_probs).mean(), -ONE / np.float32(len(weights)) * weights.numpy())


def bound_loss(means: Tensor, coefficient: float) -> Loss:
    """``coefficient`` times :func:`sb3_tare.awr.updates.bound_loss` of means ``[B, A]``."""
    array = means.numpy()
    outside = np.maximum(np.abs(array) - ONE, np.float32(0))
    value = coefficient * (0.5 * torch.from_numpy(outside * outside).sum(dim=1).mean())
    by_outside = np.float32(coefficient) * HALF / np.float32(len(array)) * (TWO * outside)
    return Loss(value, by_outside * np.sign(array))


def value_loss(outputs: np.ndarray, returns: np.ndarray, scale: float, unit: float) -> Loss:
    """Half the mean squared error of values in a unit; by the outputs that they are ``scale`` times of.

    :param outputs: ``[B]``, of the critic's last affine layer
    :param returns: ``[B]``
    :param scale: of the critic's output
    :param unit: that errors are counted in
    """
    errors = (outputs * np.float32(scale) - returns) / np.float32(unit)
    value = 0.5 * torch.from_numpy(errors * errors).mean()
    return Loss(value, HALF / np.float32(len(errors)) * (TWO * errors) / np.float32(unit) * np.float32(scale))
