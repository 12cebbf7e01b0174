"""Files in which rl-zoo3 keeps the settings of a run, in a folder of the environment's name; on the hub, beside the model."""

from __future__ import annotations

from pathlib import Path

ARGUMENTS, HYPERPARAMETERS = "args.yml", "config.yml"
"""Names of the command line's arguments, and of what the yaml file and they said of the algorithm"""


def keeps_settings(folder: Path) -> bool:
    """Whether rl-zoo3 has kept the settings of a run in a folder."""
    return (folder / ARGUMENTS).exists() and (folder / HYPERPARAMETERS).exists()
