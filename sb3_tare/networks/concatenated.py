"""State, action, reward and time side by side (appendix F)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.layers import BoundedHead, EpisodeLSTM, dense


class _ConcatLSTM(nn.Module):
    sees_reward = True
    reverse: bool

    def __init__(
        self, observation_dim: int, action_dim: int, lstm_hidden_size: int = 32, bound: float = 20.0, lstm_layers: int = 2
    ) -> None:
        super().__init__()
        self.lstm = EpisodeLSTM(observation_dim + action_dim + 2, lstm_hidden_size, lstm_layers, self.reverse)
        self.head = BoundedHead(lstm_hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Learned rewards ``[n]`` of ``n`` steps."""
        rows = torch.cat([inputs.state_action, inputs.reward_time], dim=1)
        return self.head(self.lstm(rows, inputs.episodes))


class LSTMb(_ConcatLSTM):
    """[s, a, r, t] through a two-layer LSTM backwards in time (appendix F).

    :param lstm_hidden_size: width of the LSTM (table 1: 32)
    :param bound: largest absolute output (table 1: 20)
    :param lstm_layers: depth of the LSTM (section 2.1 and appendix F: 2)
    :raises ValueError: for a bound that is not positive, or a depth that is no whole number of at least 1
    """

    reverse = True
    context = "episode"


class LSTMf(_ConcatLSTM):
    """[s, a, r, t] through a two-layer LSTM forwards in time (appendix F).

    :param lstm_hidden_size: width of the LSTM (table 1: 32)
    :param bound: largest absolute output (table 1: 20)
    :param lstm_layers: depth of the LSTM (section 2.1 and appendix F: 2)
    :raises ValueError: for a bound that is not positive, or a depth that is no whole number of at least 1
    """

    reverse = False
    context = "past"


class MLPConcat(nn.Module):
    """[s, a, r, t] through two fully connected layers (appendix F)."""

    sees_reward = True
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 20.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(dense(observation_dim + action_dim + 2, hidden_size), dense(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Learned rewards ``[n]`` of ``n`` steps."""
        return self.head(self.layers(torch.cat([inputs.state_action, inputs.reward_time], dim=1)))
