"""The feature extractor that a policy acts through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def in_evaluation(module: nn.Module) -> Iterator[None]:
    """Have a module in evaluation mode meanwhile; each of its parts is put back into its own."""
    training = [each for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True


def goes_on_learning(extractor: nn.Module) -> bool:
    """Whether what the extractor makes of an observation changes while its policy is trained."""
    return any(parameter.requires_grad for parameter in extractor.parameters())
