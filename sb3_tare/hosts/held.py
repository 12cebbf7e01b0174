"""Features of a policy's extractor, held fixed while gradients are taken of the layers behind it.

A convolution costs far more than the layers behind it, and a reward phase passes through the policy some sixty times. With its
features held fixed images pass once for each update of the policy, and gradients are those of the layers behind alone.
"""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space

IMAGE_ROWS = 256
"""Images that pass at a time where nothing else is said: a mini-batch of SB3's settings for Atari, which fits anyway."""


def sees_images(space: spaces.Space) -> bool:
    """Whether observations are images as SB3 takes them, or hold some."""
    if isinstance(space, spaces.Dict):
        return any(is_image_space(part) for part in space.spaces.values())
    return is_image_space(space)


def rows_at_a_time(setting: int | None, space: spaces.Space) -> int | None:
    """Rows that pass at a time by the setting ``chunk_rows``; None: all of them."""
    return IMAGE_ROWS if setting is None and sees_images(space) else setting


def holds_features(setting: bool | None, policy: Any) -> bool:
    """Whether the setting ``hold_features`` holds the features of ``policy`` fixed; None: where it sees images, if it can.

    :raises ValueError: if it should, and the policy makes its action distributions in a way of its own
    """
    theirs = (ActorCriticPolicy.get_distribution, MaskableActorCriticPolicy.get_distribution)
    can = getattr(type(policy), "get_distribution", None) in theirs
    if setting and not can:
        raise ValueError(
            f"hold_features=True needs a policy with the get_distribution() of SB3, which {type(policy).__name__} overrides: "
            "leave it out"
        )
    return can and (sees_images(policy.observation_space) if setting is None else setting)
