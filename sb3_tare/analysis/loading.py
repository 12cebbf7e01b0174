"""Saved models and the environments to watch them in."""

from __future__ import annotations

import importlib
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

import sb3_tare
from sb3_tare import RewardLearner
from sb3_tare.utils.entries import entries_of
from sb3_tare.utils.files import reward_path
from sb3_tare.utils.numbered import algorithm_in


def load_model(path: str | Path, algorithm: str | None = None) -> BaseAlgorithm:
    """A saved model, of the algorithm that its file names.

    :param path: of its zip file
    :param algorithm: for files that do not tell, as SB3's own: a name in this package, SB3 or sb3-contrib, or
        ``"module:Class"``
    :raises ValueError: if it cannot be told of which algorithm the model is, or the file is in a newer or unknown format
    """
    if algorithm is None:
        algorithm = algorithm_in(path)
        if algorithm is None:
            raise ValueError(
                f"{path} does not tell of which algorithm it is: name that, such as PPO or module:Class, by algorithm=, or "
                "--algorithm in a command"
            )
    return _algorithm(algorithm).load(path, device="cpu")


def _algorithm(name: str) -> type[BaseAlgorithm]:
    module, _, class_name = name.rpartition(":")
    places: list[Any] = [sb3_tare, stable_baselines3, sb3_contrib]
    try:
        places = [importlib.import_module(module)] if module else places
    except ModuleNotFoundError as error:
        raise ValueError(f"the algorithm {name} is in a module that cannot be imported from here: {error}") from error
    found = next((getattr(place, class_name) for place in places if hasattr(place, class_name)), None)
    if not isinstance(found, type) or not issubclass(found, BaseAlgorithm):
        raise ValueError(f"there is no algorithm {name!r}: give a name such as TAREPPO or PPO, or module:Class")
    return found


def load_reward(path: str | Path, model: BaseAlgorithm, reward: str | Path | None = None) -> tuple[RewardLearner | None, Path]:
    """The learner of a model's reward where it is in a file of its own, and the file that holds it.

    :param path: of the model's file
    :param model: loaded from it
    :param reward: file of the learner; None: the one beside the model, if there is one
    :return: no learner, and the model's file, where the model has its own or none
    :raises ValueError: if the reward is not one of this model
    """
    beside = reward_path(path)
    if reward is None and (hasattr(model, "reward_learner") or not beside.exists()):
        return None, Path(path)
    learner = RewardLearner.load(reward or path, device="cpu")
    learner.attach(model)
    return learner, Path(reward or beside)


def trained_behind_vec_normalize(path: str | Path) -> bool | None:
    """Whether a file with a reward learner tells that its model was trained behind ``VecNormalize``; None if it does not tell.

    :param path: of an algorithm that learns its reward, or that ``RewardLearner.save`` wrote
    """
    entries = entries_of(path, "reward_learner.pth", "model", "give a file of TAREPPO, TAREAWR, LIRPG or RewardLearner")
    of_model = (
        entries.value("_continuation", "load the model with the class that saved it") if "_continuation" in entries else None
    )
    return {**(of_model or {}), **entries.data}.get("vec_normalize")


def make_env(env_id: str, model: BaseAlgorithm, vec_normalize: str | Path | None = None, film: bool = False) -> VecEnv:
    """One copy of an environment, as ``model`` saw it in training.

    :param env_id: registered with Gymnasium, with the module to import before a colon where that is needed
    :param vec_normalize: file of the statistics that ``VecNormalize.save`` wrote; None takes those of the model's environment,
        if it has some. They stay as they are.
    :param film: with ``render_mode="rgb_array"``
    :raises ValueError: if its spaces are not the model's
    """
    env: VecEnv = DummyVecEnv([lambda: Monitor(gym.make(env_id, render_mode="rgb_array" if film else None))])
    trained_in = model.get_vec_normalize_env()
    if vec_normalize is not None:
        env = _behind(vec_normalize, env, env_id)
        env.training = False
    elif trained_in is not None:
        statistics = deepcopy(trained_in)  # without the environment, which is neither copied nor pickled
        statistics.set_venv(env)
        statistics.training = False
        env = statistics
    env = BaseAlgorithm._wrap_env(env, verbose=0, monitor_wrapper=False)  # images channel first, as SB3 does it
    check_for_correct_spaces(env, model.observation_space, model.action_space)
    return env


def _behind(statistics: str | Path, env: VecEnv, env_id: str) -> VecNormalize:
    """An environment behind saved statistics, whose spaces would stand in front of its own."""
    try:
        normalised = VecNormalize.load(str(statistics), env)
    except AssertionError as error:  # of another shape
        raise ValueError(f"{statistics} has statistics of another environment than {env_id}: {error}") from error
    for name in ("observation_space", "action_space"):
        saved, own = getattr(normalised, name), getattr(env, name)
        if type(saved) is not type(own) or saved.shape != own.shape:
            raise ValueError(f"{statistics} has statistics of another environment than {env_id}: {name} {saved}, not {own}")
    return normalised


def why_not_filmed(env_id: str) -> str | None:
    """Why an environment gives no picture, or None if it gives one. Drivers and packages can be missing in many ways."""
    try:
        with gym.make(env_id, render_mode="rgb_array") as env:
            env.reset()
            frame = env.render()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if isinstance(frame, np.ndarray) and frame.ndim == 3 else f"render() returned {type(frame).__name__}"
