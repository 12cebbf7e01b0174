"""Advantage Weighted Regression (Peng et al., 2019)."""

from sb3_tare.awr.awr import AWR
from sb3_tare.awr.memory import DictPathMemory, PathMemory
from sb3_tare.awr.offline import memory_from_minari, memory_from_replay_buffer, memory_from_transitions
from sb3_tare.awr.policy import AWRCnnPolicy, AWRMultiInputPolicy, AWRPolicy

__all__ = [
    "AWR",
    "AWRCnnPolicy",
    "AWRMultiInputPolicy",
    "AWRPolicy",
    "DictPathMemory",
    "PathMemory",
    "memory_from_minari",
    "memory_from_replay_buffer",
    "memory_from_transitions",
]
