"""Settings that rl-zoo3 keeps of a training, in a run's folder or a repository of the hub: which environment it was in.

They are yaml, read as rl-zoo3 reads it. That can run anything, as the pickles in a model's file can.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sb3_tare.analysis.environments import MONITOR, REMEDY, Environment, Wrapper
from sb3_tare.utils.zoo_settings import ARGUMENTS, HYPERPARAMETERS, keeps_settings


def settings_in(folder: Path, env_id: str) -> Path | None:
    """The place in which a run of rl-zoo3's, or a model's folder of the hub, keeps settings of the training in an environment.

    :param folder: of the model's file
    :return: None if ``folder`` is neither
    """
    found = _found(folder, env_id)
    return None if found is None else found[0]


def _found(folder: Path, env_id: str) -> tuple[Path, dict[str, Any]] | None:
    """The same place, with the arguments in it."""
    place = next(filter(keeps_settings, (folder / _name(env_id), folder)), None)
    if place is None:
        return None
    arguments = _read(place / ARGUMENTS)
    return (place, arguments) if _name(str(arguments.get("env"))) == _name(env_id) else None


def named(env_id: str, kwargs: Mapping[str, Any] | None = None, folder: Path | None = None) -> Environment:
    """An environment by its id, with arguments and wrappers of the training that a folder keeps the settings of.

    :param kwargs: of ``gymnasium.make``; they come before those of the settings
    :param folder: of the model's file
    :raises ValueError: if settings cannot be read, or tell of wrappers around all copies of the environment
    """
    found = None if folder is None else _found(folder, env_id)
    if found is None:
        return Environment(env_id, dict(kwargs or {}))
    settings, arguments = found
    told = _read(settings / HYPERPARAMETERS)
    for name in ("frame_stack", "vec_env_wrapper"):
        if told.get(name):
            raise ValueError(f"{settings / HYPERPARAMETERS} has {name}, around all copies of an environment: {REMEDY}")
    trained = arguments.get("env_kwargs")
    trained = told.get("env_kwargs") if trained is None else trained
    wrappers = tuple(map(_of_zoo, _listed(told.get("env_wrapper"))))
    return Environment(env_id, {**(trained or {}), **(kwargs or {})}, (MONITOR, *wrappers) if wrappers else ())


def _name(env_id: str) -> str:
    """Folder that rl-zoo3 keeps an environment's settings in."""
    return env_id.rpartition(":")[2].replace("/", "-")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.unsafe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold settings by their names, got {type(content).__name__}")
    return content


def _listed(wrappers: Any) -> list[Any]:
    return wrappers if isinstance(wrappers, list) else [] if wrappers is None else [wrappers]


def _of_zoo(wrapper: Any) -> Wrapper:
    """A wrapper of rl-zoo3's: a name, a class, or one of them with arguments."""
    ((name, kwargs),) = wrapper.items() if isinstance(wrapper, dict) else [(wrapper, {})]
    return Wrapper(name if isinstance(name, str) else f"{name.__module__}.{name.__qualname__}", kwargs or {})
