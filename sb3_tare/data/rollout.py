"""Steps of a host's rollout, as rows of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sb3_tare.data.episodes import Episodes, Part
from sb3_tare.utils.nested import Observations, map_tensors, take


@dataclass(frozen=True)
class Baseline:
    """What a critic says about the rows of a rollout, in reward units.

    :param values: ``[n]`` value of each row's observation
    :param next_values: ``[n]`` value of the observation that follows, zero where the row ended its episode
    :param bootstraps: ``[n]`` float64, discounted value of the terminal observation where a time limit ended the
        episode, else zero. SB3 adds it to the reward.
    """

    values: Tensor
    next_values: Tensor
    bootstraps: Tensor


DistributionParameters = list[dict[str, Tensor]]
"""Parameters of a policy's action distribution, a dictionary for each independent component."""


@dataclass(frozen=True)
class Unit:
    """In which learned rewards are expressed: the extrinsic reward's running mean and size when they were first used."""

    mean: float
    scale: float


@dataclass(frozen=True)
class Rollout:
    """Steps of a rollout, or of a part of one, as rows; all that the reward learner ever uses of them.

    :param observations: ``[n, ...]`` as the host's buffer holds them, the policy's input
    :param states: what the reward sees of them: ``[n, observation_dim]`` features that the policy's extractor made before
        its update, or the observations themselves if the reward has an extractor of its own
    :param actions: ``[n, ...]`` as the policy evaluates them
    :param encoded_actions: ``[n, action_dim]`` as the reward network sees them
    :param action_masks: ``[n, ...]``, or None on hosts without
    :param old_log_probs: ``[n]`` under the policy that acted
    :param extrinsic_rewards: ``[n]`` as the environment gave them (through ``VecNormalize``, if there is one), in its dtype
    :param episodes: its pieces of episodes
    :param extrinsic: the host's critic
    :param unit: of the learned rewards, kept so that a later reward step is one on the rewards that trained the policy
    :param learned: the second critic, or None
    :param behaviour: parameters of the action distributions under the policy that acted, where the curvature needs them
    """

    observations: Observations
    states: Observations
    actions: Tensor
    encoded_actions: Tensor
    action_masks: Tensor | None
    old_log_probs: Tensor
    extrinsic_rewards: Tensor
    episodes: Episodes
    extrinsic: Baseline
    unit: Unit = Unit(0.0, 1.0)
    learned: Baseline | None = None
    behaviour: DistributionParameters | None = None

    def select(self, part: Part) -> Rollout:
        """The rows of ``part``, one behind the other."""
        return self._map(lambda tensor: take(tensor, part.rows), episodes=part.episodes)

    def to(self, device: torch.device) -> Rollout:
        """The same on another device; the episodes' bookkeeping stays on the CPU."""
        return self._map(lambda tensor: tensor.to(device))

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors, for ``torch.load(weights_only=True)``."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> Rollout:
        """The rollout whose :meth:`state_dict` this is, on ``device``."""
        learned = state["learned"]
        rollout = cls(
            **{
                **state,
                "episodes": Episodes(**{name: value.cpu() for name, value in state["episodes"].items()}),
                "extrinsic": Baseline(**state["extrinsic"]),
                "unit": Unit(**state["unit"]),
                "learned": None if learned is None else Baseline(**learned),
            }
        )
        return rollout.to(device)

    def _map(self, function: Callable[[Tensor], Tensor], **changes: Any) -> Rollout:
        mapped = {name: map_tensors(getattr(self, name), function) for name in self.__dataclass_fields__ if name != "episodes"}
        return replace(self, **{**mapped, **changes})
