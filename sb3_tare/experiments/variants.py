"""The algorithms that studies compare, by name, and variants of them as plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, LeanPPO
from sb3_tare.envs.minigrid import convolution
from sb3_tare.experiments.baselines.capacity import lstm_ppo, lstmbmul_ppo
from sb3_tare.experiments.learned_sac import LearnedSAC

ALGORITHMS: dict[str, Callable[..., BaseAlgorithm]] = {
    "PPO": LeanPPO,  # SB3's PPO to the bit, in half of the time
    "TAREPPO": TAREPPO,
    "LIRPG": LIRPG,
    "AWR": AWR,
    "TAREAWR": TAREAWR,
    "SAC": SAC,
    "Learned-SAC": LearnedSAC,
    "LSTM-PPO": lambda policy, env, **kwargs: lstm_ppo(env, **kwargs),
    "LSTMbMul-PPO": lambda policy, env, **kwargs: lstmbmul_ppo(env, **kwargs),
    "Convolution-PPO": partial(PPO, policy_kwargs=convolution()),
    "Convolution-TAREPPO": partial(TAREPPO, policy_kwargs=convolution()),
}
"""Names that a variant may give: classes of algorithms, and functions that build one and choose its policy, or its layers."""


def algorithm_named(name: str) -> Callable[..., BaseAlgorithm]:
    """One of :data:`ALGORITHMS`, or what ``module:Name`` is in a module that can be imported.

    :raises ValueError: if there is none of that name
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, or module:Name, got {name!r}")
    try:
        return getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"there is no algorithm {name}: {error}") from error


@dataclass(frozen=True)
class Variant:
    """An algorithm and its arguments, as a result file can hold them.

    :param algorithm: a name in :data:`ALGORITHMS`, or ``module:Name``
    :param kwargs: its keyword arguments beside policy, environment, seed and device; anything else is its own default
    :param policy: as every algorithm of Stable-Baselines3 takes it
    :param normalize: whether observations and rewards go through ``VecNormalize``
    :param history: whether observations show the action and reward before them
        (:class:`~sb3_tare.experiments.baselines.capacity.History`)
    """

    algorithm: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "MlpPolicy"
    normalize: bool = True
    history: bool = False

    def build(self, env: VecEnv, seed: int) -> BaseAlgorithm:
        """The algorithm on ``env``, on the CPU."""
        return algorithm_named(self.algorithm)(self.policy, env, seed=seed, device="cpu", **self.kwargs)

    def changed(self, kwargs: Mapping[str, Any]) -> Variant:
        """The same with other keyword arguments beside, or in place of, its own."""
        return replace(self, kwargs={**self.kwargs, **kwargs})


def _on_grids(algorithm: str, **kwargs: Any) -> Variant:
    """A variant with the settings of lcswillems/rl-starter-files, but one environment in place of 16 and no clip of values."""
    host: dict[str, Any] = {"n_steps": 2048, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3, "ent_coef": 0.01}
    host["normalize_advantage"] = False  # theirs has no such step
    return Variant(algorithm, {**host, **kwargs}, normalize=False)


def _tare(**reward_kwargs: Any) -> Variant:
    return Variant("TAREPPO", {"reward_kwargs": reward_kwargs})


def _awr_64(algorithm: str, **kwargs: Any) -> Variant:
    return Variant(algorithm, {"policy_kwargs": {"net_arch": [64, 64]}, **kwargs}, normalize=False)


_TRIAL: dict[str, Any] = {
    "preset": "decomposition",
    "architecture_kwargs": {"hidden_size": 64},
    "decomposition_episodes": 16,
}

