"""Trials in which a small part of the reward, to which averages are blind, decides."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_tare.envs.trials.trial import Numbers, Trial, drifting


class Alarm(Trial):
    """A rare event in which the wrong action costs more than all else pays.

    A step pays 1 for the action (0 or 1) that the cue's sign names. In one step of 200 the alarm is on: then any action but
    2 costs 30.
    """

    horizon = 200
    chance = 0.005

    def __init__(self) -> None:
        super().__init__(2, spaces.Discrete(3))

    def begin(self) -> None:
        """Draw the first cue."""
        self._draw()

    def see(self) -> Numbers | list[float]:
        """Cue, and whether the alarm is on."""
        return [self.cue, float(self.is_on)]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Pay the right answer, and punish who ignores the alarm."""
        answers, heeds = action == int(self.cue > 0), action == 2
        reward = -30.0 * (not heeds) if self.is_on else float(answers)
        self._draw()
        return reward, False

    def _draw(self) -> None:
        self.cue = self.np_random.uniform(-1.0, 1.0)
        self.is_on = self.np_random.random() < self.chance


class Slip(Trial):
    """One bad step of 200, which no state shows, costs as much as half of an episode earns.

    The action is to follow a cue; the first time that it is pushed to its upper bound costs 100, and no other time does.
    """

    horizon = 200

    def __init__(self) -> None:
        super().__init__(1, spaces.Box(-1.0, 1.0, (1,), dtype=np.float32))

    def begin(self) -> None:
        """Have not slipped."""
        self.has_slipped = False
        self.cue = self.np_random.uniform(-1.0, 1.0, 1)

    def see(self) -> Numbers | list[float]:
        """The cue."""
        return [*self.cue]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Pay 1 less the distance to the cue, and charge for the first slip."""
        slips = not self.has_slipped and float(action[0]) >= 1.0
        self.has_slipped |= slips
        reward = 1.0 - abs(float(action[0]) - self.cue[0]) - 100.0 * slips
        self.cue = drifting(self.cue, self.np_random)
        return reward, False


class Smooth(Trial):
    """Two numbers to be followed by actions that cost twice the square of their changes.

    The action before is seen. What independent noise of actions costs averages out over an episode.
    """

    horizon = 200

    def __init__(self) -> None:
        super().__init__(4, spaces.Box(-1.0, 1.0, (2,), dtype=np.float32))

    def begin(self) -> None:
        """Come from rest."""
        self.before = np.zeros(2)
        self.cue = self.np_random.uniform(-1.0, 1.0, 2)

    def see(self) -> Numbers | list[float]:
        """Numbers to follow, and the action before."""
        return [*self.cue, *self.before]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Pay 1 less the squared distance, less twice the squared change."""
        reward = 1.0 - np.square(action - self.cue).sum() - 2.0 * np.square(action - self.before).sum()
        self.before = np.asarray(action, dtype=np.float64)
        self.cue = drifting(self.cue, self.np_random)
        return reward, False
