"""Files of the statistics that ``VecNormalize`` keeps, found where SB3, rl-zoo3, studies and the hub put them."""

from __future__ import annotations

import re
from pathlib import Path

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
