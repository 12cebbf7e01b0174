"""The algorithms of this package, as rl-zoo3 needs to know them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_tare
from sb3_tare.zoo.search import SearchSpace, awr_space, lirpg_space, tare_awr_space, tare_ppo_space


@dataclass(frozen=True)
class Algorithm:
    """An algorithm as rl-zoo3 sees it; its hyperparameters are ``hyperparams/<name>.yml``.

    :param model: its class
    :param space: what a search of hyperparameters varies
    """

    model: type[BaseAlgorithm]
    space: SearchSpace


ALGORITHMS = {
    "tare_ppo": Algorithm(sb3_tare.TAREPPO, tare_ppo_space),
    "lirpg": Algorithm(sb3_tare.LIRPG, lirpg_space),
    "awr": Algorithm(sb3_tare.AWR, awr_space),
    "tare_awr": Algorithm(sb3_tare.TAREAWR, tare_awr_space),
}


def register() -> None:
    """Add this package's algorithms to rl-zoo3's own tables, which all of its commands share."""
    for name, algorithm in ALGORITHMS.items():
        ALGOS[name] = algorithm.model
        HYPERPARAMS_SAMPLER[name] = algorithm.space.sample
        HYPERPARAMS_CONVERTER[name] = algorithm.space.convert  # type: ignore[assignment]


def hyperparams_folder() -> Path:
    """The folder of the yaml files: within an installed package, or beside it in the repository."""
    packaged = Path(sb3_tare.__file__).parent / "hyperparams"
    return packaged if packaged.is_dir() else packaged.parents[1] / "hyperparams"


def hyperparams_file(algorithm: str) -> Path:
    """The yaml file of an algorithm's hyperparameters.

    :raises ValueError: if there is none
    """
    file = hyperparams_folder() / f"{algorithm}.yml"
    if not file.exists():
        known = sorted(path.stem for path in hyperparams_folder().glob("*.yml"))
        raise ValueError(f"there are no hyperparameters for {algorithm!r}; there are for {', '.join(known)}")
    return file
