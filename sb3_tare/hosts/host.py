"""The algorithms whose policy a learned reward can train, and what the reward gradient needs to know of each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_tare.advantages.sums import DiscountedSums, discounted_sum
from sb3_tare.data.cutting import MIN_PART_STEPS
from sb3_tare.hosts.reader import RolloutReader
from sb3_tare.hypergradient.policy_gradients import PolicyGradients
from sb3_tare.policy.objectives import Objective, log_likelihood, surrogate
from sb3_tare.settings import RewardSettings
from sb3_tare.utils.checks import check_device

FEW_ROWS = 64
"""A rollout of fewer steps is warned about: a reward phase costs nearly as much for it as for 2,048."""


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


def check_rollout_host(settings: RewardSettings, host: Host, model: Any) -> None:
    """:raises ValueError: if the settings and the rollouts of ``model`` do not go together"""
    if settings.interleave and not host.has_epochs:
        raise ValueError(f"interleave=True needs a host that trains in epochs, which {type(model).__name__} does not")
    check_device(model.device)
    n_rows = model.n_steps * model.n_envs
    least = 2 * MIN_PART_STEPS if settings.validation == "split" else MIN_PART_STEPS
    if n_rows < least:
        raise ValueError(
            f"validation={settings.validation!r} needs rollouts of at least {least} steps, got n_steps={model.n_steps} "
            f"times {model.n_envs} environments: raise n_steps"
        )
    if n_rows < FEW_ROWS:
        warnings.warn(
            f"a rollout has only {n_rows} steps (n_steps={model.n_steps}, {model.n_envs} environments). The reward phase "
            "costs nearly as much for it as for 2,048, so that training may take many times as long, and so few steps say "
            "little about a held-out return: raise n_steps or the number of environments",
            stacklevel=3,
        )
