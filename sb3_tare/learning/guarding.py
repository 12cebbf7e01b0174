"""A guard of the task: what the policy is paid is the learned reward as far as it is trusted, and the given one beyond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb3_tare.data.rollout import RewardSteps
from sb3_tare.hosts.host import Host
from sb3_tare.learning.metrics import Metrics
from sb3_tare.rewards.running_scale import RunningScale
from sb3_tare.rewards.trust import Trust


class Guard:
    """Trust in the learned reward, and the extrinsic one in the scale of its own discounted returns.

    :param full: correlation with the totals of new episodes from which on the learned reward is paid alone
    :param host: gives the discount and the number of environments
    """

    def __init__(self, full: float, host: Host[Any]) -> None:
        self.trust = Trust(full)
        self.scale = RunningScale(host.model.n_envs, host.gamma)

    def observe(self, steps: RewardSteps, environments: Tensor, discount: float) -> None:
        """Measure the size of a rollout's extrinsic rewards.

        :param environments: ``[E]``, where each piece of an episode comes from
        :param discount: the host's
        """
        self.scale.discount = discount
        self.scale.update(steps.original_rewards, steps.episodes, environments)

    def judge(self, predicted: Tensor, totals: Tensor, metrics: Metrics) -> None:
        """Learn from ``predicted`` and paid ``totals`` ``[E]`` of episodes that the reward has not been fitted to."""
        self.trust.add(predicted, totals)
        metrics.note_finite(decomposition_correlation=self.trust.correlation)

    def mixed(self, learned: Tensor, extrinsic: Tensor, clip: float) -> Tensor:
        """Rewards ``[n]`` to be paid.

        :param learned: ``[n]``, in the scale of their discounted returns
        :param extrinsic: ``[n]``, in the environment's units
        :param clip: size at which extrinsic rewards are clipped, in the scale of theirs
        """
        weight = self.trust.weight
        return weight * learned + (1.0 - weight) * (extrinsic / self.scale.scale).clamp(-clip, clip)

    def state_dict(self) -> dict[str, Any]:
        """Both states."""
        return {"trust": self.trust.state_dict(), "scale": self.scale.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over."""
        self.trust.load_state_dict(state["trust"])
        self.scale.load_state_dict(state["scale"])
