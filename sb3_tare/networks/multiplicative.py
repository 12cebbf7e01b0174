"""Two embeddings, [state, action] and [reward, time], multiplied: the default of the paper."""

from __future__ import annotations

from torch import Tensor, nn

from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.layers import BoundedHead, EpisodeLSTM, MultiplicativeEmbedding, dense


class LSTMbMul(nn.Module):
    """The paper's default: multiplicative embedding, then an LSTM backwards in time.

    :param hidden_size: width of the fully connected layers
    :param lstm_hidden_size: width of the LSTM (table 1: 32)
    :param bound: largest absolute output (table 1: 20)
    :param lstm_layers: depth of the LSTM (section 2.1: 2)
    :raises ValueError: for a bound that is not positive, or a depth that is no whole number of at least 1
    """

    sees_reward = True
    context = "episode"

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden_size: int = 64,
        lstm_hidden_size: int = 32,
        bound: float = 20.0,
        lstm_layers: int = 1,
    ) -> None:
        super().__init__()
        self.embedding = MultiplicativeEmbedding(observation_dim + action_dim, hidden_size)
        self.lstm = EpisodeLSTM(hidden_size, lstm_hidden_size, lstm_layers, reverse=True)
        self.head = BoundedHead(lstm_hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Learned rewards ``[n]`` of ``n`` steps."""
        return self.head(self.lstm(self.embedding(inputs.state_action, inputs.reward_time), inputs.episodes))


class MLPMul(nn.Module):
    """The network :class:`LSTMbMul` with two fully connected layers in place of the LSTM (appendix F)."""

    sees_reward = True
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 20.0) -> None:
        super().__init__()
        self.embedding = MultiplicativeEmbedding(observation_dim + action_dim, hidden_size)
        self.layers = nn.Sequential(dense(hidden_size, hidden_size), dense(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        """Learned rewards ``[n]`` of ``n`` steps."""
        return self.head(self.layers(self.embedding(inputs.state_action, inputs.reward_time)))
