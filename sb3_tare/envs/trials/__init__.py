"""Small tasks of seconds on which a learned reward may turn against its task, each for another reason."""

from sb3_tare.envs.trials.changing import Turn
from sb3_tare.envs.trials.endings import Corridor, Goal
from sb3_tare.envs.trials.rare import Alarm, Slip, Smooth
from sb3_tare.envs.trials.trial import Trial
from sb3_tare.envs.trials.unseen import Blind, Key, Pair

TRIALS: dict[str, type[Trial]] = {
    each.__name__: each for each in (Corridor, Goal, Key, Pair, Blind, Turn, Alarm, Slip, Smooth)
}
"""Trials by the name that they are registered by, ``sb3_tare/Corridor-v0`` and so on."""

__all__ = ["TRIALS", "Alarm", "Blind", "Corridor", "Goal", "Key", "Pair", "Slip", "Smooth", "Trial", "Turn"]
