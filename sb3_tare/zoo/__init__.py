"""rl-zoo3 with this package's algorithms: ``python -m sb3_tare.zoo train --algo tare_ppo --env Hopper-v5``.

rl-zoo3 has no plug-ins: its commands share a few tables, which are added to here before a command builds its parser from them.
This is the only folder that imports rl-zoo3.
"""

from typing import TYPE_CHECKING

from sb3_tare.utils.extras import lazily

if TYPE_CHECKING:
    from sb3_tare.zoo.algorithms import ALGORITHMS, hyperparams_file, register
    from sb3_tare.zoo.commands import COMMANDS, main

__all__ = ["ALGORITHMS", "COMMANDS", "hyperparams_file", "main", "register"]

__getattr__ = lazily(
    __name__,
    {
        "ALGORITHMS": "algorithms",
        "COMMANDS": "commands",
        "hyperparams_file": "algorithms",
        "main": "commands",
        "register": "algorithms",
    },
)
