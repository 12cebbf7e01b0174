"""Choice of the loops that run a PPO, from exact types and from the absence of hooks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from sb3_tare.lean import recording
from sb3_tare.lean.coverage import optimizer_obstacles, policy_obstacles
from sb3_tare.lean.minibatches import plain_batch_size

WRITTEN_OUT, GENERAL, SB3 = "written out", "general", "Stable-Baselines3"


class HostLoop(NamedTuple):
    """The loops by which an algorithm collects rollouts and updates its policy.

    :param rollout: ``"written out"``; ``"general"``, around the policy's or the buffer's own methods; or
        ``"Stable-Baselines3"``
    :param update: likewise
    :param reason: why not all is written out; empty if it is
    """

    rollout: str
    update: str
    reason: str

    def __str__(self) -> str:
        return f"rollouts: {self.rollout}, updates: {self.update}" + (f" ({self.reason})" if self.reason else "")


def host_loop(model: Any) -> HostLoop:
    """Loops for ``model`` as it is now.

    :param model: a :class:`~sb3_tare.lean.LeanPPO`
    """
    obstacle = sb3_obstacle(model)
    if obstacle is not None:
        return HostLoop(SB3, SB3, obstacle)
    foreign = next(_foreign_numbers(model), None)
    other_update = GENERAL if foreign is None else SB3
    policy_reason = next(policy_obstacles(model.policy), None)
    if policy_reason is not None:
        return HostLoop(GENERAL, other_update, foreign or policy_reason)
    rollout_reason = next(_recording_obstacles(model), None)
    update_reason = foreign or next(_update_obstacles(model), None)
    return HostLoop(
        WRITTEN_OUT if rollout_reason is None else GENERAL,
        WRITTEN_OUT if update_reason is None else other_update,
        "; ".join(dict.fromkeys(filter(None, (rollout_reason, update_reason)))),
    )


def rollout_loop(model: Any) -> HostLoop:
    """Loops for ``model`` as it is now, if its update is always SB3's own.

    :param model: a :class:`~sb3_tare.lean.LeanA2C`
    """
    obstacle = sb3_obstacle(model)
    if obstacle is not None:
        return HostLoop(SB3, SB3, obstacle)
    reason = next(chain(policy_obstacles(model.policy), _recording_obstacles(model)), None)
    own = f"updates of {type(model).__name__} are not written out"
    return HostLoop(WRITTEN_OUT if reason is None else GENERAL, SB3, reason or own)


def sb3_obstacle(model: Any) -> str | None:
    """Reason why ``model`` takes SB3's own loops; None if it takes leaner ones."""
    if not model.lean:
        return "lean=False"
    return None if isinstance(model.policy, ActorCriticPolicy) else f"{type(model.policy).__name__} is no ActorCriticPolicy"


def _recording_obstacles(model: Any) -> Iterator[str]:
    if not recording.is_written_out(model.rollout_buffer):
        yield f"rollouts are kept by {type(model.rollout_buffer).__name__}"


def _foreign_numbers(model: Any) -> Iterator[str]:
    """Reasons why losses cannot be written out, whatever the policy."""
    if not all(parameter.dtype == torch.float32 and parameter.device.type == "cpu" for parameter in model.policy.parameters()):
        yield "the policy does not compute in float32 on the CPU"
    if any(
        getattr(model.rollout_buffer, name).dtype != "float32" for name in ("values", "log_probs", "advantages", "returns")
    ):
        yield "advantages or returns are not float32"
    if torch.is_autocast_enabled("cpu"):
        yield "autocast is on"


def _update_obstacles(model: Any) -> Iterator[str]:
    buffer = model.rollout_buffer
    if plain_batch_size(buffer, model.batch_size) is None:
        yield f"{type(buffer).__name__} takes its mini-batches out itself"
    yield from optimizer_obstacles(model.policy)
