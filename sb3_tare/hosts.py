"""The algorithms whose policy a learned reward can train, and what the reward gradient needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_tare.objectives import Objective, log_likelihood, surrogate


@dataclass(frozen=True)
class Host:
    """An on-policy algorithm, subclasses included.

    :param algorithm: its class
    :param objective: what it maximises on a batch
    :param has_epochs: whether its ``train()`` passes ``n_epochs`` times over the rollout
    """

    algorithm: type[OnPolicyAlgorithm]
    objective: Objective
    has_epochs: bool


HOSTS = (
    Host(PPO, surrogate, has_epochs=True),
    Host(MaskablePPO, surrogate, has_epochs=True),
    Host(TRPO, surrogate, has_epochs=False),
    Host(A2C, log_likelihood, has_epochs=False),
)


def host_of(model: Any) -> Host:
    """:raises TypeError: if no reward can be learned for ``model``"""
    for host in HOSTS:
        if isinstance(model, host.algorithm):
            return host
    supported = ", ".join(host.algorithm.__name__ for host in HOSTS)
    raise TypeError(f"a reward cannot be learned for {type(model).__name__}; supported: {supported} and their subclasses")
