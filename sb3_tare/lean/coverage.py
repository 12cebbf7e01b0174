"""Policies and optimisers that are written out: those of exact types without hooks, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.optim import Adam
from torch.optim import optimizer as torch_optimizers

from sb3_tare.lean.networks import ACTIVATIONS

MODULES = (ActorCriticPolicy, FlattenExtractor, MlpExtractor, nn.Flatten, nn.Linear, nn.Sequential, *ACTIVATIONS)
DISTRIBUTIONS = (DiagGaussianDistribution, CategoricalDistribution)
MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OPTIMIZER_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
GLOBAL_OPTIMIZER_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
OPTIONS = ("weight_decay", "amsgrad", "maximize", "capturable", "differentiable", "foreach", "fused")


def affine_maps(policy: ActorCriticPolicy) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """Affine layers of the actor and of the critic, each from the features on."""
    hidden = (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)
    actor, critic = ([layer for layer in net if isinstance(layer, nn.Linear)] for net in hidden)
    return [*actor, policy.action_net], [*critic, policy.value_net]  # type: ignore[list-item]


def features_of(policy: ActorCriticPolicy, observations: Tensor) -> Tensor:
    """Features ``[n, k]`` of observations ``[n, ...]``: flat float32, one-hot where discrete; no parameter takes part."""
    if isinstance(policy.observation_space, spaces.Box):
        return observations.float().flatten(1)
    return BaseModel.extract_features(policy, observations, policy.features_extractor)


def policy_obstacles(policy: ActorCriticPolicy) -> Iterator[str]:
    """Reasons why the passes through ``policy`` cannot be written out, most telling first; none if they can."""
    for module in policy.modules():
        yield from _module_obstacles(module)
    if type(policy.action_dist) not in DISTRIBUTIONS or _overridden(policy.action_dist):
        yield f"{type(policy.action_dist).__name__} is not written out"
    if isinstance(policy.observation_space, spaces.Dict) or is_image_space(policy.observation_space):
        yield "observations are images or dictionaries"
    if not _is_usual(policy):
        yield "the layers are not as ActorCriticPolicy makes them"
    if not all(_is_plain(parameter) for parameter in policy.parameters()):
        yield "a parameter is not a contiguous float32 tensor on the CPU that is trained, or it has hooks"
    yield from _global_obstacles()


def _module_obstacles(module: nn.Module) -> Iterator[str]:
    name = type(module).__name__
    if type(module) not in MODULES:
        yield f"{name} is not written out"
    if _overridden(module) or getattr(module, "_compiled_call_impl", None) is not None:
        yield f"{name} has a method that is overridden or compiled"
    if any(getattr(module, hooks) for hooks in MODULE_HOOKS):
        yield f"{name} has hooks"


def _global_obstacles() -> Iterator[str]:
    if any(getattr(torch_modules, f"_global{hooks}") for hooks in MODULE_HOOKS):
        yield "torch has global hooks on modules"
    if torch.get_default_dtype() != torch.float32 or torch.get_default_device().type != "cpu":
        yield "torch's default type is not float32 on the CPU"
    if torch.is_autocast_enabled("cpu"):
        yield "autocast is on"


def optimizer_obstacles(policy: ActorCriticPolicy) -> Iterator[str]:
    """Reasons why the steps of the policy's optimiser cannot be written out; none if they can."""
    optimizer = policy.optimizer
    if type(optimizer) is not Adam or _overridden(optimizer):
        yield f"{type(optimizer).__name__} is not written out"
    hooks = [getattr(optimizer, name) for name in OPTIMIZER_HOOKS]
    if any(hooks) or any(getattr(torch_optimizers, name) for name in GLOBAL_OPTIMIZER_HOOKS):
        yield "the optimizer has hooks"
    groups = optimizer.param_groups
    if len(groups) != 1 or {*map(id, groups[0]["params"])} != {*map(id, policy.parameters())}:
        yield "the optimizer does not have all parameters of the policy in one group"
    unusual = [name for name in OPTIONS if groups[0].get(name)]
    if unusual or any(isinstance(value, Tensor) for value in (groups[0]["lr"], *groups[0]["betas"])):
        yield f"Adam has options: {', '.join(unusual) or 'tensors'}"
    steps = {float(optimizer.state[parameter]["step"]) for parameter in policy.parameters() if parameter in optimizer.state}
    if len(optimizer.state) not in (0, len(groups[0]["params"])) or len(steps) > 1:
        yield "the optimizer is not as many steps behind each parameter"


def _overridden(thing: Any) -> bool:
    """Whether an attribute of the object hides a method of its class."""
    return not _methods(type(thing)).isdisjoint(vars(thing))  # type: ignore[arg-type]


@cache
def _methods(kind: type) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))


def _is_usual(policy: ActorCriticPolicy) -> bool:
    extractor = policy.mlp_extractor
    for net in (extractor.policy_net, extractor.value_net):
        if [type(layer) for layer in net] != [nn.Linear, policy.activation_fn] * (len(net) // 2):
            return False
    affine = [parameter for maps in affine_maps(policy) for layer in maps for parameter in (layer.weight, layer.bias)]
    own = [policy.log_std] if type(policy.action_dist) is DiagGaussianDistribution else []
    return {*map(id, (*affine, *own))} == {*map(id, policy.parameters())} and len({*map(id, affine)}) == len(affine)


def _is_plain(parameter: nn.Parameter) -> bool:
    return (
        type(parameter) is nn.Parameter
        and parameter.dtype == torch.float32
        and parameter.device.type == "cpu"
        and parameter.requires_grad
        and parameter.is_contiguous()
        and not parameter._backward_hooks
        and not parameter._post_accumulate_grad_hooks  # type: ignore[attr-defined]
    )
