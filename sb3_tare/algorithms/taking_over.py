"""Algorithms that go on from what others have learned: SB3's as ones that learn their reward, and those as SB3's again."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from sb3_tare.algorithms.owner import OwnsRewardLearner
from sb3_tare.awr.awr import AWR
from sb3_tare.learning.saved import holds_learner
from sb3_tare.utils.generators import undisturbed_generators
from sb3_tare.utils.numbered import written_in
from sb3_tare.utils.vec_normalize import behind_statistics, find_statistics

Algorithm = TypeVar("Algorithm", bound=BaseAlgorithm)
Environment = gym.Env | VecEnv
TELLING: dict[type[BaseAlgorithm], Iterable[str]] = {PPO: ("clip_range", "n_epochs"), AWR: ("critic_steps", "max_weight")}
"""Attributes by which the file of an algorithm is known, as SB3's own files do not tell it."""


@undisturbed_generators()
def carried_over(
    source: Any, target_class: type[Algorithm], env: Environment | None, device: torch.device | str | None, **arguments: Any
) -> Algorithm:
    """A ``target_class`` that has learned what ``source`` has: attributes that both have, policy and optimisers, as copies.

    The global random generators stay as they are.

    :param env: None: that of ``source``, which both then have
    :param device: None: that of ``source``
    :param arguments: of ``target_class`` alone
    :raises ValueError: if ``env`` has other spaces
    """
    env = source.get_env() if env is None else BaseAlgorithm._wrap_env(env, source.verbose)
    if env is not None:
        check_for_correct_spaces(env, source.observation_space, source.action_space)
    device = source.device if device is None else device
    target: Any = target_class(source.policy_class, env, device=device, _init_setup_model=False, **arguments)  # type: ignore[call-arg]
    shared = vars(target).keys() & vars(source).keys() - {*target._excluded_save_params(), *arguments}
    shared |= {"observation_space", "action_space"}  # which it has not got yet where there is no environment
    target.__dict__.update(deepcopy({name: getattr(source, name) for name in shared}))
    target.n_envs = source.n_envs if env is None else env.num_envs
    target._setup_model()
    for name in {*source._get_torch_save_params()[0]} & {*target._get_torch_save_params()[0]}:
        recursive_getattr(target, name).load_state_dict(deepcopy(recursive_getattr(source, name).state_dict()))
    if target.use_sde:
        target.policy.reset_noise()
    return target


def taken_over(
    model_or_path: Any,
    source_class: type[BaseAlgorithm],
    target_class: type[Algorithm],
    env: Environment | None,
    device: torch.device | str | None,
    **arguments: Any,
) -> Algorithm:
    """A ``target_class`` that goes on from a model, or a model's file, that learns no reward.

    Its environments are reset before it learns, since nobody can say how far they are into their episodes.

    :param source_class: of the model, or a base of its class
    :raises TypeError: if it is of another class
    :raises ValueError: if its file is that of another algorithm, or has several statistics of ``VecNormalize`` beside it
    """
    source = model_or_path
    if isinstance(model_or_path, (str, Path)):
        _check_file(model_or_path, source_class, target_class)
        env = _behind_its_statistics(model_or_path, env)
        source = source_class.load(model_or_path, env=env, device="auto" if device is None else device)
    _check_class(source, source_class, target_class)
    target = carried_over(source, target_class, env, device, **arguments)
    target._last_obs = None
    return target


def _check_class(model: Any, source_class: type, target_class: type) -> None:
    """Check that a model can be gone on from.

    :raises TypeError: if it cannot, with what would work
    """
    name = type(model).__name__
    if isinstance(model, OwnsRewardLearner):
        raise TypeError(f"this {name} learns a reward already: give a {source_class.__name__} that does not")
    known = {
        each for each in target_class.__mro__ if issubclass(each, source_class) and not issubclass(each, OwnsRewardLearner)
    }
    if type(model) not in known:
        names = " or ".join(sorted(each.__name__ for each in known))
        raise TypeError(
            f"{target_class.__name__} goes on from {names}, or a file of that, not from {name}: to an algorithm of "
            "your own, pass a RewardLearner as callback"
        )


def _check_file(path: str | Path, source_class: type, target_class: type) -> None:
    """Check that a file is that of a model which can be gone on from, before it is unpickled.

    :raises ValueError: if it is not, with what would work
    """
    if holds_learner(path):
        raise ValueError(
            f"{path} is a model that learns a reward already: {target_class.__name__}.load reads those of its own"
        )
    written = written_in(path)
    missing = [name for name in TELLING[source_class] if name not in written]
    policy = written.get("policy_class")
    module = str(policy.get("__module__", "")) if isinstance(policy, dict) else ""
    if missing or module.startswith("sb3_contrib"):
        reason = f"it tells no {missing[0]}" if missing else f"its policy is of {module}"
        raise ValueError(
            f"{path} is no model of {source_class.__name__}, as {reason}: load it with its own class, and pass a "
            "RewardLearner as callback"
        )


def _behind_its_statistics(path: str | Path, env: Environment | None) -> Environment | None:
    """The environment in ``VecNormalize`` with the statistics that lie beside a model's file, if there are any."""
    statistics = find_statistics(path, None, "by env=VecNormalize.load(file, env)")
    if env is None or statistics is None or (isinstance(env, VecEnv) and unwrap_vec_normalize(env) is not None):
        return env
    venv = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: Monitor(env)])
    return behind_statistics(statistics, venv)
