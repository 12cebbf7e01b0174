"""The actions that AWR draws while it collects, written out where they can be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from sb3_tare.awr.coverage import policy_obstacles
from sb3_tare.awr.policy import AWRPolicy
from sb3_tare.lean import categorical
from sb3_tare.lean.actor import GaussianDraw
from sb3_tare.lean.complaints import check_outputs
from sb3_tare.lean.coverage import affine_maps, features_of
from sb3_tare.lean.networks import ACTIVATIONS, affine, passed
from sb3_tare.lean.unchecked import unchecked


class Sampler(Protocol):
    """A policy that acts in an iteration."""

    policy: AWRPolicy

    def draw(self, observations: Any) -> np.ndarray:
        """Draw actions ``[N, ...]`` for observations ``[N, ...]`` of the environments, as the policy draws them."""


def sampler_of(policy: AWRPolicy, n_envs: int, lean: bool) -> Sampler:
    """Sampler of ``policy`` in ``n_envs`` environments: if it is to be ``lean``, written out where that can be."""
    if not lean:
        return PlainSampler(policy)
    covered = next(policy_obstacles(policy), None) is None
    return WrittenOutSampler(policy, n_envs) if covered else UncheckedSampler(policy)


class PlainSampler:
    """Draws from the distribution that a policy's own methods make."""

    def __init__(self, policy: AWRPolicy) -> None:
        self.policy = policy

    @torch.no_grad()
    def draw(self, observations: Any) -> np.ndarray:
        """Draw actions ``[N, ...]`` for observations ``[N, ...]`` of the environments."""
        drawn = self.policy.get_distribution(self.policy.obs_to_tensor(observations)[0]).get_actions()
        return drawn.cpu().numpy().reshape(-1, *self.policy.action_space.shape)  # type: ignore[misc]


class UncheckedSampler(PlainSampler):
    """The same without torch's checks of the distribution's arguments: the memory refuses what is not finite."""

    def draw(self, observations: Any) -> np.ndarray:
        """Draw actions ``[N, ...]`` for observations ``[N, ...]`` of the environments."""
        with unchecked(self.policy):
            return super().draw(observations)


class WrittenOutSampler:
    """Draws actions as :class:`PlainSampler` does, with the same random numbers.

    It works in the memory of the policy's parameters and statistics, so that changes in the middle of an iteration are heeded.

    :param policy: one that is written out
    :param n_envs: N
    """

    def __init__(self, policy: AWRPolicy, n_envs: int) -> None:
        self.policy, self._n_envs = policy, n_envs
        self._activation = ACTIVATIONS[policy.activation_fn].apply
        self._shape: tuple[int, ...] = policy.action_space.shape  # type: ignore[assignment]
        moments: Any = next(iter(policy.normalizer.moments.children()), None)
        self._statistics = [] if moments is None else [moments.mean, moments.deviation]
        own = [policy.log_std] if isinstance(policy.action_space, spaces.Box) else []
        layers = affine_maps(policy)[0]
        self._tensors = [*self._statistics, *own, *(tensor for layer in layers for tensor in (layer.bias, layer.weight))]
        self._vectors = torch.empty(n_envs, *self._statistics[0].shape) if self._statistics else torch.empty(0)
        self._look()

    @torch.no_grad()
    def draw(self, observations: np.ndarray) -> np.ndarray:
        """Draw actions ``[N, ...]`` for ``observations`` ``[N, ...]``.

        :raises ValueError: if the policy's output is NaN, naming the observation or the parameters that it comes from
        """
        if [tensor.data_ptr() for tensor in self._tensors] != self._places:
            self._look()
        outputs = passed(self._layers, self._activation, self._features(observations)).numpy()
        check_outputs(outputs, torch.from_numpy(observations), self.policy)
        return self._draw(outputs).reshape(-1, *self._shape)

    def _look(self) -> None:
        """Find the memory of parameters and statistics, which ``parameter.data = ...`` moves."""
        policy = self.policy
        self._places = [tensor.data_ptr() for tensor in self._tensors]
        self._layers = affine(affine_maps(policy)[0])
        self._standardise = [tensor.numpy() for tensor in self._statistics]
        self._draw = _draw_of(policy, self._n_envs)

    def _features(self, observations: np.ndarray) -> Tensor:
        """Features ``[N, k]`` as the policy's extractor makes them."""
        if not self._statistics:
            return features_of(self.policy, torch.from_numpy(observations))
        vectors, (mean, deviation) = self._vectors.numpy(), self._standardise
        vectors[...] = observations
        vectors -= mean
        vectors /= deviation
        return self._vectors.flatten(1)


Draw = Callable[[np.ndarray], np.ndarray]
"""A map from outputs of the policy ``[N, m]`` to actions ``[N, ...]``."""


def _draw_of(policy: AWRPolicy, n_envs: int) -> Draw:
    space = policy.action_space
    if isinstance(space, spaces.Box):
        return GaussianDraw(policy.log_std.detach(), n_envs).actions
    return partial(_draw_choices, space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else None)


def _draw_choices(sizes: list[int] | None, logits: np.ndarray) -> np.ndarray:
    """Draw actions ``[N, A]`` from ``logits`` ``[N, K]``, those of actions of so many choices, or of one action."""
    tensor = torch.from_numpy(logits)
    parts = [tensor] if sizes is None else tensor.split(sizes, dim=1)
    return torch.cat([categorical.sample(part) for part in parts], dim=1).numpy()
