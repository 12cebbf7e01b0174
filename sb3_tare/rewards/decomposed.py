"""Rewards of steps as return decomposition learns them: a solved cost of actions, and a network in a unit of its own."""

from __future__ import annotations

import torch
from gymnasium import spaces
from torch import Tensor, nn

from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.rewards.decomposition import step_rewards
from sb3_tare.utils.moments import RunningMoments


class DecomposedReward(nn.Module):
    """Rewards ``w |a|^2 + unit * network(s, a)`` of steps, in the environment's units of reward.

    States are standardised by running statistics of their own, and actions are those that the environment executes. The
    cost of actions w, ``action_cost``, and ``unit`` are scalar buffers, zero until they are filled from outside.

    :param network: maps a step's state and action alone to ``[n]``
    :param observation_dim: numbers in a state
    :param action_space: of the actions that the policy draws; those in a ``Box`` are clipped to its bounds
    """

    sees_reward = False
    context = "step"
    unit: Tensor
    action_cost: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, network: nn.Module, observation_dim: int, action_space: spaces.Space) -> None:
        super().__init__()
        self.network = network
        self.moments = RunningMoments((observation_dim,))
        is_box = isinstance(action_space, spaces.Box)
        low, high = (action_space.low, action_space.high) if is_box else (0.0, 1.0)  # type: ignore[attr-defined]
        # copies: what is loaded into a buffer must not change the space
        self.register_buffer("low", torch.tensor(low, dtype=torch.float32).flatten())
        self.register_buffer("high", torch.tensor(high, dtype=torch.float32).flatten())
        self.register_buffer("unit", torch.zeros((), dtype=torch.float64))
        self.register_buffer("action_cost", torch.zeros((), dtype=torch.float64))

    def executed(self, actions: Tensor) -> Tensor:
        """Encoded actions ``[n, action_dim]`` as the environment executes them."""
        return torch.maximum(torch.minimum(actions, self.high), self.low)

    def in_units(self, states: Tensor, actions: Tensor) -> Tensor:
        """Output ``[n]`` of the network: the reward without the cost of actions, in multiples of the unit.

        :param states: ``[n, observation_dim]``
        :param actions: ``[n, action_dim]`` as executed
        """
        unknown = states.new_full((len(states),), torch.nan)  # the network does not see the reward
        return self.network(RewardInputs.of_steps(self.moments(states), actions, unknown))

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Rewards ``[n]`` of steps, in the environment's units."""
        return self.of_steps(inputs.observations, inputs.actions)

    def of_steps(self, states: Tensor, actions: Tensor) -> Tensor:
        """Rewards ``[n]`` of steps, in the environment's units.

        :param states: ``[n, observation_dim]``
        :param actions: ``[n, action_dim]`` encoded, as the policy drew them
        """
        executed = self.executed(actions)
        return step_rewards(self.in_units(states, executed), executed, float(self.unit), float(self.action_cost))
