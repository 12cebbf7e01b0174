"""Reward networks r_phi: the paper's five (section B.3 and appendix F), and two that see state and action alone.

Any ``torch.nn.Module`` class can stand in their place: it is built with ``(observation_dim, action_dim,
**architecture_kwargs)`` and maps :class:`RewardInputs` to ``[n]`` rewards. Three attributes are looked at: ``sees_reward``
(taken to be True where it is missing); ``context``, what a step's reward depends on: ``"step"``, that step alone, ``"past"``,
those before it too, or ``"episode"``, later ones as well, which is assumed where it is missing; and ``head``, the last
``nn.Linear``, which ``zero_head`` sets to zero.
"""

from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.registry import ARCHITECTURES

__all__ = ["ARCHITECTURES", "RewardInputs"]
