"""Taming Reward (TARE) for Stable-Baselines3: learn the reward while you learn the policy."""

from sb3_tare import envs
from sb3_tare.algorithms.lirpg import LIRPG
from sb3_tare.algorithms.owner import LearnsReward
from sb3_tare.algorithms.tare_awr import TAREAWR
from sb3_tare.algorithms.tare_ppo import TAREPPO
from sb3_tare.awr.awr import AWR
from sb3_tare.hosts.replay_buffers import LearnedDictReplayBuffer, LearnedNStepReplayBuffer, LearnedReplayBuffer
from sb3_tare.lean import LeanA2C, LeanPPO
from sb3_tare.learning.learner import RewardLearner
from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.registry import ARCHITECTURES
from sb3_tare.rewards.learned_reward import LearnedReward
from sb3_tare.rewards.relabelling import Relabelled, relabel_replay_buffer
from sb3_tare.rewards.wrappers import LearnedRewardWrapper, VecLearnedReward
from sb3_tare.settings import RewardKwargs, RewardSettings
from sb3_tare.utils.version import __version__

__all__ = [
    "ARCHITECTURES",
    "AWR",
    "LIRPG",
    "TAREAWR",
    "TAREPPO",
    "LeanA2C",
    "LeanPPO",
    "LearnedDictReplayBuffer",
    "LearnedNStepReplayBuffer",
    "LearnedReplayBuffer",
    "LearnedReward",
    "LearnedRewardWrapper",
    "LearnsReward",
    "Relabelled",
    "RewardInputs",
    "RewardKwargs",
    "RewardLearner",
    "RewardSettings",
    "VecLearnedReward",
    "__version__",
    "envs",
    "relabel_replay_buffer",
]
