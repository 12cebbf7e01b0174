"""The arguments of PPO that an update reads at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UpdateSettings:
    """Arguments of PPO on which its update depends, as they are at the update's start.

    Names are those of PPO. Callbacks and schedules may change each of them between two rollouts.
    """

    n_epochs: int
    batch_size: int
    clip_range: float
    clip_range_vf: float | None
    normalize_advantage: bool
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    target_kl: float | None

    @classmethod
    def of(cls, model: Any) -> UpdateSettings:
        """Settings of ``model``, a PPO, at this moment."""
        progress = model._current_progress_remaining
        return cls(
            n_epochs=model.n_epochs,
            batch_size=model.batch_size,
            clip_range=model.clip_range(progress),
            clip_range_vf=None if model.clip_range_vf is None else model.clip_range_vf(progress),
            normalize_advantage=model.normalize_advantage,
            ent_coef=model.ent_coef,
            vf_coef=model.vf_coef,
            max_grad_norm=model.max_grad_norm,
            target_kl=model.target_kl,
        )

    def too_far(self, kl: Any) -> bool:
        """Whether ``kl``, the policy's divergence from the one that collected the rollout, is too large to go on."""
        return self.target_kl is not None and bool(kl > 1.5 * self.target_kl)
