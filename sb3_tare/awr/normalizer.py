"""Running statistics of observations that freeze, and the feature extractor that applies them."""

from __future__ import annotations

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from sb3_tare.utils.moments import RunningMoments
from sb3_tare.utils.nested import Observations


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
