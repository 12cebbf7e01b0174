"""The objectives J(theta; A) that hosts maximise on batches of steps.

Each objective is a function ``(log_probs, old_log_probs, advantages) -> J`` of three ``[n]`` tensors. Only the first
depends on the policy's parameters, only the last on the reward's: all that the implicit gradient needs of a host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Objective = Callable[[Tensor, Any, Tensor], Tensor]
"""Function of three ``[n]`` tensors; the second is None on hosts whose objective does not look at who acted."""


def surrogate(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Mean of ratio times advantage: PPO and TRPO (eq. 3 and 11, without the KL term).

    :param log_probs: ``[n]`` of the actions, under the policy as it is
    :param old_log_probs: ``[n]`` under the policy that acted
    :param advantages: ``[n]``
    :return: scalar
    """
    return (torch.exp(log_probs - old_log_probs) * advantages).mean()


def clipped_surrogate(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float) -> Tensor:
    """Mean of the smaller of ratio and clipped ratio times advantage (Schulman et al., 2017, eq. 7).

    :param log_probs: ``[n]`` of the actions, under the policy as it is
    :param old_log_probs: ``[n]`` under the policy that acted
    :param advantages: ``[n]``
    :param clip_range: largest distance of a clipped ratio from 1
    :return: scalar
    """
    ratios = torch.exp(log_probs - old_log_probs)
    clipped = ratios.clamp(1 - clip_range, 1 + clip_range)
    return torch.minimum(ratios * advantages, clipped * advantages).mean()


def log_likelihood(log_probs: Tensor, old_log_probs: Tensor | None, advantages: Tensor) -> Tensor:
    """Mean of log-probability times advantage: A2C (eq. 1).

    :param log_probs: ``[n]`` of the actions, under the policy as it is
    :param old_log_probs: not looked at
    :param advantages: ``[n]``
    :return: scalar
    """
    return (log_probs * advantages).mean()


def advantage_weighted(
    log_probs: Tensor, old_log_probs: Tensor | None, advantages: Tensor, temperature: float, max_weight: float
) -> Tensor:
    """Mean of log-probability times ``min(exp(A / temperature), max_weight)``: AWR (eq. 4 and 12).

    :param log_probs: ``[n]`` of the actions, under the policy as it is
    :param old_log_probs: not looked at
    :param advantages: ``[n]``
    :return: scalar
    """
    return (log_probs * advantage_weights(advantages, temperature, max_weight)).mean()


def advantage_weights(advantages: Tensor, temperature: float, max_weight: float) -> Tensor:
    """Weights ``min(exp(A / temperature), max_weight)`` of advantages ``[n]`` (Peng et al., 2019, eq. 10, section 4)."""
    # The exponent is clipped, not the exponential: where that overflows its derivative would be zero times infinity.
    return torch.exp((advantages / temperature).clamp(max=math.log(max_weight)))


@dataclass(frozen=True)
class HostObjective:
    """The objective that a host maximises, and what its curvature is made of.

    :param value: J of a batch
    :param has_kl_term: whether a KL divergence from the policy that acted bounds its updates (eq. 3 and 11)
    :param weights: of the steps in its Gauss-Newton matrix, ``[n]``, a function of advantages ``[n]``; None: one each
    """

    value: Objective
    has_kl_term: bool = True
    weights: Callable[[Tensor], Tensor] | None = None


SURROGATE = HostObjective(surrogate)
LOG_LIKELIHOOD = HostObjective(log_likelihood)
