"""The settings as typed keyword arguments, so that editors complete them and type checkers refuse what is none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from torch import nn

from sb3_tare.utils.schedules import Scheduled


class NetworkKwargs(TypedDict, total=False):
    """Keywords of :class:`~sb3_tare.settings.groups.NetworkSettings`."""

    architecture: str | type[nn.Module]
    architecture_kwargs: Mapping[str, Any]
    features: Literal["policy", "own"]
    zero_head: bool | None
    initial_reward: str | None


class AdvantageKwargs(TypedDict, total=False):
    """Keywords of :class:`~sb3_tare.settings.groups.AdvantageSettings`."""

    reward_mode: Literal["add", "replace"]
    reward_coef: Scheduled
    normalize_reward: bool
    center: bool
    gae_lambda: float | None
    residual: bool


class CriticKwargs(TypedDict, total=False):
    """Keywords of :class:`~sb3_tare.settings.groups.CriticSettings`."""

    critics: Literal[1, 2]
    critic_learning_rate: Scheduled
    critic_batch_size: int
    critic_epochs: int


class ScheduleKwargs(TypedDict, total=False):
    """Keywords of :class:`~sb3_tare.settings.groups.ScheduleSettings`."""

    validation: Literal["split", "next_rollout"]
    swap: bool
    interleave: bool
    n_reward_updates: int
    reward_every: int


class GradientKwargs(TypedDict, total=False):
    """Keywords of :class:`~sb3_tare.settings.groups.GradientSettings`."""

    curvature: Literal["fisher", "hessian", "identity", "adam"] | None
    curvature_episodes: Literal["validation", "training"]
    kl_coef: float
    damping: float
    cg_steps: int
    actor_parameters: Literal["all", "without_log_std"]
    curvature_samples: int
    hold_features: bool | None
    chunk_rows: int | None
    hypergradient_rollouts: int | None


class StepKwargs(TypedDict, total=False):
    """Keywords of :class:`~sb3_tare.settings.groups.StepSettings`, and the seed."""

    learning_rate: Scheduled
    max_grad_norm: float
    seed: int | None


class DecompositionKwargs(TypedDict, total=False):
    """Those of :class:`~sb3_tare.settings.groups.DecompositionSettings`."""

    return_decomposition: bool
    decomposition_steps: int
    decomposition_episodes: int
    decomposition_updates: int
    decomposition_learning_rate: Scheduled
    decomposition_memory: int
    decomposition_length: int
    decomposition_recent: float
    shrinkage: Literal["steps", "penalty", "none"]
    shrinkage_penalty: float
    action_cost: bool
    trust_slope: float | None
    hypergradient_share: float


class SharedKwargs(NetworkKwargs, AdvantageKwargs, CriticKwargs, StepKwargs, total=False):
    """Keywords that every learner has."""


class RewardKwargs(SharedKwargs, ScheduleKwargs, GradientKwargs, DecompositionKwargs, total=False):
    """Keys of ``reward_kwargs``, keyword arguments of :class:`~sb3_tare.RewardLearner`."""

    preset: Literal["decomposition", "implicit", "paper", "paper_literal", "paper_residual"]
