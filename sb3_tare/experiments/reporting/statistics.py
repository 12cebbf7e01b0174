"""Estimates with 95 % bootstrap intervals over seeds; all of it is rliable's (Agarwal et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rliable import library, metrics

from sb3_tare.experiments.running.training import undisturbed_generators

Array = NDArray[np.float64]
REPETITIONS = 2_000
"""Bootstrap samples."""


class Estimate(NamedTuple):
    """A value for each of k points, and the bounds of its interval; no bounds (None) where there is but one seed.

    :param value: ``[k]``
    :param bounds: ``[2, k]``, lower and upper
    """

    value: Array
    bounds: Array | None


def mean(values: Array) -> Estimate:
    """Mean over seeds of ``[seeds, k]`` values, point by point."""
    return _estimate(lambda sample: sample.mean(axis=(0, 1)), values[:, None])


def interquartile_mean(scores: Array) -> Estimate:
    """Mean of the middle half of all ``[seeds, environments]`` scores; k = 1."""
    return _estimate(lambda sample: np.array([metrics.aggregate_iqm(sample)]), scores)


def performance_profile(scores: Array, thresholds: Array) -> Estimate:
    """Share of ``[seeds, environments]`` runs that score above each of ``[k]`` thresholds."""
    return _estimate(lambda sample: library.score_distributions(sample, thresholds), scores)


def probability_of_improvement(scores: Array, others: Array) -> Estimate:
    """Probability that a run beats one of the others in the same environment, mean over environments; k = 1.

    :param scores: ``[seeds, environments]``
    :param others: ``[seeds, environments]``, of as many seeds or not
    """
    return _estimate(lambda *samples: np.array([metrics.probability_of_improvement(*samples)]), scores, others)


def _estimate(function: Callable[..., Array], *samples: Array) -> Estimate:
    if min(map(len, samples)) == 1:
        return Estimate(function(*samples), None)
    with undisturbed_generators():
        np.random.seed(0)  # noqa: NPY002 (rliable draws from the global generator, whatever random_state it is given)
        sample = samples[0] if len(samples) == 1 else list(samples)
        values, bounds = library.get_interval_estimates({"": sample}, function, reps=REPETITIONS)
    return Estimate(values[""], bounds[""])
