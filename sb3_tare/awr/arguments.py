"""Arguments of AWR, refused at once where they cannot work."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_tare.awr.policy import AWRPolicy
from sb3_tare.utils.checks import check_count, check_device, check_number

_STEPS = "it takes critic_steps and actor_steps gradient steps for every 2,048 collected ones"
_NO_TARGET = "it has no target network; its critic is fitted to TD(lambda) returns: leave it out"
_OWN_MEMORY = "its memory holds paths of buffer_size steps: leave it out, and fill one of your own with use_memory"

REPLACED: dict[str, str] = {
    "learning_starts": "it learns after each iteration from all that its memory holds: leave it out; train_freq says how "
    "many steps an iteration has",
    "n_steps": "train_freq says how many steps of each environment an iteration has",
    "gradient_steps": _STEPS,
    "n_epochs": _STEPS,
    "replay_buffer_class": _OWN_MEMORY,
    "replay_buffer_kwargs": _OWN_MEMORY,
    "optimize_memory_usage": _OWN_MEMORY,
    "tau": _NO_TARGET,
    "target_update_interval": _NO_TARGET,
    "gae_lambda": "td_lambda is the lambda of its returns",
    "clip_range": "max_weight is where its weights are clipped",
    "vf_coef": "critic_learning_rate is the step size of its critic",
    "max_grad_norm": "its gradients are not clipped: lower learning_rate or critic_learning_rate",
    "action_noise": "its policy draws actions of standard deviation action_std",
    "use_sde": "its policy draws actions of standard deviation action_std",
}
"""What takes the place of arguments that SB3's algorithms have and AWR has not."""


def check_arguments(model: Any) -> None:
    """Check the arguments that an AWR was given.

    :raises TypeError: if the policy is none of AWR's
    :raises ValueError: if an argument of ``model`` is out of its range, or its device has no double precision
    """
    check_device(model.device)
    for name in ("temperature", "max_weight", "action_std"):
        check_number(name, getattr(model, name), above=0.0)
    for name in ("bound_coef", "ent_coef"):
        check_number(name, getattr(model, name), at_least=0.0)
    for name in ("learning_rate", "critic_learning_rate"):
        if not callable(getattr(model, name)):
            check_number(name, getattr(model, name), at_least=0.0)  # zero is what rl-zoo3 loads a model with to watch it
    check_number("gamma", model.gamma, at_least=0.0, below=1.0)
    check_number("td_lambda", model.td_lambda, at_least=0.0, at_most=1.0)
    for name in ("buffer_size", "batch_size"):
        check_count(name, getattr(model, name), least=1)
    for name in ("critic_steps", "actor_steps", "normalizer_steps"):
        check_count(name, getattr(model, name), least=0)
    if model.batch_size > model.buffer_size:
        raise ValueError(
            f"batch_size={model.batch_size} is larger than the memory, buffer_size={model.buffer_size}: lower the one or "
            "raise the other"
        )
    if not issubclass(model.policy_class, AWRPolicy):
        raise TypeError(
            "policy must be 'MlpPolicy', 'CnnPolicy', 'MultiInputPolicy' or a subclass of sb3_tare.awr.AWRPolicy, got "
            f"{model.policy_class.__name__}"
        )


def check_iteration(model: Any) -> None:
    """Check that the memory of an AWR can hold what one of its iterations collects.

    :raises ValueError: if the memory is too small for an iteration of ``model``, or several environments count episodes
    """
    frequency, unit = model.train_freq
    capacity = model.buffer_size // model.n_envs
    if unit is TrainFrequencyUnit.EPISODE and model.n_envs > 1:
        raise ValueError(
            f"train_freq in episodes needs a single environment, got {model.n_envs}: give it in steps of each environment"
        )
    if unit is TrainFrequencyUnit.STEP and frequency > capacity:
        raise ValueError(
            f"buffer_size={model.buffer_size} holds {capacity} steps of each of {model.n_envs} environments, fewer than an "
            f"iteration collects (train_freq={frequency}): raise buffer_size or lower train_freq"
        )
