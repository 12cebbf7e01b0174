"""Reward learners that start from what another has learned."""

from __future__ import annotations

from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_tare.learning.replaying import ReplayTrainer
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.rewards.learned_reward import LearnedReward


def start_from(reward: LearnedReward, trainer: RewardTrainer | ReplayTrainer) -> None:
    """Let a trainer's reward network start with the weights of ``reward``, and where returns are decomposed its unit and cost.

    :raises ValueError: if they would mean something else there
    """
    model, settings = trainer.host.model, trainer.settings.flat()
    reward.check_spaces(model.observation_space, model.action_space)
    for name in ("architecture", "architecture_kwargs", "normalize_reward", "residual"):
        if settings[name] != getattr(reward, name):
            raise ValueError(
                f"initial_reward was learned with {name}={getattr(reward, name)!r}, not {settings[name]!r}: set {name} to that"
            )
    was, will_be = _normalizes(reward.vec_normalize), _normalizes(model.get_vec_normalize_env())
    if was != will_be:
        raise ValueError(
            f"initial_reward was learned {'with' if was else 'without'} VecNormalize's observations and would now get "
            f"observations {'with' if will_be else 'without'} it: wrap the environment as it was then"
        )
    extractor = trainer.reward_model.extractor or trainer.reward_model.frozen_extractor
    if extractor is None and any(True for _ in reward.extractor.parameters()):
        raise ValueError(
            "initial_reward reads features that its own policy has learned, which this policy's are not: "
            "features='own' takes its feature extractor over as well"
        )
    trainer.reward_model.network.load_state_dict(reward.network.state_dict())
    if trainer.decomposer is not None:
        trainer.decomposer.start_as_loaded()
    if extractor is not None:
        _take_over(extractor, reward.extractor)


def _normalizes(env: VecNormalize | None) -> bool:
    return env is not None and env.norm_obs


def _take_over(extractor: nn.Module, other: nn.Module) -> None:
    if type(extractor) is not type(other):
        raise ValueError(
            f"initial_reward was learned with a {type(other).__name__}, this policy has a {type(extractor).__name__}: "
            "use the same features_extractor_class"
        )
    extractor.load_state_dict(other.state_dict())
