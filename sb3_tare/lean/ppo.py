"""PPO with leaner loops."""

from __future__ import annotations

from stable_baselines3 import PPO

from sb3_tare.lean.collecting import CollectsLeanly
from sb3_tare.lean.complaints import check_rollout
from sb3_tare.lean.dispatch import GENERAL, SB3, HostLoop, host_loop
from sb3_tare.lean.general import general_steps
from sb3_tare.lean.update import update
from sb3_tare.lean.written_out import written_out_steps


class LeanPPO(CollectsLeanly, PPO):
    """Stable-Baselines3's PPO at about half of its cost on the CPU, bit for bit.

    Rollouts and updates of an ``MlpPolicy`` (tanh or ReLU; Gaussian or categorical actions; Adam as SB3 sets it up) are
    written out: forward and backward pass, Adam and GAE without modules, autograd or checks of arguments. Any other
    ``ActorCriticPolicy`` goes through leaner loops around its own ``forward`` and ``evaluate_actions``;
    :attr:`host_loop` tells. Policy, optimiser, buffer and random numbers are PPO's to the last bit where a kernel's result
    does not depend on where in memory its operands lie; elsewhere (another BLAS, many threads) they are as close as two
    kernels are to each other. Logged scalars agree to about 1e-5.

    Takes every argument of :class:`stable_baselines3.PPO`, and one more. A class that is mixed in before this one may call
    ``super().train()`` any number of times on a rollout, and change the rollout buffer's class in between: see
    :class:`~sb3_tare.lean.minibatches.GathersPlainly`.

    :param lean: False for SB3's own loops
    :raises TypeError: if ``lean`` is not a bool
    :raises ValueError: during ``learn()``, if an observation, a reward, a loss or a parameter is not finite, naming it
    """

    @property
    def host_loop(self) -> HostLoop:
        """Loops in use, and why; asked before each rollout and each update, since callbacks may change either."""
        return host_loop(self)

    def train(self) -> None:
        """Update the policy on the current rollout buffer, as :meth:`stable_baselines3.PPO.train` does.

        :raises ValueError: before anything is updated, if what is learned from is not finite, naming the environment and the
            step; or if a NaN has come up, naming the observation, parameter or loss
        """
        check_rollout(self)
        loop = self.host_loop.update
        if loop == SB3:
            super().train()
        else:
            update(self, general_steps if loop == GENERAL else written_out_steps)
