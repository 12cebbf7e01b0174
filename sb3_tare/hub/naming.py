"""Names by which ``huggingface_sb3`` and rl-zoo3 look for a model and what belongs to it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # which is in no __all__
from huggingface_sb3 import EnvironmentName, ModelName

from sb3_tare.utils.vec_normalize import OF_THE_HUB

CARD, CONFIG, RESULTS, PICTURE = "README.md", "config.json", "results.json", "timeline.png"
ENV_KWARGS = "env_kwargs.yml"
"""Arguments of the environment, beside the settings that rl-zoo3 keeps of a run"""
CURVES = "train_eval_metrics.zip"
"""Archive of a run's training curves, which rl-zoo3 asks for"""

SOME_HAVE = (OF_THE_HUB, PICTURE)
"""Files that one package has and the next has not, beside the reward's"""

OWN = {"TAREPPO": "tare_ppo", "TAREAWR": "tare_awr"}
"""Algorithms whose names rl-zoo3's tables write otherwise than in small letters"""


def model_name(model: Any, env_id: str) -> Any:
    """The ``ModelName`` of a model: ``tare_ppo-Hopper-v5``."""
    algorithm = type(model).__name__
    return ModelName(OWN.get(algorithm, algorithm.lower()), EnvironmentName(env_id))


def algorithm_and_env(file: str) -> tuple[str, str]:
    """The algorithm and the environment that a model's file is named after: ``tare_ppo`` and ``Hopper-v5``.

    :param file: ``tare_ppo-Hopper-v5.zip``
    :raises ValueError: if it is not named so
    """
    named = re.fullmatch(r"(\w+)-(\w[\w.-]*)\.zip", PurePath(file).name)  # no "..", as folders are made of the two
    if named is None:
        raise ValueError(f"{file} is not named after an algorithm and an environment, as tare_ppo-Hopper-v5.zip is")
    return named[1], named[2]


def check_repo_id(repo_id: str) -> None:
    """Check that a repository's name is one that the hub takes.

    :raises ValueError: if it is not
    """
    if repo_id.count("/") != 1:
        raise ValueError(f"repo_id must be the owner and a name, such as 'me/tare_ppo-Hopper-v5', got {repo_id!r}")
    validate_repo_id(repo_id)
