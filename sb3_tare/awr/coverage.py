"""Policies and optimisers of AWR that are written out: those of exact types without hooks, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.distributions import MultiCategoricalDistribution
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn
from torch.optim import SGD

from sb3_tare.awr.normalizer import NormalizedExtractor, ObservationNormalizer
from sb3_tare.awr.policy import AWRPolicy, ScaledLinear
from sb3_tare.lean import coverage
from sb3_tare.lean.networks import ACTIVATIONS
from sb3_tare.utils.moments import RunningMoments

MODULES = (
    *(AWRPolicy, NormalizedExtractor, ObservationNormalizer, RunningMoments, ScaledLinear, FlattenExtractor, MlpExtractor),
    *(nn.Flatten, nn.Linear, nn.ModuleDict, nn.Sequential, *ACTIVATIONS),
)
DISTRIBUTIONS = (*coverage.DISTRIBUTIONS, MultiCategoricalDistribution)


def policy_obstacles(policy: AWRPolicy) -> Iterator[str]:
    """Reasons why the passes through ``policy`` cannot be written out, most telling first; none if they can."""
    return coverage.policy_obstacles(policy, MODULES, DISTRIBUTIONS, _fixed_log_std(policy))


def optimizer_obstacles(policy: AWRPolicy) -> Iterator[str]:
    """Reasons why the steps of the optimisers of ``policy`` cannot be written out; none if they can."""
    optimizers = ((policy.actor_optimizer, policy.actor_parameters()), (policy.critic_optimizer, policy.critic_parameters()))
    for optimizer, parameters in optimizers:
        yield from coverage.step_obstacles(optimizer, SGD, parameters)
        (group, *_) = optimizer.param_groups
        if not group.get("fused") or group["differentiable"] or isinstance(group["lr"], Tensor):
            yield "SGD is not fused, differentiable, or has a tensor as its step size"
        buffers = [optimizer.state.get(parameter, {}).get("momentum_buffer") for parameter in group["params"]]
        if len({buffer is None for buffer in buffers}) != 1:
            yield "some parameters have gathered momentum and others have not"


def _fixed_log_std(policy: Any) -> nn.Parameter | None:
    log_std = getattr(policy, "log_std", None)
    return None if log_std is None or log_std.requires_grad else log_std
