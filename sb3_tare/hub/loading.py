"""Models of the hub, with what belongs to them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

import huggingface_sb3
from huggingface_hub import HfApi

from sb3_tare.hub.naming import CURVES, ENV_KWARGS, algorithm_and_env, check_repo_id
from sb3_tare.utils.files import reward_path
from sb3_tare.utils.vec_normalize import OF_THE_HUB
from sb3_tare.utils.zoo_settings import ARGUMENTS, HYPERPARAMETERS

SETTINGS = {
    OF_THE_HUB: "vecnormalize.pkl",
    **{name: name for name in (ARGUMENTS, HYPERPARAMETERS, ENV_KWARGS)},
}
"""Names in a run's folder of rl-zoo3 by the hub's"""


def load_from_hub(repo_id: str, folder: str | Path | None = None, filename: str | None = None) -> Path:
    """Download a model, its learned reward and its statistics of ``VecNormalize``; nothing of them is read.

    ``TAREPPO.load`` and ``RewardLearner.load`` take the path, and so does ``python -m sb3_tare.analysis``, which finds the
    statistics beside it.

    :param repo_id: ``"me/tare_ppo-Hopper-v5"``
    :param folder: of rl-zoo3's logs, in which a new run is made of it: ``logs/tare_ppo/Hopper-v5_1/Hopper-v5.zip``; None
        leaves all in the hub's cache
    :param filename: of the model in the repository; None: the one of the repository's name, or the only one
    :return: the model's file
    :raises ValueError: if the environment variable ``TRUST_REMOTE_CODE`` does not say that its pickles are trusted, the
        repository has no model or several, or ``folder`` is given and the model is not named after algorithm and environment
    """
    check_repo_id(repo_id)
    there = HfApi().list_repo_files(repo_id)
    model = _model_in(there, repo_id, filename)
    if folder is not None:
        algorithm_and_env(model)  # complain before anything is downloaded
    wanted = [model, *(name for name in (str(reward_path(model)), *SETTINGS) if name in there)]
    files = {name: Path(huggingface_sb3.load_from_hub(repo_id, name)) for name in wanted}
    return files[model] if folder is None else _as_run(model, files, Path(folder))


def _model_in(there: Sequence[str], repo_id: str, filename: str | None) -> str:
    """The model's file among those of a repository."""
    models = [name for name in there if name.endswith(".zip") and not name.endswith(".reward.zip") and name != CURVES]
    named = filename or f"{repo_id.partition('/')[2]}.zip"
    if named in models:
        return named
    if filename is not None or len(models) != 1:
        asked = "filename" if filename is None else f"filename {filename!r}"
        raise ValueError(f"{asked} must name a model of {repo_id}; there are {', '.join(models) or 'none'}")
    return models[0]


def _as_run(model: str, files: Mapping[str, Path], folder: Path) -> Path:
    """Copy downloaded files into a new run of rl-zoo3's.

    :return: the model's file in it
    """
    algorithm, env = algorithm_and_env(model)
    runs = (folder / algorithm / f"{env}_{number}" for number in count(1))
    run = next(run for run in runs if not run.exists())
    settings, copied = run / env, run / f"{env}.zip"
    settings.mkdir(parents=True)
    targets = {model: copied, str(reward_path(model)): reward_path(copied)}
    targets |= {name: settings / ours for name, ours in SETTINGS.items()}
    for name, file in files.items():
        shutil.copyfile(file, targets[name])
    return copied
