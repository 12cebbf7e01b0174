"""Variants and tasks of one's own, from a small YAML file: :func:`read_own` says what it holds."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sb3_tare.experiments.variants import VARIANTS, Variant, algorithm_named

KINDS: dict[str, type] = {"algorithm": str, "kwargs": dict, "policy": str, "normalize": bool, "history": bool}
"""Types of a variant's entries."""


@dataclass(frozen=True)
class Own:
    """Contents of a file.

    :param variants: by name
    :param envs: ids of Gymnasium, ``module:Id`` where a module of one's own registers them
    """

    variants: Mapping[str, Variant]
    envs: tuple[str, ...]


def read_own(path: Path) -> Own:
    """Read a file of variants and environments; modules beside it can be imported from then on, by the runs too.

    Under ``variants`` it has the entries of a :class:`~sb3_tare.experiments.variants.Variant` by its name, and under ``envs``,
    which may be left out, a list of ids.

    :raises ValueError: if the file cannot be read, or an entry is unknown, missing, or cannot work
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is no YAML file that can be read: {error}") from error
    if not isinstance(content, dict) or not content.keys() <= {"variants", "envs"}:
        raise ValueError(f"{path} must have variants, and may have envs, and nothing else")
    variants, envs = content.get("variants"), content.get("envs", [])
    if not isinstance(variants, dict) or not variants:
        raise ValueError(f"variants in {path} must be a mapping from names to entries, got {variants!r}")
    if not isinstance(envs, list) or not all(isinstance(env, str) for env in envs):
        raise ValueError(f"envs in {path} must be a list of ids, got {envs!r}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # processes of runs take it over
    return Own(
        {str(name): _variant(f"{path}: variant {name}", str(name), each) for name, each in variants.items()}, tuple(envs)
    )


def _variant(where: str, name: str, entries: Any) -> Variant:
    if name in VARIANTS:
        raise ValueError(f"{where}: this package has a variant of that name; choose another")
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"{where}: a name must be of letters, digits and underscores, as it is part of file names")
    if not isinstance(entries, dict) or not {"algorithm"} <= entries.keys() <= KINDS.keys():
        raise ValueError(f"{where} must have algorithm, and may have {', '.join(KINDS)}, got {entries!r}")
    for entry, value in entries.items():
        if not isinstance(value, KINDS[entry]):
            raise ValueError(f"{where}: {entry} must be of type {KINDS[entry].__name__}, got {value!r}")
    algorithm_named(entries["algorithm"])
    return Variant(**entries)
