"""Saved models and the environments to watch them in."""

from __future__ import annotations

import importlib
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import sb3_tare
from sb3_tare import RewardLearner
from sb3_tare.analysis.environments import Environment, made
from sb3_tare.utils.entries import entries_of
from sb3_tare.utils.files import reward_path
from sb3_tare.utils.numbered import algorithm_in
from sb3_tare.utils.vec_normalize import behind_statistics, find_statistics


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


class Loaded(NamedTuple):
    """A saved model with what belongs to it.

    :param model: an algorithm of SB3
    :param learner: of its reward, where that is in a file of its own
    :param statistics: file of ``VecNormalize``'s statistics, if it was trained behind them
    """

    model: Any
    learner: RewardLearner | None
    statistics: Path | None

    @property
    def learns_reward(self) -> bool:
        """Whether there is a learned reward, its own or another file's."""
        return self.learner is not None or hasattr(self.model, "reward_learner")


def load_all(
    path: str | Path,
    algorithm: str | None = None,
    reward: str | Path | None = None,
    *,
    statistics: Path | None = None,
    remedy: str,
) -> Loaded:
    """A saved model, the learner of its reward, and the file of its statistics; arguments as in the functions above.

    :param statistics: None: those that lie beside the model
    :param remedy: how ``statistics`` are named where they cannot be told, for errors
    :raises ValueError: as there, or if statistics are missing or there are several
    """
    model = load_model(path, algorithm)
    learner, holder = load_reward(path, model, reward)
    loaded = Loaded(model, learner, statistics)
    if statistics is not None:
        return loaded
    was_used = trained_behind_vec_normalize(holder) if loaded.learns_reward else None
    return loaded._replace(statistics=find_statistics(path, was_used, remedy))


def make_env(
    env_id: str | Environment, model: BaseAlgorithm, vec_normalize: str | Path | None = None, film: bool = False
) -> VecEnv:
    """One copy of an environment, as ``model`` saw it in training.

    :param env_id: registered with Gymnasium, with the module to import before a colon where that is needed; or with arguments
        and wrappers
    :param vec_normalize: file of the statistics that ``VecNormalize.save`` wrote; None takes those of the model's environment,
        if it has some. They stay as they are.
    :param film: with ``render_mode="rgb_array"``
    :raises ValueError: if its spaces are not the model's
    """
    single = made(env_id, "rgb_array" if film else None)
    env: VecEnv = DummyVecEnv([lambda: single if is_wrapped(single, Monitor) else Monitor(single)])
    trained_in = model.get_vec_normalize_env()
    if vec_normalize is not None:
        env = behind_statistics(vec_normalize, env, env_id if isinstance(env_id, str) else env_id.env_id)
        env.training = False
    elif trained_in is not None:
        statistics = deepcopy(trained_in)  # without the environment, which is neither copied nor pickled
        statistics.set_venv(env)
        statistics.training = False
        env = statistics
    env = BaseAlgorithm._wrap_env(env, verbose=0, monitor_wrapper=False)  # images channel first, as SB3 does it
    check_for_correct_spaces(env, model.observation_space, model.action_space)
    return env


def why_not_filmed(env_id: str | Environment) -> str | None:
    """Why an environment gives no picture, or None if it gives one. Drivers and packages can be missing in many ways."""
    try:
        with made(env_id, "rgb_array") as env:
            env.reset()
            frame = env.render()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if isinstance(frame, np.ndarray) and frame.ndim == 3 else f"render() returned {type(frame).__name__}"
