"""Policies that act in a rollout, written out where they can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from sb3_tare.lean import categorical, gaussian
from sb3_tare.lean.complaints import check_inputs, check_outputs
from sb3_tare.lean.coverage import affine_maps, features_of, policy_obstacles
from sb3_tare.lean.networks import ACTIVATIONS, affine, passed


class Acted(NamedTuple):
    """Actions of a policy in N environments, with their values and log-probabilities.

    :param actions: ``[N, ...]``, in the shape of the action space
    :param values: ``[N, 1]``
    :param log_probs: ``[N]``
    """

    actions: np.ndarray
    values: Tensor
    log_probs: Tensor


class Actor(Protocol):
    """A policy that acts in a rollout."""

    def act(self, observations: Any, step: int) -> Acted:
        """Draw actions for observations ``[N, ...]``, a tensor or a dictionary of tensors, at a step of the run."""

    def clipped(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[N, ...]`` as the environments take them."""


def actor_of(policy: ActorCriticPolicy, n_envs: int) -> Actor:
    """Actor of ``policy`` in ``n_envs`` environments, written out if it can be."""
    covered = next(policy_obstacles(policy), None) is None
    return WrittenOutActor(policy, n_envs) if covered else GeneralActor(policy)


class GeneralActor:
    """Draws actions by a policy's own ``forward``."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy

    def act(self, observations: Any, step: int) -> Acted:
        """Draw actions for observations ``[N, ...]``, a tensor or a dictionary of tensors, at a step of the run.

        :raises ValueError: if a distribution's parameter is NaN, naming the observation or parameter that it comes from
        """
        try:
            with torch.no_grad():
                actions, values, log_probs = self._policy(observations)
        except ValueError:  # torch's, which tells of the distribution alone
            check_inputs(observations, self._policy, step)
            raise
        return Acted(actions.cpu().numpy(), values, log_probs)

    def clipped(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[N, ...]`` as the environments take them."""
        space = self._policy.action_space
        if not isinstance(space, spaces.Box):
            return actions
        return self._policy.unscale_action(actions) if self._policy.squash_output else np.clip(actions, space.low, space.high)


class WrittenOutActor:
    """Draws actions from a policy as its ``forward`` does, with the same random numbers.

    It works in the memory of the policy's parameters, so that changes in the middle of a rollout are heeded.

    :param policy: one that is written out
    :param n_envs: N
    """

    def __init__(self, policy: ActorCriticPolicy, n_envs: int) -> None:
        self._policy, self._n_envs = policy, n_envs
        self._parameters = list(policy.parameters())
        space = policy.action_space
        self._bounds = (space.low, space.high) if isinstance(space, spaces.Box) else None
        self._shape: tuple[int, ...] = space.shape  # type: ignore[assignment]
        self._activation = ACTIVATIONS[policy.activation_fn].apply
        self._look()

    def act(self, observations: Tensor, step: int) -> Acted:
        """Draw actions for ``observations`` ``[N, ...]`` at a step of the run.

        :raises ValueError: if the policy's output is NaN, naming the observation or parameter that it comes from
        """
        if [parameter.data_ptr() for parameter in self._parameters] != self._places:
            self._look()
        features = features_of(self._policy, observations)
        outputs = passed(self._actor, self._activation, features).numpy()
        values = passed(self._critic, self._activation, features)
        check_outputs(outputs, observations, self._policy, step)
        actions, log_probs = self._draw(outputs)
        return Acted(actions.reshape(-1, *self._shape), values, log_probs)

    def clipped(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[N, ...]`` as the environments take them."""
        if self._bounds is None:
            return actions
        low, high = self._bounds
        return np.minimum(np.maximum(actions, low), high)

    def _look(self) -> None:
        """Find the parameters' memory, which ``parameter.data = ...`` moves."""
        policy = self._policy
        self._places = [parameter.data_ptr() for parameter in self._parameters]
        self._actor, self._critic = map(affine, affine_maps(policy))
        is_gaussian = hasattr(policy, "log_std")
        self._draw: Draw = GaussianDraw(policy.log_std.detach(), self._n_envs) if is_gaussian else draw_categorical


Draw = Callable[[np.ndarray], tuple[np.ndarray, Tensor]]
"""A map from outputs of the policy ``[N, m]`` to actions ``[N, ...]`` and their log-probabilities ``[N]``."""


class GaussianDraw:
    """Draws from Gaussians around means ``[N, A]``.

    :param log_std: ``[A]``, read in place at each call
    :param n_envs: N
    """

    def __init__(self, log_std: Tensor, n_envs: int) -> None:
        self._log_std, self._noise = log_std, torch.empty(n_envs, len(log_std))
        self._log_std_array, self._noise_array = log_std.numpy(), self._noise.numpy()
        self._known = b""

    def __call__(self, means: np.ndarray) -> tuple[np.ndarray, Tensor]:
        """Draw actions ``[N, A]`` and return them with their log-probabilities ``[N]``."""
        with np.errstate(all="ignore"):  # torch does not warn of infinities either
            actions = self.actions(means)
            return actions, gaussian.evaluate(means, self._spread, actions).log_probs

    def actions(self, means: np.ndarray) -> np.ndarray:
        """Draw actions ``[N, A]``."""
        self._noise.normal_()  # as Normal.rsample draws it
        current = self._log_std_array.tobytes()
        if current != self._known:  # cheaper than its exponential and logarithm anew at each step
            self._known, self._spread = current, gaussian.Spread.of(self._log_std)
        return means + self._noise_array * self._spread.std


def draw_categorical(logits: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """Draw actions ``[N, 1]`` from logits ``[N, K]`` and return them with their log-probabilities ``[N]``."""
    tensor = torch.from_numpy(logits)
    actions = categorical.sample(tensor)
    return actions.numpy(), categorical.evaluate(tensor, actions).log_probs
