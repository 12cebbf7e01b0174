"""MiniGrid (Chevalier-Boisvert et al., 2018) for policies of Stable-Baselines3: its view as an array, and a convolution on it.

``TAREPPO("MlpPolicy", env, policy_kwargs=convolution())`` shares the convolution between policy, critic and learned reward, as
the paper does (appendix F). Only making a task needs MiniGrid itself, which the extra ``minigrid`` brings.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

HIGHEST_CODES = (10, 5, 3)
"""Highest codes of a cell: its object, the object's colour, and its state (a door's, or the direction of an agent)."""

SMALLEST_VIEW = 7
"""Cells along each side that the convolution needs; MiniGrid's own default."""


class PartialView(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """Shows the cells before the agent alone, ``[height, width, 3]`` codes, without direction and mission.

    MiniGrid declares the codes as a picture's bytes from 0 to 255, which SB3 would divide by 255 and move channels of. Here
    they have the bounds that they have, so that nothing takes them for a picture.

    :param env: of MiniGrid
    :raises ValueError: if its observations are not a dictionary with such an ``image``
    """

    def __init__(self, env: gym.Env) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        image = space.spaces.get("image") if isinstance(space, spaces.Dict) else None
        if image is None or image.shape is None or len(image.shape) != 3 or image.shape[-1] != len(HIGHEST_CODES):
            raise ValueError(
                "PartialView needs MiniGrid's own observations, a dictionary with an image [height, width, 3] of codes, "
                f"got {space}"
            )
        highest = np.broadcast_to(np.array(HIGHEST_CODES, dtype=np.uint8), image.shape)
        self.observation_space = spaces.Box(np.zeros_like(highest), highest, dtype=np.uint8)

    def observation(self, observation: dict[str, Any]) -> np.ndarray:
        """The view ``[height, width, 3]`` of a whole observation, uint8 codes."""
        return observation["image"]


class GridFeatures(BaseFeaturesExtractor):
    """Three convolutions of 16, 32 and 64 filters over 2 x 2 cells, and a max-pooling after the first.

    The network of lcswillems/rl-starter-files, on which the paper's experiments with MiniGrid are based. It takes codes as
    they are, not scaled.

    :param observation_space: of a :class:`PartialView`
    :raises ValueError: for another shape, as that of a picture, whose channels SB3 has moved to the front; and for a view of
        less than 7 x 7 cells
    """

    def __init__(self, observation_space: spaces.Box) -> None:
        shape = observation_space.shape
        if len(shape) != 3 or shape[-1] != len(HIGHEST_CODES) or min(shape[:2]) < SMALLEST_VIEW:
            raise ValueError(
                f"GridFeatures needs codes as sb3_tare.envs.minigrid.PartialView shows them, [height, width, 3] of at least "
                f"{SMALLEST_VIEW} x {SMALLEST_VIEW} cells, got {_told(observation_space)}"
            )
        height, width = ((cells - 1) // 2 - 2 for cells in shape[:2])
        super().__init__(observation_space, features_dim=64 * height * width)
        self.convolution = nn.Sequential(
            nn.Conv2d(len(HIGHEST_CODES), 16, kernel_size=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=2),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=2),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Features ``[n, features_dim]`` of ``[n, height, width, 3]`` codes."""
        return self.convolution(torch.movedim(observations, -1, 1))


def _told(space: spaces.Box) -> str:
    """A space in few words, though its bounds may be arrays."""
    return f"shape {list(space.shape)}, {space.dtype} from {space.low.min()} to {space.high.max()}"


def convolution() -> dict[str, Any]:
    """``policy_kwargs``: the convolution, then a hidden layer each for actor and critic, as in rl-starter-files."""
    return {"features_extractor_class": GridFeatures, "net_arch": [64]}
