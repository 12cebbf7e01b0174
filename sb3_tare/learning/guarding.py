"""A guard of the task: what the policy is paid is the learned reward as far as it is trusted, and the given one beyond."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sb3_tare.data.rollout import RewardSteps
from sb3_tare.hosts.host import Host
from sb3_tare.learning.metrics import Metrics
from sb3_tare.rewards.payments import Payments, payments
from sb3_tare.rewards.running_scale import RunningScale
from sb3_tare.rewards.trust import REMEMBERED, Trust


class Guard:
    """Trust in the learned reward, and the extrinsic one in the scale of its own discounted returns.

    :param full: slope of payments on what the reward foretells of them from which on it is paid alone
    :param host: gives the discount and the number of environments
    :param fit_every: least number of steps between two fits of the reward
    """

    def __init__(self, full: float, host: Host[Any], fit_every: int) -> None:
        self.trust = Trust(full)
        self.payments = Payments(host.model.n_envs)
        self.scale = RunningScale(host.model.n_envs, host.gamma, least_steps=fit_every)

    def observe(
        self, steps: RewardSteps, environments: Tensor, foretold: Tensor | None, discount: float, metrics: Metrics
    ) -> None:
        """Compare what a rollout paid with what was foretold of it, and measure the size of its extrinsic rewards.

        :param environments: ``[E]``, where each piece of an episode comes from
        :param foretold: ``[n]`` rewards by what was learned before this rollout, None if that was nothing
        :param discount: the host's
        :param metrics: for the log
        """
        if foretold is not None:
            self.trust.add(*self.payments.add(foretold, steps.original_rewards, steps.episodes, environments))
        elif int(payments(steps.original_rewards, steps.episodes).sum()) >= REMEMBERED:
            self.trust.require_evidence()  # which so many payments give as soon as something is foretold of them
        self.scale.discount = discount
        self.scale.update(steps.original_rewards, steps.episodes, environments)
        metrics.note_finite(decomposition_slope=self.trust.slope)

    def mixed(self, learned: Tensor, extrinsic: Tensor, weight: float, clip: float) -> Tensor:
        """Rewards ``[n]`` to be paid.

        :param learned: ``[n]``, in the scale of their discounted returns
        :param extrinsic: ``[n]``, in the environment's units
        :param weight: share of the learned ones, from 0 to 1
        :param clip: size at which extrinsic rewards are clipped, in the scale of theirs
        """
        return weight * learned + (1.0 - weight) * (extrinsic / self.scale.scale).clamp(-clip, clip)

    def state_dict(self) -> dict[str, Any]:
        """The states of all three."""
        return {name: getattr(self, name).state_dict() for name in ("trust", "payments", "scale")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over."""
        for name in ("trust", "payments", "scale"):
            getattr(self, name).load_state_dict(state[name])
