"""Trials whose reward is no sum over what a step shows: it depends on what was done before, which nobody sees."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from sb3_tare.envs.trials.trial import Numbers, Trial


class Key(Trial):
    """A key that is picked up in the first step decides what opening the door pays in the last one.

    To pick it up (1) costs 1; to open (1) pays 10 with the key and costs 10 without it. Only time is seen.
    """

    def __init__(self) -> None:
        super().__init__(1, spaces.Discrete(2))

    def begin(self) -> None:
        """Have no key."""
        self.has_key = False

    def see(self) -> Numbers | list[float]:
        """Share of time that is over."""
        return [self.time / self.horizon]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Pick up in the first step, open in the last, and nothing between."""
        if self.time == 0:
            self.has_key = bool(action == 1)
            return -float(self.has_key), False
        if self.time == self.horizon - 1 and action == 1:
            return 10.0 if self.has_key else -10.0, False
        return 0.0, False


class Pair(Trial):
    """Two actions in a row are good together and bad alone, and the one before is not seen.

    Action 1 pays 1 after action 1 and costs 1 after action 0; action 0 pays nothing.
    """

    horizon = 50

    def __init__(self) -> None:
        super().__init__(1, spaces.Discrete(2))

    def begin(self) -> None:
        """Come from action 0."""
        self.before = 0

    def see(self) -> Numbers | list[float]:
        """Share of time that is over."""
        return [self.time / self.horizon]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Compare the action with the one before."""
        reward = 0.0 if action == 0 else 1.0 if self.before == 1 else -1.0
        self.before = int(action)
        return reward, False


class Blind(Trial):
    """A walk whose place is not seen, and which pays for being where one should be by now.

    Action 1 goes on by 1. Each step pays 1 less a fifth of the distance to 0.3 times the steps so far: one that goes on half
    of the time is soon too far, and one that never does too far behind.
    """

    horizon = 50

    def __init__(self) -> None:
        super().__init__(1, spaces.Discrete(2))

    def begin(self) -> None:
        """Stand at the start."""
        self.place = 0

    def see(self) -> Numbers | list[float]:
        """Share of time that is over."""
        return [self.time / self.horizon]

    def earn(self, action: Any) -> tuple[float, bool]:
        """Go on, or not."""
        self.place += int(action)
        return 1.0 - 0.2 * abs(self.place - 0.3 * (self.time + 1)), False
