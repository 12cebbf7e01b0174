"""Files that rl-zoo3's ``load_from_hub`` asks for beside the model."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import yaml
from huggingface_sb3 import EnvironmentName

from sb3_tare.hub.naming import ARGUMENTS, CURVES, ENV_KWARGS, HYPERPARAMETERS, algorithm_and_env
from sb3_tare.utils.files import write_text


def run_of(model: Path, env_id: str) -> Path | None:
    """The folder of the run of rl-zoo3 that a model's file lies in; None if it is of none."""
    return model.parent if (model.parent / EnvironmentName(env_id) / HYPERPARAMETERS).exists() else None


def write_zoo_files(model: Path, env_id: str, normalized: bool, run: Path | None) -> None:
    """Write a run's settings and curves beside its model: rl-zoo3's own, or what it needs to let the model act.

    :param model: packed file, named by ``huggingface_sb3``'s convention
    :param normalized: whether the statistics of ``VecNormalize`` lie beside it
    :param run: folder of the run of rl-zoo3 that trained the model, if one did
    """
    folder, settings = model.parent, None if run is None else run / EnvironmentName(env_id)
    written = {
        ARGUMENTS: {"algo": algorithm_and_env(model.name)[0], "env": env_id, "env_kwargs": None},
        HYPERPARAMETERS: {"normalize": normalized},
        ENV_KWARGS: {},
    }
    for name, content in written.items():
        if settings is not None and (settings / name).exists():
            shutil.copyfile(settings / name, folder / name)
        else:
            write_text(folder / name, yaml.safe_dump(content))
    with zipfile.ZipFile(folder / CURVES, "w") as archive:
        for file in () if run is None else sorted((*run.glob("evaluations.npz"), *run.glob("*.monitor.csv"))):
            archive.write(file, file.name)
