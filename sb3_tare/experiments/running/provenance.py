"""The package versions that a result belongs to."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

PACKAGES = ("sb3-tare", "stable-baselines3", "sb3-contrib", "torch", "gymnasium", "mujoco", "numpy")
"""Packages that numbers of a study depend on."""


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages and of Python."""
    return {**{name: version(name) for name in packages}, "python": platform.python_version()}
