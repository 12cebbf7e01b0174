"""All settings of the reward learner, as plain data that a yaml file can hold."""

from sb3_tare.settings.kwargs import RewardKwargs
from sb3_tare.settings.reward import PRESETS, LearnerSettings, RewardSettings

__all__ = ["PRESETS", "LearnerSettings", "RewardKwargs", "RewardSettings"]
