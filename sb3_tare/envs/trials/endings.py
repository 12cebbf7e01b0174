"""Trials in which how an episode ends matters more than what its steps earn."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_tare.envs.trials.trial import Numbers, Trial, drifting


class Corridor(Trial):
    """Life costs those who cannot yet live well, and a short walk to the side ends it.

    Three numbers of the action are to follow three that are seen. Untrained, a step costs about 1; well done, it pays
    nearly 1. The fourth number moves to the side, and at either edge the episode ends at no cost. As in MuJoCo's Ant, the
    first gain in sight is to end early, and the larger one is to learn.
    """

    horizon = 200

    def __init__(self) -> None:
        super().__init__(4, spaces.Box(-1.0, 1.0, (4,), dtype=np.float32))

    def begin(self) -> None:
        """Stand in the middle."""
        self.place = 0.0
        self.cue = self.np_random.uniform(-1.0, 1.0, 3)

    def see(self) -> Numbers | list[float]:
        """Place, and the three numbers to follow."""
        return [self.place, *self.cue]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Pay 1 less the squared distance of three numbers; walk along the fourth."""
        reward = 1.0 - np.square(action[:3] - self.cue).sum()
        self.place += 0.1 * float(action[3])
        self.cue = drifting(self.cue, self.np_random)
        return reward, abs(self.place) >= 1.0


class Goal(Trial):
    """A grid of 6 by 6 where nothing pays but the goal, in the corner across; the sooner, the more.

    Reaching it ends the episode. A reward that pays for steps on the way pays those who never arrive.
    """

    horizon = 60
    size = 6
    moves = ((1, 0), (-1, 0), (0, 1), (0, -1))

    def __init__(self) -> None:
        super().__init__(2, spaces.Discrete(4))

    def begin(self) -> None:
        """Stand in the corner."""
        self.place = np.zeros(2, dtype=np.int64)

    def see(self) -> Numbers | list[float]:
        """Both coordinates, from 0 to 1."""
        return (self.place / (self.size - 1)).astype(np.float32)

    def earn(self, action: Any) -> tuple[float, bool]:
        """Move; walls stop it. The goal pays 1 less 0.9 times the share of time that is over."""
        self.place = np.clip(self.place + self.moves[int(action)], 0, self.size - 1)
        arrived = bool((self.place == self.size - 1).all())
        return (1.0 - 0.9 * (self.time + 1) / self.horizon) if arrived else 0.0, arrived
