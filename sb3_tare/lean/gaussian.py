"""The diagonal Gaussian of a policy written out: log-probabilities, entropy and their gradients.

log p(a) = sum_i -(a_i - mu_i)^2 / (2 sigma_i^2) - log sigma_i - log sqrt(2 pi),   sigma = exp(log_std)

Terms are grouped as ``torch.distributions.Normal`` and autograd group them. What IEEE arithmetic defines to the last bit is
done in numpy, whose calls on few numbers cost a third of torch's; exponentials, logarithms and sums are torch's own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

LOG_SQRT_TWO_PI = np.float32(math.log(math.sqrt(2 * math.pi)))
ENTROPY_OF_UNIT = 0.5 + 0.5 * math.log(2 * math.pi)
TWO = np.float32(2)


class Spread(NamedTuple):
    """The terms that depend on ``log_std`` alone.

    :param std: ``[A]``, sigma
    :param log: ``[A]``, log sigma, which need not be the parameter to the last bit
    :param twice_variance: ``[A]``, 2 sigma^2
    """

    std: np.ndarray
    log: np.ndarray
    twice_variance: np.ndarray

    @classmethod
    def of(cls, log_std: Tensor) -> Spread:
        """Terms that belong to ``log_std`` ``[A]``."""
        tensor = log_std.exp()
        std = tensor.numpy()
        return cls(std, tensor.log().numpy(), TWO * (std * std))


class Gaussian(NamedTuple):
    """Log-probabilities of a mini-batch and what their gradient needs.

    :param log_probs: ``[B]``
    :param deviations: ``[B, A]``, a - mu
    :param quotients: ``[B, A]``, (a - mu)^2 / (2 sigma^2)
    :param spread: sigma
    """

    log_probs: Tensor
    deviations: np.ndarray
    quotients: np.ndarray
    spread: Spread

    @property
    def entropies(self) -> np.ndarray:
        """Entropy ``[1]``, the same for each row."""
        return (ENTROPY_OF_UNIT + self.spread.log).sum(keepdims=True)


def evaluate(means: np.ndarray, spread: Spread, actions: np.ndarray) -> Gaussian:
    """Log-probabilities of ``actions`` ``[B, A]`` under ``means`` ``[B, A]``."""
    deviations = actions - means
    quotients = (deviations * deviations) / spread.twice_variance
    terms = -quotients - spread.log - LOG_SQRT_TWO_PI
    return Gaussian(torch.from_numpy(terms).sum(1), deviations, quotients, spread)


def pull_back(given: Gaussian, log_prob_gradient: np.ndarray, entropy_gradient: np.float32) -> tuple[Tensor, Tensor]:
    """Gradients of the loss by the means, ``[B, A]``, and by ``log_std``, ``[A]``.

    :param given: result of :func:`evaluate`
    :param log_prob_gradient: ``[B]``, of the loss by the log-probabilities
    :param entropy_gradient: of the loss by the entropy of any one row
    """
    rows, (std, _, twice_variance) = log_prob_gradient[:, None], given.spread
    by_variance = rows * (given.quotients / twice_variance) * TWO
    # sigma has three uses; autograd adds their gradients in the reverse order of the uses.
    by_std = (entropy_gradient / std + -rows / std) + by_variance * (TWO * std)
    by_log_std = torch.from_numpy(by_std).sum(0).numpy() * std
    return pull_back_to_means(given, log_prob_gradient), torch.from_numpy(by_log_std)


def pull_back_to_means(given: Gaussian, log_prob_gradient: np.ndarray) -> Tensor:
    """Gradient ``[B, A]`` of the loss by the means alone, for a sigma that is not learned; arguments as above."""
    return torch.from_numpy((log_prob_gradient[:, None] / given.spread.twice_variance) * (TWO * given.deviations))
