"""Words that tell of objects on a few lines."""

from __future__ import annotations

import textwrap
from typing import Any

LONGEST = 1000
"""Characters of a description at most: less than ten lines of a terminal"""


def shortened(description: str) -> str:
    """The description on one line, its end left out where it is long."""
    return textwrap.shorten(description, LONGEST, placeholder=" ...")


def described(model: Any, *more: str) -> str:
    """The words for an algorithm of SB3: its policy, its environments and the steps that it has taken.

    :param more: words behind these
    """
    envs = "no environment" if model.env is None else f"n_envs={model.n_envs}"
    parts = [model.policy_class.__name__, envs, f"num_timesteps={model.num_timesteps}", *more]
    return shortened(f"{type(model).__name__}({', '.join(parts)})")
