"""The studies: which variants are compared on which environments, for how long, and what is measured on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from sb3_tare.envs import MUJOCO_TASKS, TRIALS
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.variants import Variant, variant_on


@dataclass(frozen=True)
class Study:
    """Variants times environments times seeds.

    :param about: what it compares, in one sentence
    :param variants: names in :data:`~sb3_tare.experiments.variants.VARIANTS`, the reference first
    :param envs: ids of Gymnasium
    :param steps: environment steps of each run
    :param measure: name in :data:`~sb3_tare.experiments.running.measures.MEASURES` of what is recorded at every evaluation
    """

    about: str
    variants: Sequence[str]
    envs: Sequence[str]
    steps: int = 1_000_000
    measure: str | None = None


STUDIES: dict[str, Study] = {
    "figure2": Study(
        "TARE against reward-learning baselines",
        ("ppo", "tare_paper", "tare_paper_residual", "lirpg", "lirpg_lstmbmul", "ppo_lstm", "ppo_lstmbmul"),
        ("Walker2d-v5", "Ant-v5"),
    ),
    "figure3": Study(
        "Architectures of the learned reward",
        ("ppo", "tare_paper", "tare_lstmb", "tare_lstmf", "tare_mlpmul", "tare_mlpconcat"),
        ("Walker2d-v5", "Ant-v5"),
    ),
    "figure4": Study(
        "The chain: learned rewards of its two moves",
        ("ppo_small", "tare_paper_small"),
        ("sb3_tare/Chain-v0",),
        steps=50_000,
        measure="rewards_by_action",
    ),
    # The paper's text (section 2.3) and the figure's caption name different tasks.
    "figure5": Study(
        "Learned against extrinsic reward along training, on the tasks that the paper's text names",
        ("tare_paper", "tare_default"),
        ("Walker2d-v5", "Hopper-v5"),
        measure="rewards_along_training",
    ),
    "figure5_caption": Study(
        "Learned against extrinsic reward along training, on the tasks that the figure's caption names",
        ("tare_paper", "tare_default"),
        ("Walker2d-v5", "Ant-v5"),
        measure="rewards_along_training",
    ),
    "figure6": Study(
        "TARE against its host PPO on MuJoCo tasks",
        ("ppo", "tare_paper", "tare_paper_residual", "tare_next_rollout_add", "tare_implicit", "tare_default"),
        MUJOCO_TASKS,
    ),
    "figure6_awr": Study(
        "TARE against its host AWR on MuJoCo tasks",
        ("awr_64", "tare_awr_paper", "tare_awr_64"),
        MUJOCO_TASKS,
    ),
    "delayed": Study(
        "Rewards that are paid only every 20 steps, or at the episode's end",
        ("ppo", "tare_paper", "tare_next_rollout_add", "tare_default", "lirpg"),
        ("sb3_tare/DelayedHopper-v5", "sb3_tare/DelayedHalfCheetah-v5", "sb3_tare/DelayedWalker2d-v5"),
    ),
    "noisy": Study(
        "Rewards to each of which Gaussian noise of standard deviation 3 is added",
        ("ppo", "tare_decomposed"),
        ("sb3_tare/NoisyHalfCheetah-v5", "sb3_tare/NoisyHopper-v5", "sb3_tare/NoisyWalker2d-v5"),
    ),
    "depth": Study(
        "One LSTM or two in the learned reward",
        ("tare_implicit", "tare_implicit_two_layers", "tare_implicit_two_narrow_layers"),
        ("Hopper-v5", "HalfCheetah-v5"),
        steps=100_000,
    ),
    "dense": Study(
        "Return decomposition where each step is paid: it sees the totals of episodes alone",
        ("ppo", "tare_decomposed"),
        MUJOCO_TASKS,
    ),
    "shrinkage": Study(
        "How far decomposed rewards are shrunk towards the mean of their episode",
        ("tare_decomposed", "tare_decomposed_16_steps", "tare_decomposed_256_steps", "tare_decomposed_unbiased"),
        ("sb3_tare/EpisodicHalfCheetah-v5", "sb3_tare/EpisodicHopper-v5", "sb3_tare/EpisodicWalker2d-v5"),
        steps=300_000,
    ),
    "initialisation": Study(
        "How the hidden layers of decomposed rewards start",
        ("tare_decomposed_orthogonal", "tare_decomposed_uniform"),
        ("sb3_tare/EpisodicHalfCheetah-v5", "sb3_tare/EpisodicHopper-v5", "sb3_tare/EpisodicWalker2d-v5"),
        steps=300_000,
    ),
    "share": Study(
        "Shares of the implicit gradient beside return decomposition, of dense rewards and of totals",
        ("tare_decomposed", "tare_decomposed_share_003", "tare_decomposed_share_01", "tare_decomposed_share_03"),
        tuple(
            f"{kind}{task}" for kind in ("", "sb3_tare/Episodic") for task in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
        ),
        steps=300_000,
    ),
    "episodic": Study(
        "Returns that are paid when the episode ends, and nothing before",
        ("ppo", "tare_decomposed"),
        tuple(f"sb3_tare/Episodic{task}" for task in MUJOCO_TASKS),
    ),
    "safety": Study(
        "Small tasks on which a reward decomposed from totals may turn against its task, and what guards it",
        ("ppo", "tare_trial", "tare_trial_unguarded", "tare_trial_recent"),
        (*(f"sb3_tare/{name}-v0" for name in TRIALS), "CartPole-v1"),
        steps=8_192,
    ),
    "small": Study(
        "Tasks of Gymnasium that take minutes, with the reward of each step",
        ("ppo", "tare_decomposed"),
        ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0"),
        steps=100_000,
    ),
    # Beside it, in the same folder, the dense reward: --variants sac --envs HalfCheetah-v5 Hopper-v5 Walker2d-v5
    "off_policy": Study(
        "SAC where returns are paid when the episode ends, alone and with the callback that decomposes them",
        ("sac", "sac_decomposed"),
        ("sb3_tare/EpisodicHalfCheetah-v5", "sb3_tare/EpisodicHopper-v5", "sb3_tare/EpisodicWalker2d-v5"),
        steps=150_000,
    ),
    # With --variants-from a file of your own.
    "own": Study("Your own variants, from a file, against PPO", ("ppo",), ("Hopper-v5",)),
    "minigrid": Study(
        "TARE against its host on MiniGrid, with a convolution shared by policy, critic and reward",
        ("ppo_grid", "tare_paper_grid", "tare_default_grid"),
        ("sb3_tare/MiniGrid-Empty-8x8-v0", "sb3_tare/MiniGrid-DoorKey-5x5-v0"),
        steps=200_000,
    ),
}
"""Named after the paper's figures where they are the paper's."""


def jobs_of(
    name: str,
    seeds: int,
    variants: Sequence[str] = (),
    envs: Sequence[str] = (),
    steps: int | None = None,
    changes: Mapping[str, Any] | None = None,
    first_seed: int = 0,
    own: Mapping[str, Variant] | None = None,
    **protocol: int,
) -> list[Job]:
    """The runs of a study, seed by seed, so that an unfinished study has as much of each variant.

    :param name: of the study
    :param seeds: how many
    :param variants: instead of the study's
    :param envs: instead of the study's
    :param steps: instead of the study's
    :param changes: keyword arguments that every variant's algorithm gets beside its own
    :param first_seed: from which the seeds count up
    :param own: variants by name, beside those of this package
    :param protocol: further fields of :class:`~sb3_tare.experiments.running.jobs.Job`
    """
    study = STUDIES[name]
    grid = product(
        range(first_seed, first_seed + seeds), dict.fromkeys(envs or study.envs), dict.fromkeys(variants or study.variants)
    )
    return [
        Job(
            study=name,
            name=variant,
            variant=(own[variant] if own and variant in own else variant_on(variant, env)).changed(changes or {}),
            env=env,
            seed=seed,
            steps=study.steps if steps is None else steps,
            measure=study.measure,
            **protocol,
        )
        for seed, env, variant in grid
    ]
