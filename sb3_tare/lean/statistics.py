"""The numbers that an update logs, computed once it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sb3_tare.lean.settings import UpdateSettings


@dataclass
class Statistics:
    """Rows of all mini-batches of an update, one list entry for each mini-batch.

    :param surrogates: ``[B]`` each, terms of the clipped objective
    :param log_ratios: ``[B]`` each, log pi(a) - log pi_old(a)
    :param ratios: ``[B]`` each, their exponentials
    :param errors: ``[B]`` each, of the critic
    :param entropies: ``[B]`` each, or ``[1]`` where all rows have the same
    :param epochs: number of mini-batches before each epoch
    """

    surrogates: list[np.ndarray] = field(default_factory=list)
    log_ratios: list[np.ndarray] = field(default_factory=list)
    ratios: list[np.ndarray] = field(default_factory=list)
    errors: list[np.ndarray] = field(default_factory=list)
    entropies: list[np.ndarray] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)

    def add(self, **rows: np.ndarray) -> None:
        """Add the rows of one more mini-batch, by field: ``[B]`` each, or ``[1]`` entropies."""
        for kind, array in rows.items():
            getattr(self, kind).append(array)

    def last_kl(self) -> float:
        """Estimate of the last mini-batch's KL divergence, as it is logged."""
        return float(_kl_terms(self.log_ratios[-1]).mean())

    def begin_epoch(self) -> None:
        """Begin an epoch with the next mini-batch."""
        self.epochs.append(len(self.surrogates))


@dataclass(frozen=True)
class Losses:
    """Means over each of an update's M mini-batches, ``[M]`` float64 each: losses, KL divergence, share of clipped ratios."""

    policy: np.ndarray
    value: np.ndarray
    entropy: np.ndarray
    kl: np.ndarray
    clip_fraction: np.ndarray

    @classmethod
    def of(cls, statistics: Statistics, clip_range: float) -> Losses:
        """Losses that PPO logs, from the rows that they are means of."""
        outside = [np.abs(rows - 1) > np.float32(clip_range) for rows in statistics.ratios]
        return cls(
            policy=-_means(statistics.surrogates),
            value=_means([np.square(rows, dtype=np.float64) for rows in statistics.errors]),
            entropy=-_means(statistics.entropies),
            kl=_means([_kl_terms(rows) for rows in statistics.log_ratios]),
            clip_fraction=_means(outside),
        )

    def total(self, settings: UpdateSettings) -> np.ndarray:
        """Whole loss ``[M]`` that was minimised."""
        return self.policy + settings.ent_coef * self.entropy + settings.vf_coef * self.value


def _kl_terms(log_ratios: np.ndarray) -> np.ndarray:
    wide = log_ratios.astype(np.float64)
    return np.expm1(wide) - wide


def _means(batches: Sequence[np.ndarray]) -> np.ndarray:
    sizes = [len(rows) for rows in batches]
    starts = np.cumsum([0, *sizes[:-1]])
    return np.add.reduceat(np.concatenate(batches).astype(np.float64), starts) / sizes
