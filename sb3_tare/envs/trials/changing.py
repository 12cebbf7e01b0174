"""A trial whose task changes in mid-training, so that all that was remembered is wrong."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from sb3_tare.envs.trials.trial import Numbers, Trial


class Turn(Trial):
    """The right answer to a cue, until the environment has lived for ``turn`` steps; from then on, the wrong one.

    :param turn: steps of all episodes together before the change
    """

    def __init__(self, turn: int = 4_000) -> None:
        super().__init__(1, spaces.Discrete(2))
        self.turn = turn
        self.age = 0

    def begin(self) -> None:
        """Draw the first cue."""
        self.cue = self.np_random.uniform(-1.0, 1.0)

    def see(self) -> Numbers | list[float]:
        """The cue."""
        return [self.cue]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Pay 1 for the right answer."""
        named = int(self.cue > 0) if self.age < self.turn else int(self.cue <= 0)
        self.age += 1
        self.cue = self.np_random.uniform(-1.0, 1.0)
        return float(action == named), False
