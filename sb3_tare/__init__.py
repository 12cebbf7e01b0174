"""Taming Reward (TARE) for Stable-Baselines3: learn the reward while you learn the policy."""

from sb3_tare import envs
from sb3_tare.awr.awr import AWR
from sb3_tare.awr.tare import TAREAWR
from sb3_tare.learned_reward import LearnedReward
from sb3_tare.learner import RewardLearner
from sb3_tare.lirpg import LIRPG
from sb3_tare.mixin import LearnsReward
from sb3_tare.networks import ARCHITECTURES, RewardInputs
from sb3_tare.ppo import TAREPPO
from sb3_tare.settings import RewardSettings

__version__ = "0.1.0"

__all__ = [
    "ARCHITECTURES",
    "AWR",
    "LIRPG",
    "TAREAWR",
    "TAREPPO",
    "LearnedReward",
    "LearnsReward",
    "RewardInputs",
    "RewardLearner",
    "RewardSettings",
    "envs",
]
