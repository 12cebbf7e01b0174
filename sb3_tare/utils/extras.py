"""Sentences on what to install where a package is missing that an extra brings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

EXTRAS = {
    "ray": "cluster",
    "minigrid": "minigrid",
    "minari": "minari",
    "matplotlib": "plots",
    "pandas": "plots",
    "scipy": "plots",
    "rl_zoo3": "zoo",
    "optuna": "zoo",
    "huggingface_hub": "hub",
    "huggingface_sb3": "hub",
}
"""Extras by the package that they bring."""


def what_to_install(error: ModuleNotFoundError) -> str | None:
    """A sentence with the command that installs what is missing, from a clone of the repository too; None if it is no extra's.

    :param error: of an import
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    root = Path(__file__).parents[2]
    source = str(root) if (root / "pyproject.toml").exists() else "sb3-tare"
    return f"this needs the package {package}: pip install '{source}[{EXTRAS[package]}]'"


def exit_without(error: ModuleNotFoundError, program: str) -> NoReturn:
    """End a command that lacks a package of an extra, with one sentence in place of a traceback.

    :param error: of an import
    :param program: the command, for the sentence
    :raises SystemExit: with that sentence
    :raises ModuleNotFoundError: ``error`` itself, if it is no extra's
    """
    sentence = what_to_install(error)
    if sentence is None:
        raise error
    raise SystemExit(f"{program}: error: {sentence}") from None


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` of a package that imports its modules when their names are used.

    A command of the package can then say what to install: Python imports the package before it.

    :param package: its ``__name__``
    :param modules: module within the package by the name that it defines
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(what_to_install(error) or str(error), name=error.name) from error

    return get
