"""A2C with leaner rollouts."""

from __future__ import annotations

from stable_baselines3 import A2C

from sb3_tare.lean.collecting import CollectsLeanly
from sb3_tare.lean.complaints import check_rollout
from sb3_tare.lean.dispatch import HostLoop, rollout_loop


class LeanA2C(CollectsLeanly, A2C):
    """Stable-Baselines3's A2C with the rollouts of :class:`~sb3_tare.LeanPPO`, bit for bit; its update is A2C's own.

    Takes every argument of :class:`stable_baselines3.A2C`, and one more.

    :param lean: False for SB3's own loops
    :raises TypeError: if ``lean`` is not a bool
    :raises ValueError: during ``learn()``, if an observation, a reward or the policy is not finite, naming it
    """

    @property
    def host_loop(self) -> HostLoop:
        """Loops in use, and why; asked before each rollout, since callbacks may change the policy."""
        return rollout_loop(self)

    def train(self) -> None:
        """Update the policy on the current rollout buffer, as :meth:`stable_baselines3.A2C.train` does.

        :raises ValueError: before anything is updated, if what is learned from is not finite, naming the environment and the
            step
        """
        check_rollout(self)
        super().train()
