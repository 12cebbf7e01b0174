"""Ids of environments, which are easily written without the name of this package."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

OURS = "sb3_tare/"
"""How the ids of this package's environments begin"""


def check_id(env: Any) -> None:
    """Check that an environment is not one of this package's under half of its id, for which Gymnasium proposes another one.

    :param env: an id; anything else passes, and so do ids of which Gymnasium can tell what is wrong
    :raises gymnasium.error.NameNotFound: with the whole id
    """
    if not isinstance(env, str):
        return
    name = env.rpartition(":")[2]
    whole = OURS + name.rpartition("/")[2]
    if name not in gym.registry and whole in gym.registry:
        raise gym.error.NameNotFound(f"there is no environment {env!r}: this package's is {whole!r}")
