"""Results of a model, as its card tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare.analysis.trajectories import check_length


@dataclass(frozen=True)
class Results:
    """Returns of whole episodes by the environment's own reward, in its own units.

    :param mean: of the returns
    :param std: their standard deviation
    :param n_episodes: number of episodes
    :param deterministic: whether the policy's exploration was left out
    """

    mean: float
    std: float
    n_episodes: int
    deterministic: bool

    def __str__(self) -> str:
        return f"{self.mean:.2f} +/- {self.std:.2f}"

    def as_written(self) -> dict[str, Any]:
        """Plain data by the names that ``huggingface_sb3`` gives them in ``results.json``."""
        return {
            "mean_reward": self.mean,
            "std_reward": self.std,
            "is_deterministic": self.deterministic,
            "n_eval_episodes": self.n_episodes,
            "eval_datetime": datetime.now(UTC).isoformat(),
        }


def evaluate(model: Any, env: VecEnv, n_episodes: int, deterministic: bool) -> Results:
    """Let a model act for whole episodes.

    :param env: as the model saw it in training, its copies in ``Monitor``, which adds up what the environment paid
    :raises ValueError: if an episode has not ended after 100,000 steps
    """
    by_host: Any = evaluate_masked if isinstance(model, MaskablePPO) else evaluate_policy
    mean, std = by_host(model, env, n_episodes, deterministic, callback=_check_length)
    return Results(float(mean), float(std), n_episodes, deterministic)


def _check_length(told: dict[str, Any], _: dict[str, Any]) -> None:
    if not told["done"]:
        check_length(int(told["current_lengths"].max()))
