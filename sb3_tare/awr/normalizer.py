"""Running statistics of observations that freeze, and the feature extractor that applies them."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from sb3_tare.utils.nested import Observations

MIN_DEVIATION = 0.01
"""Least standard deviation to divide by, as in the authors' implementation of AWR."""


class RunningMoments(nn.Module):
    """Running mean and standard deviation of vectors, kept as buffers: saved, loaded and moved with the module.

    :param shape: of one observation, ``[...]``
    """

    mean: Tensor
    """``[...]`` mean that is subtracted, in single precision"""
    deviation: Tensor
    """``[...]`` standard deviation that is divided by, at least :data:`MIN_DEVIATION`"""
    variance: Tensor
    """``[...]`` float64"""
    exact_mean: Tensor
    """``[...]`` float64"""
    count: Tensor
    """scalar int64, vectors seen so far"""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))
        self.register_buffer("variance", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("exact_mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, vectors: Tensor) -> Tensor:
        """Standardise ``[n, ...]``; the identity before anything was seen."""
        return (vectors - self.mean) / self.deviation

    def update(self, vectors: Tensor) -> None:
        """Let ``[n, ...]`` vectors, n >= 1, enter the statistics (Chan et al., 1983)."""
        vectors = vectors.double()
        variance, mean = torch.var_mean(vectors, dim=0, correction=0)
        total = int(self.count) + len(vectors)
        new, old = len(vectors) / total, int(self.count) / total
        difference = mean - self.exact_mean
        self.variance.copy_(old * self.variance + new * variance + old * new * difference.square())
        self.exact_mean.add_(new * difference)
        self.count.fill_(total)
        self.mean.copy_(self.exact_mean)
        self.deviation.copy_(self.variance.sqrt().clamp(min=MIN_DEVIATION))


class ObservationNormalizer(nn.Module):
    """Standardises vectors of real numbers; images and discrete observations pass through.

    :param observation_space: Box, Dict or discrete
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__()
        named = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        self.moments = nn.ModuleDict(
            {_module_name(key): RunningMoments(space.shape) for key, space in named.items() if _is_vector(space)}  # type: ignore[arg-type]
        )

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
    return isinstance(space, spaces.Box) and space.dtype is not None and space.dtype.kind == "f" and not is_image_space(space)


def _module_name(key: str) -> str:
    """Names of submodules may hold no dot and not be those of ``ModuleDict``'s own methods."""
    return f"observation_{key.replace('.', '__')}"
