"""Files of the statistics that ``VecNormalize`` keeps, found where SB3, rl-zoo3, studies and the hub put them, and read."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_tare.utils.damage import damaged
from sb3_tare.utils.files import found_zip

OF_A_STUDY = ".vecnormalize.pkl"
"""Suffix of the statistics that a study keeps, in place of the model's ``.zip``"""
OF_THE_HUB = "vec_normalize.pkl"
"""Name of the statistics beside a model of the Hugging Face hub"""


def find_statistics(model: str | Path, was_used: bool | None, remedy: str) -> Path | None:
    """The file of ``VecNormalize``'s statistics that belongs to a model, where SB3, rl-zoo3, studies and the hub put it.

    :param model: its file
    :param was_used: whether it was trained behind ``VecNormalize``, or None if nobody knows
    :param remedy: how the file is named where it cannot be told, for errors
    :return: None if there is none, or it was not used
    :raises ValueError: if it was used and there is none, or there are several
    """
    if was_used is False:
        return None
    model = found_zip(model)
    folder, numbered = model.parent, re.sub(r"_(\d+_steps)$", r"_vecnormalize_\1", model.stem)
    names = (f"{model.stem}{OF_A_STUDY}", f"{numbered}.pkl", f"{model.stem}/vecnormalize.pkl", "vecnormalize.pkl", OF_THE_HUB)
    of_its_own = [folder / name for name in names]
    found = next(([file] for file in of_its_own if file.exists()), sorted(folder.glob("*/vecnormalize.pkl")))
    if len(found) > 1:
        raise ValueError(f"name the statistics of {model} {remedy}; there are {', '.join(map(str, found))}")
    if was_used and not found:
        raise ValueError(
            f"{model} was trained behind VecNormalize, and its statistics lie neither beside it nor in a folder there as "
            f"vecnormalize.pkl: name their file {remedy}, or the policy and the reward see what they never saw"
        )
    return found[0] if found else None


def behind_statistics(file: str | Path, env: VecEnv, name: str = "this one") -> VecNormalize:
    """An environment behind saved statistics, whose spaces would stand in front of its own.

    :param file: that ``VecNormalize.save`` wrote, a pickle
    :param name: of the environment, for errors
    :raises ValueError: if the file holds no ``VecNormalize``, or one of other spaces
    """
    with Path(file).open("rb") as opened, damaged(str(file), "a VecNormalize"):
        normalised = pickle.load(opened)
    if not isinstance(normalised, VecNormalize):
        raise ValueError(f"{file} must be a file that VecNormalize.save wrote, and holds a {type(normalised).__name__}")
    try:
        normalised.set_venv(env)
    except AssertionError as error:  # of another shape
        raise ValueError(f"{file} has statistics of another environment than {name}: {error}") from error
    for which in ("observation_space", "action_space"):
        saved, own = getattr(normalised, which), getattr(env, which)
        if type(saved) is not type(own) or saved.shape != own.shape:
            raise ValueError(f"{file} has statistics of another environment than {name}: {which} {saved}, not {own}")
    return normalised
