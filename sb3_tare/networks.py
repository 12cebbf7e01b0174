"""Reward networks r_phi: the paper's five (section B.3 and appendix F), and two that see state and action alone.

Any ``torch.nn.Module`` class can stand in their place: it is built with ``(observation_dim, action_dim,
**architecture_kwargs)`` and maps :class:`RewardInputs` to ``[n]`` rewards. Three attributes are looked at: ``sees_reward``
(taken to be True where it is missing); ``context``, what a step's reward depends on: ``"step"``, that step alone, ``"past"``,
those before it too, or ``"episode"``, later ones as well, which is assumed where it is missing; and ``head``, the last
``nn.Linear``, which ``zero_head`` sets to zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sb3_tare.episodes import Episodes


@dataclass(frozen=True)
class RewardInputs:
    """What a reward network sees of ``n`` steps.

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

    @property
    def state_action(self) -> Tensor:
        """``[n, observation_dim + action_dim]``"""
        return torch.cat([self.observations, self.actions], dim=1)

    @property
    def reward_time(self) -> Tensor:
        """``[n, 2]`` reward and :func:`scaled_times`"""
        return torch.stack([self.rewards, scaled_times(self.episodes.times.to(self.rewards))], dim=1)


def scaled_times(times: Tensor) -> Tensor:
    """log10(1 + time step) / 3, which is of order one, as a standardised reward is, at any horizon.

    A time that is far larger than the reward hides it from the layers that read both: what a reward changes is then lost in
    the layer normalisation.

    :param times: time steps, floating-point
    """
    return torch.log10(1.0 + times) / 3.0


class BoundedHead(nn.Linear):
    """Linear layer to one output, bounded to [-bound, bound] by a scaled tanh (appendix F: b = 20)."""

    def __init__(self, in_features: int, bound: float) -> None:
        super().__init__(in_features, 1)
        if not bound > 0:
            raise ValueError(f"bound must be positive, got {bound}")
        self.bound = bound
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        return self.bound * torch.tanh(super().forward(features).squeeze(-1) / self.bound)


