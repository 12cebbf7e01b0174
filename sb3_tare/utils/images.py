"""Images as environments give them, channel last, and as Stable-Baselines3 shows them to policies, channel first."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage


def channel_first_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of observations as SB3 shows them to a policy, in a ``VecTransposeImage`` where they are images.

    :param space: of an environment
    """
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channel_first_space(each) for key, each in space.spaces.items()})
    if not is_image_space(space) or is_image_space_channels_first(space):  # type: ignore[arg-type]
        return space
    return VecTransposeImage.transpose_space(space)  # type: ignore[arg-type]


def channel_first(observations: Any, space: spaces.Space[Any]) -> Any:
    """Observations ``[n, ...]`` with images channel first; those that are so already, and all else, as they are.

    :param observations: an array, or a dictionary of arrays
    :param space: of the observations as a policy sees them
    """
    if isinstance(observations, dict):
        assert isinstance(space, spaces.Dict)
        return {key: channel_first(each, space[key]) if key in space.spaces else each for key, each in observations.items()}
    shape = np.shape(observations)[1:]
    if len(shape) != 3 or shape == space.shape or not is_image_space(space) or (shape[2], *shape[:2]) != space.shape:
        return observations
    return np.moveaxis(observations, -1, 1)
