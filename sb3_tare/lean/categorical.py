"""The categorical distribution of a policy written out: log-probabilities, entropy and their gradients.

log p_k = z_k - log sum_j exp(z_j),   H = -sum_k p_k log p_k

Terms are grouped as ``torch.distributions.Categorical`` and autograd group them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_softmax_backward = torch.ops.aten._softmax_backward_data.default
LEAST = torch.finfo(torch.float32).min


class Categorical(NamedTuple):
    """Log-probabilities of a mini-batch and what their gradient needs.

    :param log_probs: ``[B]``
    :param log_pmf: ``[B, K]``
    :param pmf: ``[B, K]``
    :param actions: ``[B, 1]``
    """

    log_probs: Tensor
    log_pmf: Tensor
    pmf: Tensor
    actions: Tensor

    @property
    def entropies(self) -> np.ndarray:
        """Entropies ``[B]``."""
        return -(self.log_pmf.clamp(min=LEAST) * self.pmf).sum(-1).numpy()


def evaluate(logits: Tensor, actions: Tensor) -> Categorical:
    """Log-probabilities of ``actions`` ``[B, 1]`` (int64) under unnormalised ``logits`` ``[B, K]``."""
    log_pmf = logits - logits.logsumexp(-1, keepdim=True)
    return Categorical(log_pmf.gather(-1, actions).squeeze(-1), log_pmf, torch.softmax(log_pmf, -1), actions)


def sample(logits: Tensor) -> Tensor:
    """Draw actions ``[N, 1]`` from ``logits`` ``[N, K]`` by the random numbers of ``torch.distributions.Categorical``."""
    log_pmf = logits - logits.logsumexp(-1, keepdim=True)
    return torch.multinomial(torch.softmax(log_pmf, -1), 1, True)


def pull_back(given: Categorical, log_prob_gradient: Tensor, entropy_gradient: float) -> Tensor:
    """Gradient ``[B, K]`` of the loss by the logits.

    :param given: result of :func:`evaluate`
    :param log_prob_gradient: ``[B]``, of the loss by the log-probabilities
    :param entropy_gradient: of the loss by the entropy of any one row
    """
    # log p has three uses; autograd adds their gradients in the reverse order of the uses.
    by_log_pmf = _softmax_backward(-entropy_gradient * given.log_pmf.clamp(min=LEAST), given.pmf, -1, torch.float32)
    by_log_pmf += torch.where(given.log_pmf >= LEAST, -entropy_gradient * given.pmf, 0.0)
    by_log_pmf += torch.zeros_like(given.pmf).scatter_(-1, given.actions, log_prob_gradient[:, None])
    return by_log_pmf - by_log_pmf.sum(-1, keepdim=True) * given.log_pmf.exp()
