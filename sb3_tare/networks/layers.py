"""Layers of reward networks (section B.3 and appendix F)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sb3_tare.data.episodes import Episodes
from sb3_tare.utils.checks import check_count


class BoundedHead(nn.Linear):
    """Linear layer to one output, bounded to [-bound, bound] by a scaled tanh (appendix F: b = 20).

    :param bound: largest absolute output
    :raises ValueError: if ``bound`` is not positive
    """

    def __init__(self, in_features: int, bound: float) -> None:
        super().__init__(in_features, 1)
        if not bound > 0:
            raise ValueError(f"bound must be positive, got {bound}")
        self.bound = bound
        nn.init.orthogonal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Outputs ``[n]`` of features ``[n, in_features]``."""
        return self.bound * torch.tanh(super().forward(features).squeeze(-1) / self.bound)


class EpisodeLSTM(nn.LSTM):
    """LSTM over each piece of an episode from a state of zeros, in reversed or forward time, cost linear in rows.

    :param num_layers: how many LSTMs are stacked, ``lstm_layers`` of the networks
    :raises ValueError: if that is no whole number of at least 1
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, reverse: bool) -> None:
        check_count("lstm_layers", num_layers, least=1)
        super().__init__(input_size, hidden_size, num_layers)
        self.reverse = reverse

    def forward(self, rows: Tensor, episodes: Episodes) -> Tensor:  # type: ignore[override]
        """Outputs ``[n, hidden_size]`` of the last LSTM for rows ``[n, input_size]``, in the order of the rows."""
        # Padded batches, as the fused kernels for the CPU take no packed ones, and the backward pass of a packed one fills
        # a tensor of all rows at each step.
        padding = episodes.reversed_padding if self.reverse else episodes.forward_padding
        return padding.unpad([super(EpisodeLSTM, self).forward(batch)[0] for batch in padding.pad(rows)])


class MultiplicativeEmbedding(nn.Module):
    """Two layers on [s, a] and two on [r, t], multiplied element-wise at each layer (figure 7)."""

    def __init__(self, state_action_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.state_action = nn.ModuleList([dense(state_action_dim, hidden_size), dense(hidden_size, hidden_size)])
        self.reward_time = nn.ModuleList([dense(2, hidden_size, biased=True), dense(hidden_size, hidden_size)])

    def forward(self, state_action: Tensor, reward_time: Tensor) -> Tensor:
        """Embeddings ``[n, hidden_size]`` of [s, a] ``[n, state_action_dim]`` and [r, t] ``[n, 2]``."""
        features, gates = state_action, reward_time
        for feature_layer, gate_layer in zip(self.state_action, self.reward_time, strict=True):
            gates = gate_layer(gates)
            features = feature_layer(features) * gates
        return features


def dense(in_features: int, out_features: int, biased: bool = False, orthogonal: bool = True) -> nn.Sequential:
    """Fully connected layer as in appendix F: orthogonal initialisation, layer normalisation, ReLU.

    :param biased: draw the bias as the weights of one more input. Normalisation takes an input's size away, and without a
        bias nothing would be left of a reward at time zero but its sign.
    :param orthogonal: initialise so, or as torch does it, where ``biased`` has no meaning
    """
    linear = nn.Linear(in_features, out_features)
    if orthogonal:
        weights = nn.init.orthogonal_(torch.empty(out_features, in_features + biased), gain=math.sqrt(2))
        with torch.no_grad():
            linear.weight.copy_(weights[:, :in_features])
            linear.bias.copy_(weights[:, in_features] if biased else torch.zeros(out_features))
    return nn.Sequential(linear, nn.LayerNorm(out_features), nn.ReLU())


def tanh_layer(in_features: int, out_features: int) -> nn.Sequential:
    """Fully connected layer as in LIRPG: orthogonal initialisation, tanh."""
    linear = nn.Linear(in_features, out_features)
    nn.init.orthogonal_(linear.weight, gain=math.sqrt(2))
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.Tanh())
