"""The reward networks by name."""

from __future__ import annotations

from torch import nn

from sb3_tare.networks.concatenated import LSTMb, LSTMf, MLPConcat
from sb3_tare.networks.multiplicative import LSTMbMul, MLPMul
from sb3_tare.networks.state_action import StateAction, StateActionTanh, StateActionUnbounded

_NETWORKS = (LSTMbMul, LSTMb, LSTMf, MLPMul, MLPConcat, StateAction, StateActionTanh, StateActionUnbounded)

ARCHITECTURES: dict[str, type[nn.Module]] = {network.__name__: network for network in _NETWORKS}
"""By what the setting ``architecture`` calls them."""
