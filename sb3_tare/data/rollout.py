"""Steps of a host's rollout, as rows of tensors: the policy's side, the reward's side, and what critics say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from sb3_tare.data.episodes import Episodes, Selection
from sb3_tare.utils.nested import Observations, concatenated, map_tensors, take

DistributionParameters = list[dict[str, Tensor]]
"""Parameters of a policy's action distribution, a dictionary for each independent component."""

Steps = TypeVar("Steps", bound="PolicySteps | RewardSteps | Part")


@dataclass(frozen=True)
class Baseline:
    """Values that a critic gives the rows of a rollout, in reward units.

    :param values: ``[n]`` value of each row's observation
    :param next_values: ``[n]`` value of the observation that follows, zero where the row ended its episode
    :param bootstraps: ``[n]`` float64, discounted value of the terminal observation where a time limit ended the
        episode, else zero. SB3 adds it to the reward.
    """

    values: Tensor
    next_values: Tensor
    bootstraps: Tensor


@dataclass(frozen=True)
class Edits:
    """Edits by others of a host's own estimates: by a callback in place, or by a rollout buffer's own estimator.

    :param advantages: ``[n]`` float64, the buffer's advantages less the host's estimate of them
    :param returns: ``[n]`` float64, the buffer's returns less the sum of its advantages and values
    """

    advantages: Tensor
    returns: Tensor


@dataclass(frozen=True)
class Unit:
    """Unit of learned rewards: the extrinsic reward's running mean and size when they were first used."""

    mean: float
    scale: float


@dataclass(frozen=True)
class PolicySteps:
    """The policy's side of ``n`` steps, in any order: all that a host's objective reads.

    :param observations: ``[n, ...]`` as the host's buffer holds them, the policy's input
    :param actions: ``[n, ...]`` as the policy evaluates them
    :param old_log_probs: ``[n]`` under the policy that acted; None where the host's objective does not look at it
    :param action_masks: ``[n, ...]``, or None on hosts without
    :param behaviour: parameters of the action distributions under the policy that acted, where the curvature needs them
    :param features: ``[n, features_dim]`` that stand in place of the observations for the policy as it is now; None: the
        policy makes them
    """

    observations: Observations
    actions: Tensor
    old_log_probs: Tensor | None = None
    action_masks: Tensor | None = None
    behaviour: DistributionParameters | None = None
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def take(self, rows: Tensor) -> PolicySteps:
        """The given ``[m]`` rows, in their order."""
        return _mapped(self, lambda tensor: take(tensor, rows))


@dataclass(frozen=True)
class RewardSteps:
    """The reward's side of ``n`` steps, piece of an episode behind piece: all that a reward network reads.

    :param states: ``[n, observation_dim]`` features that the policy's extractor made before its update, or the observations
        themselves if the reward has an extractor of its own
    :param encoded_actions: ``[n, action_dim]`` as the reward network sees them
    :param rewards: ``[n]`` extrinsic, as the environment gave them (through ``VecNormalize``, if there is one), in its dtype
    :param episodes: the pieces
    :param original_rewards: ``[n]`` extrinsic, in the environment's own units
    :param unit: of the learned rewards, kept so that a later reward step is one on the rewards that trained the policy
    """

    states: Observations
    encoded_actions: Tensor
    rewards: Tensor
    episodes: Episodes
    original_rewards: Tensor
    unit: Unit = Unit(0.0, 1.0)

    def select(self, selection: Selection) -> RewardSteps:
        """The pieces of ``selection``, one behind the other."""
        return _mapped(self, lambda tensor: take(tensor, selection.rows), episodes=selection.episodes)

    def to(self, device: torch.device) -> RewardSteps:
        """The same on another device; the episodes' bookkeeping stays on the CPU."""
        return _mapped(self, lambda tensor: tensor.to(device))

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors, for ``torch.load(weights_only=True)``."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> RewardSteps:
        """The steps whose :meth:`state_dict` this is, on ``device``."""
        episodes = Episodes(**{name: value.cpu() for name, value in state["episodes"].items()})
        return cls(**{**state, "episodes": episodes, "unit": Unit(**state["unit"])}).to(device)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pieces of episodes that one update of a host trains on, with all that advantages are computed from.

    :param rows: ``[n]`` where the steps lie in what the host keeps, its rollout buffer or its memory
    :param reward: the reward's side of them
    :param policy_critic: what the host's critic says of them
    :param reward_critic: what the learner's critic, of learned returns, says of them; None without one
    :param edits: what others have made of the host's own advantages and returns; None where they are its own to the bit
    """

    rows: Tensor
    reward: RewardSteps
    policy_critic: Baseline
    reward_critic: Baseline | None = None
    edits: Edits | None = None

    def __len__(self) -> int:
        return self.reward.episodes.n_steps

    def select(self: SelfPart, selection: Selection) -> SelfPart:
        """The pieces of ``selection``, one behind the other."""
        return _mapped(self, lambda tensor: take(tensor, selection.rows), reward=self.reward.select(selection))

    def to(self: SelfPart, device: torch.device) -> SelfPart:
        """The same on another device; the episodes' bookkeeping stays on the CPU."""
        return _mapped(self, lambda tensor: tensor.to(device), reward=self.reward.to(device))


SelfPart = TypeVar("SelfPart", bound=Part)


@dataclass(frozen=True, kw_only=True)
class Rollout(Part):
    """A part with the policy's side of its steps, which gradients of the host's objective are taken on.

    :param policy: that side
    """

    policy: PolicySteps

    @classmethod
    def of(cls, part: Part, policy: PolicySteps) -> Rollout:
        """The ``part`` with ``policy`` beside it."""
        return cls(**{each.name: getattr(part, each.name) for each in fields(Part)}, policy=policy)

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors, for ``torch.load(weights_only=True)``."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], device: torch.device) -> Rollout:
        """The rollout whose :meth:`state_dict` this is, on ``device``."""
        reward_critic, edits = state["reward_critic"], state.get("edits")  # older files know of no edits
        rollout = cls(
            rows=state["rows"],
            reward=RewardSteps.from_state_dict(state["reward"], device),
            policy_critic=Baseline(**state["policy_critic"]),
            reward_critic=None if reward_critic is None else Baseline(**reward_critic),
            edits=None if edits is None else Edits(**edits),
            policy=PolicySteps(**state["policy"]),
        )
        return rollout.to(device)


def joined(rollouts: Sequence[Rollout]) -> Rollout:
    """Rollouts one behind the other, with learned rewards and their values in the unit of the last.

    Pieces of episodes stay cut where a rollout's edge cut them; rows in what the host keeps mean nothing any more.
    """
    unit = rollouts[-1].reward.unit
    return concatenated([_in_unit(rollout, unit) for rollout in rollouts])


def _in_unit(rollout: Rollout, unit: Unit) -> Rollout:
    own, critic = rollout.reward.unit.scale, rollout.reward_critic
    if critic is not None and own > 0:  # else its values are zero in any unit
        critic = map_tensors(critic, lambda values: values * (unit.scale / own))
    return replace(rollout, reward=replace(rollout.reward, unit=unit), reward_critic=critic)


def _mapped(steps: Steps, function: Callable[[Tensor], Tensor], **given: Any) -> Steps:
    """``function`` of every tensor of ``steps``, but for episodes, and for the fields that are ``given``."""
    kept = {"episodes", *given}
    mapped = {each.name: map_tensors(getattr(steps, each.name), function) for each in fields(steps) if each.name not in kept}
    return replace(steps, **{**mapped, **given})
