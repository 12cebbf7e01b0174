"""A policy that acts in a rollout, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn import functional as F

from sb3_tare.lean import categorical, gaussian
from sb3_tare.lean.complaints import check_outputs
from sb3_tare.lean.coverage import affine_maps, features_of


class Acted(NamedTuple):
    """What a policy makes of the observations of N environments.

    :param actions: ``[N, ...]``, in the shape of the action space
    :param values: ``[N, 1]``
    :param log_probs: ``[N]``
    """

    actions: np.ndarray
    values: Tensor
    log_probs: Tensor


class Actor:
    """Draws actions from a policy as its ``forward`` does, with the same random numbers.

    :param policy: one that is written out; its parameters are read at each step
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.policy = policy
        self._actor, self._critic = ([(layer.weight, layer.bias) for layer in maps] for maps in affine_maps(policy))
        self._activation = torch.tanh_ if policy.activation_fn is nn.Tanh else torch.relu_
        space = policy.action_space
        self._bounds = (space.low, space.high) if isinstance(space, spaces.Box) else None
        self._shape: tuple[int, ...] = space.shape  # type: ignore[assignment]
        self._draw = self._gaussian if hasattr(policy, "log_std") else self._categorical

    @torch.no_grad()
    def act(self, observations: Tensor) -> Acted:
        """Draw actions for ``observations`` ``[N, ...]``.

        :raises ValueError: if an observation or a parameter is NaN
        """
        features = features_of(self.policy, observations)
        outputs, values = self._pass(self._actor, features), self._pass(self._critic, features)
        check_outputs(outputs.numpy(), observations, self.policy)
        actions, log_probs = self._draw(outputs)
        return Acted(actions.reshape(-1, *self._shape), values, log_probs)

    def clipped(self, actions: np.ndarray) -> np.ndarray:
        """Actions ``[N, ...]`` as the environments take them."""
        if self._bounds is None:
            return actions
        low, high = self._bounds
        return np.minimum(np.maximum(actions, low), high)

    def _pass(self, layers: Sequence[tuple[Tensor, Tensor]], hidden: Tensor) -> Tensor:
        (*inner, (weight, bias)) = layers
        for inner_weight, inner_bias in inner:
            hidden = self._activation(F.linear(hidden, inner_weight, inner_bias))
        return F.linear(hidden, weight, bias)

    def _gaussian(self, means: Tensor) -> tuple[np.ndarray, Tensor]:
        spread = gaussian.Spread.of(self.policy.log_std)
        actions = gaussian.sample(means.numpy(), spread)
        return actions, gaussian.evaluate(means.numpy(), spread, actions).log_probs

    def _categorical(self, logits: Tensor) -> tuple[np.ndarray, Tensor]:
        actions = categorical.sample(logits)
        return actions.numpy(), categorical.evaluate(logits, actions).log_probs
