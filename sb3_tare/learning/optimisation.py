"""The state of a reward learner in the two parts that Stable-Baselines3 tells apart: what was learned, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_tare.learning.trainer import RewardTrainer

LEARNER = "reward_learner"
"""Name of the whole state in a reward learner's file, and in models' files up to format 2."""

MODEL, OPTIMISATION = "reward_model", "reward_optimisation"
"""Names of the parts among a model's parameters. Under a name with "optim" in it SB3 expects more than tensors."""


class Optimisation:
    """All that the training of a reward goes on from, beside the model: optimisers, memories, rollouts that wait, draws.

    :param trainer: of the reward
    """

    def __init__(self, trainer: RewardTrainer) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Nested plain data and tensors."""
        return {name: part for name, part in self._trainer.state_dict().items() if name != MODEL}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take a copy of a :meth:`state_dict` over; step sizes stay those of the settings.

        :param strict: SB3 says it to all but optimisers; what older states lack is left as it is either way
        """
        self._trainer.go_on_from(state)


def in_parts(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A model's parameters by today's names; files up to format 2 have a learner's state under one."""
    parts = dict(parameters)
    if LEARNER in parts:
        state = dict(parts.pop(LEARNER))
        parts |= {MODEL: state.pop(MODEL), OPTIMISATION: state}
    return parts
