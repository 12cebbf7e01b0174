"""What studies compare: algorithms by name, and variants of them as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare import TAREPPO

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"PPO": PPO, "TAREPPO": TAREPPO}
"""Classes that a variant may name."""


@dataclass(frozen=True)
class Variant:
    """An algorithm and its arguments, as a result file can hold them.

    :param algorithm: a name in :data:`ALGORITHMS`
    :param kwargs: its keyword arguments beside policy, environment, seed and device; anything else is its own default
    :param policy: as every algorithm of Stable-Baselines3 takes it
    :param normalize: whether observations and rewards go through ``VecNormalize``
    """

    algorithm: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "MlpPolicy"
    normalize: bool = True

    def build(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """The algorithm on ``env``, on the CPU."""
        return ALGORITHMS[self.algorithm](self.policy, env, seed=seed, device="cpu", **self.kwargs)


def _tare(**reward_kwargs: Any) -> Variant:
    return Variant("TAREPPO", {"reward_kwargs": reward_kwargs})


VARIANTS: dict[str, Variant] = {
    "ppo": Variant("PPO"),
    # The paper's setting, then that setting with one thing changed.
    "tare_paper": _tare(preset="paper"),
    "tare_add": _tare(preset="paper", reward_mode="add"),
    "tare_next_rollout": _tare(preset="paper", validation="next_rollout"),
    "tare_hessian": _tare(preset="paper", curvature="hessian"),
    "tare_identity": _tare(preset="paper", curvature="identity"),
    "tare_lstmb": _tare(preset="paper", architecture="LSTMb"),
    "tare_lstmf": _tare(preset="paper", architecture="LSTMf"),
    "tare_mlpmul": _tare(preset="paper", architecture="MLPMul"),
    "tare_mlpconcat": _tare(preset="paper", architecture="MLPConcat"),
    # What the package does by itself, and where its own ways differ from the paper's.
    "tare_default": _tare(),
    "tare_next_rollout_add": _tare(validation="next_rollout", reward_mode="add"),
    "tare_consistency": _tare(architecture="StateAction", return_consistency=1.0, consistency_window=200),
    # The chain's, of hidden size 32 throughout (appendix F).
    "ppo_small": Variant("PPO", {"policy_kwargs": {"net_arch": [32, 32]}}),
    "tare_paper_small": Variant(
        "TAREPPO",
        {
            "policy_kwargs": {"net_arch": [32, 32]},
            "reward_kwargs": {"preset": "paper", "architecture_kwargs": {"hidden_size": 32}},
        },
    ),
}
"""Everything that ``--variants`` can name, in the order of tables and legends; a further variant is one entry more."""
