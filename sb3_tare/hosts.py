"""The algorithms whose policy a learned reward can train, and what the reward gradient needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_tare.objectives import Objective, log_likelihood, surrogate
from sb3_tare.policy_gradients import PolicyGradients
from sb3_tare.returns import DiscountedSums, discounted_sum
from sb3_tare.rollouts import RolloutReader


@dataclass(frozen=True)
class Host:
    """An algorithm, subclasses included.

    :param algorithm: its class
    :param objective: what it maximises on a batch
    :param has_epochs: whether its ``train()`` passes ``n_epochs`` times over the rollout
    :param gradients_class: how its objective is differentiated
    :param reader_class: where its steps are read
    :param sums: how it computes discounted sums
    """

    algorithm: type[BaseAlgorithm]
    objective: Objective
    has_epochs: bool
    gradients_class: type[PolicyGradients] = PolicyGradients
    reader_class: type[RolloutReader] = RolloutReader
    sums: DiscountedSums = discounted_sum


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
    raise TypeError(
        f"a RewardLearner cannot learn a reward for {type(model).__name__}; supported: {supported} and their subclasses; "
        "for AWR there is TAREAWR"
    )
