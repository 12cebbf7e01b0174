"""The making of a result: package versions, the commit of this package, and the time that it took."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("sb3-tare", "stable-baselines3", "sb3-contrib", "torch", "gymnasium", "mujoco", "numpy")
"""Packages that numbers of a study depend on."""


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages and of Python."""
    return {**{name: version(name) for name in packages}, "python": platform.python_version()}


class Making:
    """A run being made, from the moment on at which this is.

    :param before: :meth:`ended` of the part that was made before a kill
    """

    def __init__(self, before: dict[str, Any] | None = None) -> None:
        self.commit, self.changed = commit()
        earlier = before or {"wall_seconds": 0.0, "cpu_seconds": 0.0}
        self.wall = time.monotonic() - earlier["wall_seconds"]
        self.cpu = time.process_time() - earlier["cpu_seconds"]

    def ended(self) -> dict[str, Any]:
        """How it was made, as a result file tells it: commit, whether the code had changes since, and seconds that it took."""
        return {
            "commit": self.commit,
            "changed": self.changed,
            "wall_seconds": round(time.monotonic() - self.wall, 1),
            "cpu_seconds": round(time.process_time() - self.cpu, 1),
        }


def commit(root: Path = Path(__file__).parents[3]) -> tuple[str | None, bool]:
    """The commit of a clone of this package, and whether files of the package have changed since; None if it is no clone."""
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None, False
    found = _git(root, "rev-parse", "HEAD")
    return found, found is not None and _git(root, "status", "--porcelain", "--", "sb3_tare") != ""


def _git(root: Path, *arguments: str) -> str | None:
    told = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else None
