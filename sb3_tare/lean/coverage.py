"""Policies and optimisers that are written out: those of exact types without hooks, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.optim import Adam, Optimizer
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


def policy_obstacles(
    policy: ActorCriticPolicy,
    modules: tuple[type[nn.Module], ...] = MODULES,
    distributions: tuple[type[Distribution], ...] = DISTRIBUTIONS,
    fixed: nn.Parameter | None = None,
) -> Iterator[str]:
    """Reasons why the passes through ``policy`` cannot be written out, most telling first; none if they can.

    :param modules: classes that are known, that of the policy first
    :param distributions: of actions, likewise
    :param fixed: a parameter of the policy that is not trained, if there is one
    """
    for module in policy.modules():
        yield from _module_obstacles(module, modules)
    if type(policy.action_dist) not in distributions or is_overridden(policy.action_dist):
        yield f"{type(policy.action_dist).__name__} is not written out"
    if isinstance(policy.observation_space, spaces.Dict) or is_image_space(policy.observation_space):
        yield "observations are images or dictionaries"
    if not _is_usual(policy):
        yield f"the layers are not as {modules[0].__name__} makes them"
    if not all(_is_plain(parameter) for parameter in policy.parameters() if parameter is not fixed):
        yield "a parameter is not a contiguous float32 tensor on the CPU that is trained, or it has hooks"
    yield from _global_obstacles()


def _module_obstacles(module: nn.Module, known: tuple[type[nn.Module], ...]) -> Iterator[str]:
    """Reasons why the passes through ``module`` cannot be written out, given the classes that are known; its own alone."""
    name = type(module).__name__
    if type(module) not in known:
        yield f"{name} is not written out"
    if is_overridden(module) or getattr(module, "_compiled_call_impl", None) is not None:
        yield f"{name} has a method that is overridden or compiled"
    if any(getattr(module, hooks) for hooks in MODULE_HOOKS):
        yield f"{name} has hooks"


def _global_obstacles() -> Iterator[str]:
    """Reasons why nothing can be written out as torch is now."""
    if any(getattr(torch_modules, f"_global{hooks}") for hooks in MODULE_HOOKS):
        yield "torch has global hooks on modules"
    if torch.get_default_dtype() != torch.float32 or torch.get_default_device().type != "cpu":
        yield "torch's default type is not float32 on the CPU"
    if torch.is_autocast_enabled("cpu"):
        yield "autocast is on"


def optimizer_obstacles(policy: ActorCriticPolicy) -> Iterator[str]:
    """Reasons why the steps of the policy's optimiser cannot be written out; none if they can."""
    optimizer, parameters = policy.optimizer, list(policy.parameters())
    yield from step_obstacles(optimizer, Adam, parameters)
    groups = optimizer.param_groups
    unusual = [name for name in OPTIONS if groups[0].get(name)]
    if unusual or any(isinstance(value, Tensor) for value in (groups[0]["lr"], *groups[0]["betas"])):
        yield f"Adam has options: {', '.join(unusual) or 'tensors'}"
    steps = {float(optimizer.state[parameter]["step"]) for parameter in parameters if parameter in optimizer.state}
    if len(optimizer.state) not in (0, len(groups[0]["params"])) or len(steps) > 1:
        yield "the optimizer is not as many steps behind each parameter"


def step_obstacles(optimizer: Any, known: type[Optimizer], parameters: Sequence[nn.Parameter]) -> Iterator[str]:
    """Reasons why ``optimizer`` may do more than step along the gradients of ``parameters`` as its class does.

    :param known: the class that is written out
    """
    if type(optimizer) is not known or is_overridden(optimizer):
        yield f"{type(optimizer).__name__} is not written out"
    hooks = [getattr(optimizer, name) for name in OPTIMIZER_HOOKS]
    if any(hooks) or any(getattr(torch_optimizers, name) for name in GLOBAL_OPTIMIZER_HOOKS):
        yield "the optimizer has hooks"
    groups = optimizer.param_groups
    if len(groups) != 1 or {*map(id, groups[0]["params"])} != {*map(id, parameters)}:
        yield "the optimizer does not have all parameters of the policy in one group"


def is_overridden(thing: Any) -> bool:
    """Whether an attribute of the object hides a method of its class."""
    return not _methods(type(thing)).isdisjoint(vars(thing))  # type: ignore[arg-type]


@cache
def _methods(kind: type) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if callable(getattr(kind, name, None)))


def _is_usual(policy: ActorCriticPolicy) -> bool:
    """Whether actor and critic are layers in a row with the policy's activation between, and all of its parameters."""
    extractor = policy.mlp_extractor
    for net in (extractor.policy_net, extractor.value_net):
        if [type(layer) for layer in net] != [nn.Linear, policy.activation_fn] * (len(net) // 2):
            return False
    affine = [parameter for maps in affine_maps(policy) for layer in maps for parameter in (layer.weight, layer.bias)]
    own = [policy.log_std] if type(policy.action_dist) is DiagGaussianDistribution else []
    return {*map(id, (*affine, *own))} == {*map(id, policy.parameters())} and len({*map(id, affine)}) == len(affine)


def _is_plain(parameter: nn.Parameter) -> bool:
    """Whether a parameter is a contiguous float32 tensor on the CPU that is trained, without hooks."""
    return (
        type(parameter) is nn.Parameter
        and parameter.dtype == torch.float32
        and parameter.device.type == "cpu"
        and parameter.requires_grad
        and parameter.is_contiguous()
        and not parameter._backward_hooks
        and not parameter._post_accumulate_grad_hooks  # type: ignore[attr-defined]
    )
