"""State and action alone: rewards that do not see the extrinsic one."""

from __future__ import annotations

from torch import Tensor, nn

from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.layers import BoundedHead, dense, tanh_layer
from sb3_tare.utils.checks import check_choice


class StateAction(nn.Module):
    """[s, a] through two fully connected layers: a reward that does not see the extrinsic one, as LIRPG's."""

    sees_reward = False
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 20.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(dense(observation_dim + action_dim, hidden_size), dense(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Learned rewards ``[n]`` of ``n`` steps."""
        return self.head(self.layers(inputs.state_action))


class StateActionUnbounded(nn.Module):
    """[s, a] through two wide layers to a linear head that starts near zero, for rewards that are fitted to returns.

    :param hidden_size: width of the fully connected layers
    :param initialisation: of these layers, ``"uniform"`` as torch starts linear layers, or ``"orthogonal"`` without biases,
        where the first normalisation takes away how large an input is
    :raises ValueError: if ``initialisation`` is neither
    """

    sees_reward = False
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 128, initialisation: str = "uniform") -> None:
        super().__init__()
        check_choice("initialisation", initialisation, ("orthogonal", "uniform"))
        sizes = (observation_dim + action_dim, hidden_size), (hidden_size, hidden_size)
        self.layers = nn.Sequential(*(dense(*size, orthogonal=initialisation == "orthogonal") for size in sizes))
        self.head = nn.Linear(hidden_size, 1)
        nn.init.orthogonal_(self.head.weight, gain=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Rewards ``[n]``."""
        return self.head(self.layers(inputs.state_action)).squeeze(-1)


class StateActionTanh(nn.Module):
    """[s, a] through two fully connected tanh layers to a tanh: the network of LIRPG (Zheng et al., 2018)."""

    sees_reward = False
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            tanh_layer(observation_dim + action_dim, hidden_size), tanh_layer(hidden_size, hidden_size)
        )
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Learned rewards ``[n]`` of ``n`` steps."""
        return self.head(self.layers(inputs.state_action))
