"""Files that rl-zoo3's ``load_from_hub`` asks for beside the model."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import yaml

from sb3_tare.analysis.environments import Environment
from sb3_tare.analysis.zoo_runs import settings_in
from sb3_tare.hub.naming import CURVES, ENV_KWARGS, algorithm_and_env
from sb3_tare.utils.files import write_text
from sb3_tare.utils.zoo_settings import ARGUMENTS, HYPERPARAMETERS


def write_zoo_files(model: Path, environment: Environment, normalized: bool, run: Path | None) -> None:
    """Write a run's settings and curves beside its model: rl-zoo3's own, or what it needs to let the model act.

    :param model: packed file, named by ``huggingface_sb3``'s convention
    :param environment: that the model was evaluated in
    :param normalized: whether the statistics of ``VecNormalize`` lie beside it
    :param run: folder of the run of rl-zoo3 that trained the model, if one did; any other is passed over
    """
    folder, settings = model.parent, None if run is None else settings_in(run, environment.env_id)
    kwargs, wrappers = dict(environment.kwargs), environment.env_wrapper()
    written: dict[str, dict[str, Any]] = {
        ARGUMENTS: {"algo": algorithm_and_env(model.name)[0], "env": environment.env_id, "env_kwargs": kwargs or None},
        HYPERPARAMETERS: {"normalize": normalized, **({"env_wrapper": wrappers} if wrappers else {})},
        ENV_KWARGS: kwargs,
    }
    for name, content in written.items():
        if settings is not None and name != ENV_KWARGS:
            shutil.copyfile(settings / name, folder / name)
        else:
            write_text(folder / name, yaml.safe_dump(content))
    curves = () if run is None or settings is None else (*run.glob("evaluations.npz"), *run.glob("*.monitor.csv"))
    with zipfile.ZipFile(folder / CURVES, "w") as archive:
        for file in sorted(curves):
            archive.write(file, file.name)