VARIANTS: dict[str, Variant] = {
    "ppo": Variant("PPO"),
    # The paper's setting, then that setting with one thing changed.
    "tare_paper": _tare(preset="paper"),
    "tare_paper_residual": _tare(preset="paper_residual"),
    "tare_add": _tare(preset="paper", reward_mode="add"),
    "tare_gae": _tare(preset="paper", gae_lambda=None),
    "tare_next_rollout": _tare(preset="paper", validation="next_rollout"),
    "tare_hessian": _tare(preset="paper", curvature="hessian"),
    "tare_identity": _tare(preset="paper", curvature="identity"),
    "tare_lstmb": _tare(preset="paper", architecture="LSTMb"),
    "tare_lstmf": _tare(preset="paper", architecture="LSTMf"),
    "tare_mlpmul": _tare(preset="paper", architecture="MLPMul"),
    "tare_mlpconcat": _tare(preset="paper", architecture="MLPConcat"),
    # What the package does by itself, and where its own ways differ from the paper's.
    "tare_default": _tare(),
    "tare_implicit": _tare(preset="implicit"),
    "tare_next_rollout_add": _tare(preset="implicit", validation="next_rollout", reward_mode="add"),
    # With a second LSTM: as wide as the first, or both so narrow that they have as many weights as the one.
    "tare_implicit_two_layers": _tare(preset="implicit", architecture_kwargs={"lstm_layers": 2}),
    "tare_implicit_two_narrow_layers": _tare(
        preset="implicit", architecture_kwargs={"lstm_layers": 2, "lstm_hidden_size": 23}
    ),
    "tare_decomposed": _tare(preset="decomposition"),
    # The reward is trusted from the first fit on; half of the episodes of a mini-batch are recent.
    "tare_decomposed_unguarded": _tare(preset="decomposition", trust_slope=0.0),
    "tare_decomposed_recent": _tare(preset="decomposition", decomposition_recent=0.5),
    # The same for tasks of seconds, in rewards of half the width and mini-batches of half the size.
    "tare_trial": _tare(**_TRIAL),
    "tare_trial_recent": _tare(**_TRIAL, decomposition_recent=0.5),
    "tare_trial_unguarded": _tare(**_TRIAL, trust_slope=0.0),
    "tare_decomposed_without_cost": _tare(preset="decomposition", action_cost=False),
    # Fewer steps of each episode shrink rewards more. All of these draw 2,048 steps a mini-batch.
    "tare_decomposed_16_steps": _tare(preset="decomposition", decomposition_steps=16, decomposition_episodes=128),
    "tare_decomposed_256_steps": _tare(preset="decomposition", decomposition_steps=256, decomposition_episodes=8),
    "tare_decomposed_unbiased": _tare(preset="decomposition", shrinkage="none"),
    "tare_decomposed_uniform": _tare(preset="decomposition", architecture_kwargs={"initialisation": "uniform"}),
    "tare_decomposed_orthogonal": _tare(preset="decomposition", architecture_kwargs={"initialisation": "orthogonal"}),
    # The implicit gradient beside the decomposition, at a share of the norm of its gradient.
    "tare_decomposed_share_003": _tare(preset="decomposition", hypergradient_share=0.03),
    "tare_decomposed_share_01": _tare(preset="decomposition", hypergradient_share=0.1),
    "tare_decomposed_share_03": _tare(preset="decomposition", hypergradient_share=0.3),
    "lirpg": Variant("LIRPG"),
    "lirpg_lstmbmul": Variant(
        "LIRPG", {"reward_kwargs": {"architecture": "LSTMbMul", "architecture_kwargs": {"lstm_layers": 2}}}
    ),
    # As many parameters as TAREPPO, or its structure, in the policy instead.
    "ppo_lstm": Variant("LSTM-PPO"),
    "ppo_lstmbmul": Variant("LSTMbMul-PPO", history=True),
    # Off-policy; AWR normalises observations by itself. At its own sizes, 128 and 64, as its authors have them.
    "awr": Variant("AWR", normalize=False),
    "tare_awr": Variant("TAREAWR", normalize=False),
    "tare_awr_implicit": Variant("TAREAWR", {"reward_kwargs": {"preset": "implicit"}}, normalize=False),
    # With the 64 and 64 of the paper's comparison (appendix F).
    "awr_64": _awr_64("AWR"),
    "tare_awr_64": _awr_64("TAREAWR"),
    # The preset's lambda of 1 is what the paper says of PPO; of AWR it says that A_phi comes by TD(lambda) too (appendix F).
    "tare_awr_paper": _awr_64("TAREAWR", reward_kwargs={"preset": "paper", "gae_lambda": None}),
    # SAC as rl-zoo3 has it for MuJoCo's tasks, alone and with the callback.
    "sac": Variant("SAC", {"learning_starts": 10_000}, normalize=False),
    "sac_decomposed": Variant(
        "Learned-SAC", {"learning_starts": 10_000, "reward_kwargs": {"preset": "decomposition"}}, normalize=False
    ),
    # The chain's, of hidden size 32 throughout (appendix F).
    "ppo_small": Variant("PPO", {"policy_kwargs": {"net_arch": [32, 32]}}),
    "tare_paper_small": Variant(
        "TAREPPO",
        {
            "policy_kwargs": {"net_arch": [32, 32]},
            "reward_kwargs": {"preset": "paper", "architecture_kwargs": {"hidden_size": 32, "lstm_layers": 2}},
        },
    ),
    # MiniGrid's, whose convolution is shared by policy, critic and reward (appendix F).
    "ppo_grid": _on_grids("Convolution-PPO"),
    "tare_paper_grid": _on_grids("Convolution-TAREPPO", reward_kwargs={"preset": "paper"}),
    "tare_default_grid": _on_grids("Convolution-TAREPPO"),
}
"""Everything that ``--variants`` can name, in the order of tables and legends; a further variant is one entry more."""

AWR_TASKS: dict[str, dict[str, float]] = {
    "Ant-v5": {"learning_rate": 5e-5, "action_std": 0.2},
    "HalfCheetah-v5": {"learning_rate": 5e-5},
    "Hopper-v5": {"learning_rate": 1e-4},
    "Humanoid-v5": {"learning_rate": 1e-5},
    "Walker2d-v5": {"learning_rate": 2.5e-5},
}
"""Settings of AWR's authors for a task, where they differ from AWR's defaults (Peng et al., 2019)."""

TASKS = {"AWR": AWR_TASKS, "TAREAWR": AWR_TASKS}
"""Arguments by algorithm and task; a task whose reward is late or noisy has those of the task that it is made of."""


def variant_on(name: str, env: str) -> Variant:
    """The variant of this name, with the arguments that its algorithm has for the task ``env``."""
    variant = VARIANTS[name]
    task = re.sub(r"^sb3_tare/(Delayed|Episodic|Noisy)", "", env)
    return variant.changed(TASKS.get(variant.algorithm, {}).get(task, {}))
