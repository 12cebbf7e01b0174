"""Names of the entries of observations, where an environment tells them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from gymnasium import spaces


def observation_names(env: Any, space: spaces.Space[Any]) -> list[str]:
    """Names of an observation's entries, or none where the environment does not tell them.

    MuJoCo's environments, from version 5 on, tell of what their observations consist (``observation_structure``): positions
    and velocities get the names of their joints.

    :param env: unwrapped
    :param space: of its observations, as wrappers leave them; where they have changed their number, there are no names
    """
    told = list(_told(env)) if hasattr(env, "observation_structure") else []
    return told if space.shape == (len(told),) else []


def _told(env: Any) -> Iterator[str]:
    model, structure = env.model, dict(env.observation_structure)
    skipped = structure.pop("skipped_qpos", 0)
    for kind, n in structure.items():
        if kind == "qpos":
            yield from _of_joints("position", model, [*model.jnt_qposadr, model.nq])[skipped:]
        elif kind == "qvel":
            yield from _of_joints("velocity", model, [*model.jnt_dofadr, model.nv])
        else:
            yield from (f"{kind} {entry}" for entry in range(n))


def _of_joints(kind: str, model: Any, begins: list[int]) -> list[str]:
    """Names of the coordinates that begin at these addresses, joint by joint; a joint may have several."""
    named = []
    for joint, (begin, end) in enumerate(pairwise(map(int, begins))):
        name = f"{kind} of {model.joint(joint).name or f'joint {joint}'}"
        named += [name] if end == begin + 1 else [f"{name}, {coordinate}" for coordinate in range(end - begin)]
    return named
