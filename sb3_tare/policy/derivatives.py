"""The derivatives that torch can take of a policy, and whether it needs other kernels for them.

Curvature and mixed products differentiate a policy's gradient once more. Fused attention and cuDNN's recurrent layers cannot
be differentiated twice, and have slower twins that can; a few layers have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sb3_tare.data.rollout import PolicySteps
from sb3_tare.policy.kernels import differentiable_kernels
from sb3_tare.utils.nested import map_tensors

N_PROBED = 2
"""Steps that a policy is tried on."""


class Derivatives(NamedTuple):
    """The way in which a policy is differentiated."""

    kernels: Callable[[], AbstractContextManager[Any]]
    """Context in which it is to be evaluated"""
    obstacle: str = ""
    """Layer without a second derivative, and torch's words for it; empty where there is none"""


def derivatives_of(policy: Any) -> Derivatives:
    """The way in which ``policy`` can be differentiated, tried on a few steps that nobody has taken."""
    steps = probed_steps(policy)
    for kernels in (nullcontext, differentiable_kernels):
        obstacle = _obstacle(policy, steps, kernels)
        if not obstacle:
            return Derivatives(kernels)
    return Derivatives(differentiable_kernels, obstacle)


def probed_steps(policy: Any) -> PolicySteps:
    """A few steps of observations drawn from the policy's space, and actions that it draws; generators stay as they are."""
    space = deepcopy(policy.observation_space)
    space.seed(0)
    observations, _ = policy.obs_to_tensor(_stacked([space.sample() for _ in range(N_PROBED)]))
    devices = [policy.device] if policy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), resting(policy), own_distribution(policy):
        distribution = policy.get_distribution(observations)
        has_drawn = hasattr(
            distribution, "exploration_mat"
        )  # gSDE's noise, perhaps of a policy that has moved to other numbers
        actions = distribution.get_actions(deterministic=has_drawn)
        return PolicySteps(observations, actions, distribution.log_prob(actions))


@contextmanager
def resting(module: nn.Module) -> Iterator[None]:
    """Put batch-norm statistics and dropout at rest; each submodule's mode is given back at the end."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training


@contextmanager
def unhooked(module: nn.Module) -> Iterator[None]:
    """Take the hooks off the module's parameters, which are there to see the host's gradients and no others, meanwhile."""
    hooks = {parameter: parameter._backward_hooks for parameter in module.parameters() if parameter._backward_hooks}
    for parameter in hooks:
        parameter._backward_hooks = None
    try:
        yield
    finally:
        for parameter, hooked in hooks.items():
            parameter._backward_hooks = hooked


@contextmanager
def own_distribution(policy: Any) -> Iterator[None]:
    """Give the policy's action distribution back as it was, without the graph that would keep the policy from being copied."""
    attributes = dict(vars(policy.action_dist))
    try:
        yield
    finally:
        vars(policy.action_dist).clear()
        vars(policy.action_dist).update(attributes)


def _stacked(samples: Sequence[Any]) -> Any:
    if isinstance(samples[0], dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack(samples)


def _obstacle(policy: Any, steps: PolicySteps, kernels: Callable[[], AbstractContextManager[Any]]) -> str:
    """The innermost module without a second derivative under ``kernels``; empty if log-probabilities have one."""
    calls: dict[nn.Module, Any] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls[module] = _leaves([list(args), kwargs])

    def log_probs() -> Tensor:
        return policy.get_distribution(steps.observations).log_prob(steps.actions)

    with resting(policy), own_distribution(policy), unhooked(policy), kernels(), torch.enable_grad():
        error = _lacking(log_probs, list(policy.parameters()))
        if error is None:
            return ""
        handles = [module.register_forward_pre_hook(note, with_kwargs=True) for module in policy.modules()]
        try:
            log_probs()
        finally:
            for handle in handles:
                handle.remove()
        for module in sorted(calls, key=lambda each: sum(1 for _ in each.modules())):
            args, kwargs = calls[module]
            if _lacking(partial(module.forward, *args, **kwargs), [*module.parameters(), *_tensors(calls[module])]):
                return f"{type(module).__name__} ({error})"
    return f"{type(policy).__name__} ({error})"


def _lacking(function: Callable[[], Any], inputs: Sequence[Tensor]) -> RuntimeError | None:
    """The error of torch that says that what ``function`` returns has no second derivative in ``inputs``."""
    inputs = [each for each in inputs if each.requires_grad]
    try:
        outputs = [each for each in _tensors(function()) if each.requires_grad]
        if outputs and inputs:
            first = torch.autograd.grad(_square(outputs), inputs, create_graph=True, allow_unused=True)
            moving = [each for each in first if each is not None and each.requires_grad]
            torch.autograd.grad(_square(moving), inputs, allow_unused=True)
    except RuntimeError as error:
        if "derivative for" in str(error) or "cudnn RNN backward" in str(error):
            return error
        raise
    return None


def _square(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum()


def _leaves(value: Any) -> Any:
    """Copies of all floating-point tensors, apart from their graph, and to be differentiated by."""
    return map_tensors(value, lambda each: each.detach().requires_grad_(each.is_floating_point()))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)
