"""rl-zoo3 with this package's algorithms: ``python -m sb3_tare.zoo train --algo tare_ppo --env Hopper-v5``.

rl-zoo3 has no plug-ins: its commands share a few tables, which are added to here before a command builds its parser from them.
This is the only folder that imports rl-zoo3.
"""

try:
    import rl_zoo3  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}; sb3_tare.zoo needs rl-zoo3: pip install 'sb3-tare[zoo]'", name=error.name) from error

from sb3_tare.zoo.algorithms import ALGORITHMS, hyperparams_file, register
from sb3_tare.zoo.commands import COMMANDS, main

__all__ = ["ALGORITHMS", "COMMANDS", "hyperparams_file", "main", "register"]
