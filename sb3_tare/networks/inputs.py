"""The inputs of reward networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes


@dataclass(frozen=True)
class RewardInputs:
    """The inputs of a reward network: all that it sees of ``n`` steps.

    :param observations: ``[n, observation_dim]`` features of the state
    :param actions: ``[n, action_dim]`` actions as SB3 preprocesses them (one-hot where discrete)
    :param rewards: ``[n]`` extrinsic rewards, standardised by their running statistics
    :param extrinsic_rewards: ``[n]`` extrinsic rewards as the environment gave them, in its dtype
    :param episodes: which rows belong together, in time order; no state may pass between its pieces
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    extrinsic_rewards: Tensor
    episodes: Episodes

    @classmethod
    def of_steps(cls, observations: Tensor, actions: Tensor, rewards: Tensor) -> RewardInputs:
        """Steps in any order, each a piece of its own, for networks that look at one step alone.

        :param observations: ``[n, observation_dim]``
        :param actions: ``[n, action_dim]``
        :param rewards: ``[n]``
        """
        ones = torch.ones(len(rewards), dtype=torch.int64)
        return cls(observations, actions, rewards, rewards, Episodes(ones, 0 * ones, 0 * ones + int(End.CUT)))

    @property
    def state_action(self) -> Tensor:
        """Features and actions side by side, ``[n, observation_dim + action_dim]``."""
        return torch.cat([self.observations, self.actions], dim=1)

    @property
    def reward_time(self) -> Tensor:
        """Rewards and :func:`scaled_times` side by side, ``[n, 2]``."""
        return torch.stack([self.rewards, scaled_times(self.episodes.times.to(self.rewards))], dim=1)


def scaled_times(times: Tensor) -> Tensor:
    """Scale time steps to log10(1 + time step) / 3, which is of order one, as a standardised reward is, at any horizon.

    A time that is far larger than the reward hides it from the layers that read both: what a reward changes is then lost in
    the layer normalisation.

    :param times: ``[...]`` time steps, floating-point
    :return: ``[...]``
    """
    return torch.log10(1.0 + times) / 3.0
