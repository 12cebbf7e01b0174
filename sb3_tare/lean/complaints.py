"""Errors that name the first thing that is NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.lean.statistics import Losses


def check_parameters(policy: Any) -> None:
    """Check the parameters of ``policy``.

    :raises ValueError: if one is NaN, naming it
    """
    names = nan_parameters(policy)
    if names:
        raise ValueError(f"the policy's parameters {', '.join(names)} are NaN")


def check_update(model: Any, losses: Losses) -> None:
    """Check an update that is over.

    :param model: a PPO
    :param losses: of the update
    :raises ValueError: if the update has met or made a NaN, naming the observation, loss or parameter
    """
    if not np.isnan(losses.policy + losses.value + losses.entropy).any() and not nan_parameters(model.policy):
        return
    _check_buffer(model.rollout_buffer)
    for name in ("policy", "value", "entropy"):
        (where,) = np.isnan(getattr(losses, name)).nonzero()
        if len(where):
            raise ValueError(
                f"the {name} loss is NaN, first in mini-batch {where[0] + 1} of {len(losses.policy)} of this update"
            )
    check_parameters(model.policy)


def check_outputs(outputs: np.ndarray, observations: Tensor, policy: Any) -> None:
    """Check what the policy has returned.

    :param outputs: ``[N, m]``
    :param observations: ``[N, ...]``
    :raises ValueError: if an output is NaN, naming the observation or the parameters that it comes from
    """
    if not np.isnan(outputs).any():
        return
    if torch.isnan(observations).any():
        raise ValueError(f"an observation is NaN: {observations!r}")
    check_parameters(policy)
    raise ValueError(f"the policy's output is NaN: {outputs!r}")


def _check_buffer(buffer: Any) -> None:
    named = buffer.observations.items() if isinstance(buffer.observations, dict) else [("", buffer.observations)]
    for key, observations in named:
        if np.isnan(observations).any():
            raise ValueError(f"the rollout's observations{f' {key!r}' if key else ''} have a NaN")
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):
        if np.isnan(getattr(buffer, name)).any():
            raise ValueError(f"the rollout's {name} have a NaN")


def nan_parameters(policy: Any) -> list[str]:
    """Names of parameters that have a NaN."""
    return [name for name, parameter in policy.named_parameters() if torch.isnan(parameter).any()]
