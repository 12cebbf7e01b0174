"""The cost of learning the reward where it is largest beside PPO's: images, and short rollouts.

    python -m sb3_tare.experiments speed bounds --out examples/results/speed/bounds.json

``images`` are 84 x 84 x 4 pixels without a game behind them, in 8 environments of 128 steps, with PPO's usual settings for Atari;
``short`` is Hopper-v5 with rollouts of 128 steps. Algorithms take turns in one process, on one thread. Ratios to PPO are taken
within a turn, of seconds of the processor: median and quartiles.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.experiments.benchmarks.speed import PACKAGES, make_env, take_turns
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json


class Pictures(gym.Env[np.ndarray, np.int64]):
    """Frames drawn once, shown in a random order: what costs is to look at them.

    :param n_frames: different ones
    :param horizon: steps of an episode
    """

    def __init__(self, n_frames: int = 64, horizon: int = 200) -> None:
        self.observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
        self.action_space = spaces.Discrete(6)
        self.frames = np.random.default_rng(0).integers(256, size=(n_frames, 84, 84, 4), dtype=np.uint8)
        self.horizon = horizon
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, with a frame ``[84, 84, 4]``."""
        super().reset(seed=seed)
        self.time = 0
        return self._show(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pay the action that belongs to the frame, and show another one."""
        self.time += 1
        reward = float(self.shown % 6 == action)
        return self._show(), reward, False, self.time >= self.horizon, {}

    def _show(self) -> np.ndarray:
        self.shown = int(self.np_random.integers(len(self.frames)))
        return self.frames[self.shown]
