"""The host's loops, written out: PPO's numbers for about half of its time."""

from sb3_tare.lean.a2c import LeanA2C
from sb3_tare.lean.dispatch import HostLoop
from sb3_tare.lean.minibatches import GathersPlainly
from sb3_tare.lean.ppo import LeanPPO

__all__ = ["GathersPlainly", "HostLoop", "LeanA2C", "LeanPPO"]
