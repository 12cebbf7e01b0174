"""What a study may record at each evaluation beside returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

Measure = Callable[[BaseAlgorithm, VecEnv], dict[str, Any]]
"""From the algorithm as it is and the evaluation's environment, whose normalisation is the training's, to plain data."""

MEASURES: dict[str, Measure] = {}
"""By name, as a study gives it."""
