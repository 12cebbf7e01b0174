"""Errors that name the first thing that is not finite, with its environment and step where they are known."""

from __future__ import annotations

from collections.abc import Iterator
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


def check_outputs(outputs: np.ndarray, observations: Tensor, policy: Any, step: int | None = None) -> None:
    """Check what the policy has returned.

    :param outputs: ``[N, m]``
    :param observations: ``[N, ...]``
    :param step: of the run, for the error
    :raises ValueError: if an output is NaN, naming the observation or the parameters that it comes from
    """
    if not np.isnan(outputs).any():
        return
    check_inputs(observations, policy, step)
    raise ValueError(f"the policy's output is NaN{_place(int(np.isnan(outputs).nonzero()[0][0]), step)}: {outputs!r}")


def check_inputs(observations: Any, policy: Any, step: int | None = None) -> None:
    """Check what the policy was given and consists of, where it has failed.

    :param observations: ``[N, ...]``, a tensor or a dictionary of tensors
    :param step: of the run, for the error
    :raises ValueError: if an observation or a parameter is not finite, naming it
    """
    for key, array in _named(observations):
        finite = torch.isfinite(array).flatten(1).all(dim=1)
        if not finite.all():
            env = int((~finite).nonzero()[0])
            raise ValueError(f"an observation{key} is NaN or infinite{_place(env, step)}: {array[env]!r}; {_MEND}")
    names = _broken_parameters(policy)
    if names:
        raise ValueError(f"the policy's parameters {', '.join(names)} are NaN or infinite")


def check_rollout(model: Any) -> None:
    """Check a rollout before anything is learned from it.

    Observations may be anything that the policy has made numbers of, and rewards anything that others have made advantages of.

    :param model: a PPO or an A2C
    :raises ValueError: if advantages, returns or log-probabilities are not finite, naming what they come from
    """
    buffer = model.rollout_buffer
    if all(np.isfinite(getattr(buffer, name)).all() for name in ("advantages", "returns", "log_probs")):
        return
    name, row, env = next(_not_finite(buffer))
    what, value, remedy = name, getattr(buffer, name)[row, env], _REMEDIES[name]
    if name in ("values", "log_probs"):  # which the policy has made of observations
        broken = _broken_parameters(model.policy)
        remedy += f". Parameters of the policy are not finite: {', '.join(broken)}" if broken else ""
        for key, observations in _named(buffer.observations):
            if not np.isfinite(observations[row, env]).all():
                what, value, remedy = f"observations{key}", observations[row, env], _MEND
    where = f" in row {row} of what is learned from"
    if getattr(buffer, name).shape == (model.n_steps, model.n_envs):  # no part of a rollout, nor taken out by a ``get()``
        where = _place(env, model.num_timesteps - (model.n_steps - 1 - row) * model.n_envs)
    raise ValueError(f"the rollout's {what} are NaN or infinite, first{where}: {value}; {remedy}")


def _not_finite(buffer: Any) -> Iterator[tuple[str, int, int]]:
    """Names of what is not finite in a rollout, causes first, and where the first of each lies."""
    for name in _REMEDIES:
        for row, env in np.argwhere(~np.isfinite(getattr(buffer, name)))[:1]:
            yield name, int(row), int(env)


_MEND = "mend the environment, or wrap it so that NaN and infinity never leave it"
_LOWER = "lower the learning rate, or scale rewards and observations of very large size"
_LOOK = "scale rewards of very large size, or look for what else has written into the buffer"
_REMEDIES = {
    "values": _LOWER,
    "log_probs": _LOWER,
    "rewards": _MEND,
    "advantages": _LOOK,
    "returns": _LOOK,
}


def _place(env: int, step: int | None) -> str:
    return f" in environment {env}" + ("" if step is None else f" at step {step}")


def _named(observations: Any) -> list[tuple[str, Any]]:
    """Observations by what their name adds, where they are of several."""
    return (
        [(f" {key!r}", part) for key, part in observations.items()] if isinstance(observations, dict) else [("", observations)]
    )


def _check_buffer(buffer: Any) -> None:
    for key, observations in _named(buffer.observations):
        if np.isnan(observations).any():
            raise ValueError(f"the rollout's observations{key} have a NaN")
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):
        if np.isnan(getattr(buffer, name)).any():
            raise ValueError(f"the rollout's {name} have a NaN")


def _broken_parameters(policy: Any) -> list[str]:
    """Names of parameters that have a NaN or an infinity."""
    return [name for name, parameter in policy.named_parameters() if not torch.isfinite(parameter).all()]


def nan_parameters(policy: Any) -> list[str]:
    """Names of parameters that have a NaN."""
    return [name for name, parameter in policy.named_parameters() if torch.isnan(parameter).any()]
