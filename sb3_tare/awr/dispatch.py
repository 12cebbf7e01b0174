"""Choice of the loops that run an AWR, from exact types and from the absence of hooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sb3_tare.awr.coverage import optimizer_obstacles, policy_obstacles
from sb3_tare.lean.dispatch import GENERAL, WRITTEN_OUT, HostLoop

PLAIN = "plain"
LOSSES = ("actor_loss", "critic_loss", "_penalties", "_values", "_observations")
"""Methods of an AWR that its steps are written out from."""


def host_loop(model: Any) -> HostLoop:
    """Loops for ``model``, an AWR, as it is now.

    Beside the names of :class:`~sb3_tare.lean.dispatch.HostLoop`, ``"plain"``: the policy's own methods and autograd,
    observations read from the memory for each mini-batch.
    """
    if not model.lean:
        return HostLoop(PLAIN, PLAIN, "lean=False")
    policy_reason = next(policy_obstacles(model.policy), None)
    if policy_reason is not None:
        return HostLoop(GENERAL, GENERAL, policy_reason)
    update_reason = next(_update_obstacles(model), None)
    return HostLoop(WRITTEN_OUT, WRITTEN_OUT if update_reason is None else GENERAL, update_reason or "")


def _update_obstacles(model: Any) -> Iterator[str]:
    for name in LOSSES:
        if getattr(model, name).__module__ != f"{__package__}.phases":
            yield f"{type(model).__name__} has a method {name} of its own"
    yield from optimizer_obstacles(model.policy)
