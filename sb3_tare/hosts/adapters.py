"""The adapter that an algorithm needs."""

from __future__ import annotations

from typing import Any

from sb3_tare.hosts.off_policy import KINDS, OffPolicyHost
from sb3_tare.hosts.on_policy import OnPolicyHost


def adapter_of(model: Any, policy_features: bool, chunk_rows: int | None = None) -> OnPolicyHost | OffPolicyHost:
    """The adapter of an algorithm of Stable-Baselines3 that knows no learned reward.

    :param model: the algorithm
    :param policy_features: as for every :class:`~sb3_tare.hosts.host.AnyHost`
    :param chunk_rows: likewise
    :raises TypeError: if no reward can be learned for ``model``
    """
    return (OffPolicyHost if isinstance(model, KINDS) else OnPolicyHost)(model, policy_features, chunk_rows)
