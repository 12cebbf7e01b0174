"""Files that are whole or not there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: str | Path, write: Callable[[Any], None]) -> None:
    """Let ``write`` fill a temporary binary file beside ``path`` and put it in place once it is on the disk.

    A kill or a full disk leaves the file that was there before, whole. Parent folders are made.
    """
    path = Path(path).resolve()  # a link goes on pointing where it did
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb+") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as indented JSON, whole or not at all."""
    text = json.dumps(data, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def zip_path(path: str | Path) -> Path:
    """``path`` with the suffix that SB3 gives a model's file where it has none."""
    return with_suffix(path, ".zip")


def reward_path(model: str | Path) -> Path:
    """The file of the learned reward that goes with a model's file: ``best_model.reward.zip`` with ``best_model.zip``."""
    model = zip_path(model)
    return model.with_name(f"{model.name.removesuffix('.zip')}.reward.zip")


def with_suffix(path: str | Path, suffix: str) -> Path:
    """``path``, with ``suffix`` where it has none."""
    path = Path(path)
    return path if path.suffix else path.with_name(f"{path.name}{suffix}")
