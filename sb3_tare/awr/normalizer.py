"""Running statistics of observations that freeze, and the feature extractor that applies them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from sb3_tare.utils.moments import MIN_DEVIATION, RunningMoments
from sb3_tare.utils.nested import Observations


class ObservationNormalizer(nn.Module):
    """Standardises every Box that is no image; images and discrete observations pass through.

    :param observation_space: Box, Dict or discrete
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__()
        named = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        boxes: dict[str, Any] = {_module_name(key): space for key, space in named.items() if _is_vector(space)}
        self.moments = nn.ModuleDict({name: _moments_for(box) for name, box in boxes.items()})
        self._integers = {name: box.shape for name, box in boxes.items() if _is_whole(box)}

    def forward(self, observations: Observations) -> Observations:
        """Standardise those of preprocessed observations ``[n, ...]`` that are vectors."""
        if isinstance(observations, dict):
            return {key: self._standardise(_module_name(key), values) for key, values in observations.items()}
        return self._standardise(_module_name(""), observations)

    def update(self, observations: Observations) -> None:
        """Let ``[n, ...]`` observations enter the statistics."""
        named = observations if isinstance(observations, dict) else {"": observations}
        for key, values in named.items():
            if _module_name(key) in self.moments:
                moments = self.moments[_module_name(key)]
                assert isinstance(moments, RunningMoments)
                moments.update(values)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take statistics over; for whole numbers older policies have none, and go on seeing them as they are."""
        for name, shape in self._integers.items():
            for key, value in RunningMoments(shape).state_dict(prefix=f"{prefix}moments.{name}.").items():
                state_dict.setdefault(key, value)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _standardise(self, name: str, values: Tensor) -> Tensor:
        return self.moments[name](values) if name in self.moments else values


class NormalizedExtractor(BaseFeaturesExtractor):
    """A feature extractor behind a normaliser, which others may share.

    :param extractor: of SB3 or the user's
    :param normalizer: applied to the preprocessed observations
    """

    def __init__(self, extractor: BaseFeaturesExtractor, normalizer: ObservationNormalizer) -> None:
        super().__init__(extractor._observation_space, extractor.features_dim)
        self.extractor = extractor
        self.normalizer = normalizer

    def forward(self, observations: Observations) -> Tensor:
        """Features ``[n, features_dim]`` of preprocessed observations ``[n, ...]``."""
        return self.extractor(self.normalizer(observations))


def _is_vector(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and not is_image_space(space)


def _is_whole(box: spaces.Box) -> bool:
    return box.dtype is not None and box.dtype.kind != "f"


def _moments_for(box: spaces.Box) -> RunningMoments:
    """Statistics to begin with: none, or of whole numbers, which can be of any size, those of even chances."""
    moments = RunningMoments(box.shape)
    if _is_whole(box):
        low, high = (torch.from_numpy(bound.astype(np.float64)) for bound in (box.low, box.high))
        moments.mean.copy_((low + high) / 2.0)
        moments.deviation.copy_(((high - low) / math.sqrt(12.0)).clamp(min=MIN_DEVIATION))
    return moments


def _module_name(key: str) -> str:
    """Names of submodules may hold no dot and not be those of ``ModuleDict``'s own methods."""
    return f"observation_{key.replace('.', '__')}"