class EpisodeLSTM(nn.LSTM):
    """LSTM over each piece of an episode from a state of zeros, in reversed or forward time, cost linear in rows."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, reverse: bool) -> None:
        super().__init__(input_size, hidden_size, num_layers)
        self.reverse = reverse

    def forward(self, rows: Tensor, episodes: Episodes) -> Tensor:  # type: ignore[override]
        # Padded batches, as the fused kernels for the CPU take no packed ones, and the backward pass of a packed one fills
        # a tensor of all rows at each step.
        padding = episodes.reversed_padding if self.reverse else episodes.forward_padding
        return padding.unpad([super(EpisodeLSTM, self).forward(batch)[0] for batch in padding.pad(rows)])


class MultiplicativeEmbedding(nn.Module):
    """Two layers on [s, a] and two on [r, t], multiplied element-wise at each layer (figure 7)."""

    def __init__(self, state_action_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.state_action = nn.ModuleList([_dense(state_action_dim, hidden_size), _dense(hidden_size, hidden_size)])
        self.reward_time = nn.ModuleList([_dense(2, hidden_size, biased=True), _dense(hidden_size, hidden_size)])

    def forward(self, state_action: Tensor, reward_time: Tensor) -> Tensor:
        features, gates = state_action, reward_time
        for feature_layer, gate_layer in zip(self.state_action, self.reward_time, strict=True):
            gates = gate_layer(gates)
            features = feature_layer(features) * gates
        return features


class LSTMbMul(nn.Module):
    """The paper's default: multiplicative embedding, then an LSTM backwards in time.

    :param hidden_size: width of the fully connected layers
    :param lstm_hidden_size: width of the LSTM (table 1: 32)
    :param bound: largest absolute output (table 1: 20)
    """

    sees_reward = True
    context = "episode"

    def __init__(
        self, observation_dim: int, action_dim: int, hidden_size: int = 64, lstm_hidden_size: int = 32, bound: float = 20.0
    ) -> None:
        super().__init__()
        self.embedding = MultiplicativeEmbedding(observation_dim + action_dim, hidden_size)
        self.lstm = EpisodeLSTM(hidden_size, lstm_hidden_size, num_layers=1, reverse=True)
        self.head = BoundedHead(lstm_hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        return self.head(self.lstm(self.embedding(inputs.state_action, inputs.reward_time), inputs.episodes))


class _ConcatLSTM(nn.Module):
    sees_reward = True
    reverse: bool

    def __init__(self, observation_dim: int, action_dim: int, lstm_hidden_size: int = 32, bound: float = 20.0) -> None:
        super().__init__()
        self.lstm = EpisodeLSTM(observation_dim + action_dim + 2, lstm_hidden_size, num_layers=2, reverse=self.reverse)
        self.head = BoundedHead(lstm_hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        rows = torch.cat([inputs.state_action, inputs.reward_time], dim=1)
        return self.head(self.lstm(rows, inputs.episodes))


class LSTMb(_ConcatLSTM):
    """[s, a, r, t] through a two-layer LSTM backwards in time (appendix F)."""

    reverse = True
    context = "episode"


class LSTMf(_ConcatLSTM):
    """[s, a, r, t] through a two-layer LSTM forwards in time (appendix F)."""

    reverse = False
    context = "past"


class MLPMul(nn.Module):
    """As :class:`LSTMbMul`, with two fully connected layers in place of the LSTM (appendix F)."""

    sees_reward = True
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 20.0) -> None:
        super().__init__()
        self.embedding = MultiplicativeEmbedding(observation_dim + action_dim, hidden_size)
        self.layers = nn.Sequential(_dense(hidden_size, hidden_size), _dense(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        return self.head(self.layers(self.embedding(inputs.state_action, inputs.reward_time)))


class MLPConcat(nn.Module):
    """[s, a, r, t] through two fully connected layers (appendix F)."""

    sees_reward = True
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 20.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(_dense(observation_dim + action_dim + 2, hidden_size), _dense(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        return self.head(self.layers(torch.cat([inputs.state_action, inputs.reward_time], dim=1)))


class StateAction(nn.Module):
    """[s, a] through two fully connected layers: a reward that does not see the extrinsic one, as LIRPG's."""

    sees_reward = False
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 20.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(_dense(observation_dim + action_dim, hidden_size), _dense(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        return self.head(self.layers(inputs.state_action))


class StateActionTanh(nn.Module):
    """[s, a] through two fully connected tanh layers to a tanh: the network of LIRPG (Zheng et al., 2018)."""

    sees_reward = False
    context = "step"

    def __init__(self, observation_dim: int, action_dim: int, hidden_size: int = 64, bound: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(_tanh(observation_dim + action_dim, hidden_size), _tanh(hidden_size, hidden_size))
        self.head = BoundedHead(hidden_size, bound)

    def forward(self, inputs: RewardInputs) -> Tensor:
        return self.head(self.layers(inputs.state_action))


ARCHITECTURES: dict[str, type[nn.Module]] = {
    network.__name__: network for network in (LSTMbMul, LSTMb, LSTMf, MLPMul, MLPConcat, StateAction, StateActionTanh)
}


def _dense(in_features: int, out_features: int, biased: bool = False) -> nn.Sequential:
    """Fully connected layer as in appendix F: orthogonal initialisation, layer normalisation, ReLU.

    :param biased: draw the bias as the weights of one more input. Normalisation takes an input's size away, and without a
        bias nothing would be left of a reward at time zero but its sign.
    """
    linear = nn.Linear(in_features, out_features)
    weights = nn.init.orthogonal_(torch.empty(out_features, in_features + biased), gain=math.sqrt(2))
    with torch.no_grad():
        linear.weight.copy_(weights[:, :in_features])
        linear.bias.copy_(weights[:, in_features] if biased else torch.zeros(out_features))
    return nn.Sequential(linear, nn.LayerNorm(out_features), nn.ReLU())


def _tanh(in_features: int, out_features: int) -> nn.Sequential:
    """Fully connected layer as in LIRPG: orthogonal initialisation, tanh."""
    linear = nn.Linear(in_features, out_features)
    nn.init.orthogonal_(linear.weight, gain=math.sqrt(2))
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.Tanh())
