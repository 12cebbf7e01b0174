"""The feature extractor that a policy acts through."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

PARTS = ("actor", "q_net", "quantile_net")
"""Parts of an off-policy algorithm's policy that choose actions: of SAC, TD3, TQC and CrossQ, of DQN, of QR-DQN."""


def acting_extractor(policy: Any) -> BaseFeaturesExtractor:
    """The extractor of the features from which ``policy`` chooses actions."""
    extractor = getattr(policy, "pi_features_extractor", None) or getattr(policy, "features_extractor", None)
    if extractor is not None:
        return extractor
    part = next(getattr(policy, name) for name in PARTS if hasattr(policy, name))
    return part.features_extractor


def goes_on_learning(extractor: nn.Module) -> bool:
    """Whether what the extractor makes of an observation changes while its policy is trained."""
    return any(parameter.requires_grad for parameter in extractor.parameters())
