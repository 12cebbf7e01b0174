"""Settings of AWR's reward learner."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sb3_tare.settings import RewardSettings
from sb3_tare.utils.checks import check_count


@dataclass(frozen=True, init=False)
class MemorySettings(RewardSettings):
    """Settings of :class:`~sb3_tare.TAREAWR`: those of :class:`~sb3_tare.RewardSettings`, and one of its own.

    ``validation="split"`` splits the memory's paths at random; ``"next_rollout"`` fits the actor to all of them, and the
    steps that it collects next validate the reward. ``gae_lambda`` is the lambda of TD(lambda). ``curvature`` is that of
    AWR's objective: ``"fisher"`` is its Gauss-Newton matrix, the Fisher matrix weighted by exp(A / temperature).

    :param sampled_steps: steps drawn from each part of the memory for its gradients; of whole paths, so that they are more
        where one path is longer
    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a setting that does not fit AWR
    """

    sampled_steps: int = 2048

    def _check(self) -> None:
        super()._check()
        check_count("sampled_steps", self.sampled_steps, least=2)
        if self.interleave:
            raise ValueError("interleave=True needs a host that trains in epochs, which AWR does not: leave it out")
        if self.critics != 2:
            raise ValueError("critics=1 would train AWR's critic on rewards that change with every step: leave it at 2")
        default = next(setting.default for setting in fields(self) if setting.name == "kl_coef")
        if self.kl_coef != default:
            raise ValueError(f"kl_coef={self.kl_coef} has no effect on AWR, whose objective has no KL term: leave it out")
