"""Estimates with 95 % percentile intervals of a bootstrap over seeds, stratified by environment (Agarwal et al., 2021).

A bootstrap sample of runs is told by how often it holds each run, so that means, shares and probabilities of all samples are
matrix products. The samples are the same at every call: equal results give equal intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
REPETITIONS = 10_000
"""Bootstrap samples."""

CUT = 0.25
"""Share of the scores that an interquartile mean leaves out at either end."""


class Estimate(NamedTuple):
    """A value for each of k points, and the bounds of its interval; no bounds (None) where there is but one seed.

    :param value: ``[k]``
    :param bounds: ``[2, k]``, lower and upper
    """

    value: Array
    bounds: Array | None


class Improvement(NamedTuple):
    """Probabilities of improvement; k = 1 in each estimate.

    :param by_env: one for each environment, in the order given
    :param overall: mean over environments
    """

    by_env: list[Estimate]
    overall: Estimate


def mean(values: Array) -> Estimate:
    """Mean over seeds of ``[seeds, k]`` values, point by point; NaN where a seed has none."""
    seeds = len(values)
    return _estimate(values.mean(axis=0), _counts(seeds, _generator()) @ values / seeds, seeds)


def interquartile_mean(scores: Array) -> Estimate:
    """Mean of the middle half of all ``[seeds, environments]`` scores; k = 1."""
    seeds, envs = scores.shape
    drawn = _generator().integers(seeds, size=(REPETITIONS, seeds, envs))
    samples = scores[drawn, np.arange(envs)].reshape(REPETITIONS, -1)
    return _estimate(_middle(scores.reshape(1, -1))[0], _middle(samples), seeds)


def performance_profile(scores: Array, thresholds: Array) -> Estimate:
    """Share of ``[seeds, environments]`` runs that score above each of ``[k]`` thresholds."""
    seeds, envs = scores.shape
    above, generator = (scores[..., None] > thresholds).astype(float), _generator()
    samples = np.sum([_counts(seeds, generator) @ above[:, env] for env in range(envs)], axis=0) / scores.size
    return _estimate(above.mean(axis=(0, 1)), samples, seeds)


def probability_of_improvement(returns: Sequence[Array], others: Sequence[Array]) -> Improvement:
    """Probability that a run ends above one of the others in the same environment; a tie counts one half.

    :param returns: ``[seeds]`` of each environment, which need not have as many
    :param others: ``[seeds]`` of each environment, of as many seeds or not
    """
    wins, generator = [_wins(ours, theirs) for ours, theirs in zip(returns, others, strict=True)], _generator()
    values = [np.array([matrix.mean()]) for matrix in wins]
    samples = [_share_of_wins(matrix, generator) for matrix in wins]
    fewest = [min(matrix.shape) for matrix in wins]
    by_env = list(map(_estimate, values, samples, fewest))
    return Improvement(by_env, _estimate(np.mean(values, axis=0), np.mean(samples, axis=0), min(fewest)))


def _estimate(value: Array, samples: Array, seeds: int) -> Estimate:
    """The estimate of a value ``[k]`` by the bootstrap's ``[repetitions, k]``."""
    return Estimate(value, np.percentile(samples, (2.5, 97.5), axis=0) if seeds > 1 else None)


def _generator() -> np.random.Generator:
    return np.random.default_rng(0)


def _counts(seeds: int, generator: np.random.Generator) -> Array:
    """How often each of ``[repetitions, seeds]`` samples holds each seed."""
    return generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=REPETITIONS).astype(float)


def _middle(samples: Array) -> Array:
    """Mean of the middle of each of ``[repetitions, n]`` samples, ``[repetitions, 1]``."""
    n = samples.shape[1]
    cut = int(CUT * n)
    return np.sort(samples, axis=1)[:, cut : n - cut].mean(axis=1, keepdims=True)


def _wins(returns: Array, others: Array) -> Array:
    """Whether each run, ``[seeds]``, ends above each other, ``[others]``: ``[seeds, others]`` of 0, 1/2 and 1."""
    return (np.sign(returns[:, None] - others) + 1) / 2


def _share_of_wins(wins: Array, generator: np.random.Generator) -> Array:
    """Share of wins of each sample of the rows and of the columns of ``wins``, ``[repetitions, 1]``."""
    rows, columns = (_counts(seeds, generator) for seeds in wins.shape)
    return ((rows @ wins) * columns).sum(axis=1, keepdims=True) / wins.size
