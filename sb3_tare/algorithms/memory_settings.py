"""The settings of TAREAWR: those of every reward learner, and what a replay memory changes in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from sb3_tare.settings import RewardKwargs, RewardSettings
from sb3_tare.settings.groups import DecompositionSettings, GradientSettings
from sb3_tare.utils.checks import check_count


@dataclass(frozen=True)
class SampleSettings:
    """The setting that a replay memory needs beside those of every reward learner.

    :param sampled_steps: steps drawn from each part of the memory for its gradients; of whole paths, so that they are more
        where one path is longer
    :raises ValueError: for a value out of its range
    """

    sampled_steps: int = 2048

    def __post_init__(self) -> None:
        check_count("sampled_steps", self.sampled_steps, least=2)


class MemoryKwargs(RewardKwargs, total=False):
    """Keys of ``reward_kwargs`` of :class:`~sb3_tare.TAREAWR`."""

    sampled_steps: int


class MemorySettings(RewardSettings):
    """Settings of :class:`~sb3_tare.TAREAWR`: those of :class:`~sb3_tare.RewardSettings`, and :class:`SampleSettings`.

    With return decomposition, the default, the replay memory's paths are the memory of episodes, and AWR's critic and actor
    are trained on the learned rewards in place of the extrinsic ones.

    By the implicit gradient, ``validation="split"`` splits the memory's paths at random; ``"next_rollout"`` fits the actor to
    all of them, and the steps that it collects next validate the reward. ``gae_lambda`` is the lambda of TD(lambda).
    ``curvature`` is that of AWR's objective: ``"fisher"`` is its Gauss-Newton matrix, the Fisher matrix weighted by
    exp(A / temperature).

    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a setting that does not fit AWR
    """

    groups: ClassVar[Mapping[str, type[Any]]] = {**RewardSettings.groups, "sample": SampleSettings}

    own_defaults: ClassVar[Mapping[str, Any]] = {"reward_every": 0}

    sample: SampleSettings

    def _check(self) -> None:
        super()._check()
        if self.schedule.interleave:
            raise ValueError("interleave=True needs a host that trains in epochs, which AWR does not: leave it out")
        if self.gradient.kl_coef != GradientSettings.kl_coef:
            raise ValueError(
                f"kl_coef={self.gradient.kl_coef} has no effect on AWR, whose objective has no KL term: leave it out"
            )
        if self.decomposition.return_decomposition:
            self._check_memory()
            return
        if self.critic.critics != 2:
            raise ValueError("critics=1 would train AWR's critic on rewards that change with every step: leave it at 2")
        if self.schedule.reward_every != 0:
            raise ValueError(
                f"reward_every={self.schedule.reward_every} pools short rollouts, of which AWR's memory has no need: leave it "
                "out, or raise train_freq"
            )

    def _check_memory(self) -> None:
        """Refuse what AWR has its own arguments for, and steps along hypergradients, which it takes by the preset alone."""
        instead = {
            "decomposition_memory": (self.decomposition.decomposition_memory, DecompositionSettings.decomposition_memory),
            "gae_lambda": (self.advantage.gae_lambda, None),
            "n_reward_updates": (self.schedule.n_reward_updates, 0),
            "hypergradient_share": (self.decomposition.hypergradient_share, 0.0),
        }
        remedies = {
            "decomposition_memory": "AWR's own memory holds the episodes: set its buffer_size",
            "gae_lambda": "advantages are AWR's own: set its td_lambda",
            "n_reward_updates": "AWR takes no steps along hypergradients beside a decomposition: leave it out, or set "
            "preset='implicit'",
            "hypergradient_share": "AWR takes none beside a decomposition: leave it out, or use TAREPPO",
        }
        for name, (value, works) in instead.items():
            if value != works:
                raise ValueError(f"{name}={value!r} does not go with return_decomposition=True in TAREAWR: {remedies[name]}")
